"""The documentation site builds without a warning, and a browser needs nothing for it from another host."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r'<(?:script|img|iframe)[^>]* src="?([^" >]+)|<link[^>]* href="?([^" >]+)')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_document_is_a_page_with_a_search_index(site: Path) -> None:
    assert (site / "search" / "search_index.json").is_file()
    documents = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").glob("**/*.md")}
    pages = {path.relative_to(site) for path in site.glob("**/index.html")}
    assert len(pages) == len(documents)


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    for page in site.glob("**/*.html"):
        loaded = ["".join(found) for found in LOADED.findall(page.read_text(encoding="utf-8"))]
        assert any(source.endswith("mermaid.tiny.js") for source in loaded)
        assert [source for source in loaded if "//" in source] == []
