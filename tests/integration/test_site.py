"""The documentation site, as mkdocs builds it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r'<(?:script|img|iframe)[^>]* src="?([^" >]+)|<link[^>]* href="?([^" >]+)')


def test_the_site_builds_without_a_warning_and_a_browser_needs_no_other_host_for_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "search" / "search_index.json").is_file()
    assert len(list(tmp_path.glob("**/index.html"))) == len(list((ROOT / "docs").glob("**/*.md")))
    for page in tmp_path.glob("**/*.html"):
        loaded = ["".join(found) for found in LOADED.findall(page.read_text(encoding="utf-8"))]
        assert any(source.endswith("mermaid.tiny.js") for source in loaded)
        assert [source for source in loaded if "//" in source] == []
