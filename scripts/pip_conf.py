"""Prints a pip.conf with this machine's way to packages, for builds in containers: `python3 -m scripts.pip_conf`.

It has what pip's files and the environment say about indexes, links, hosts, proxies and time-outs, but nothing that
names a file of this machine. An address in it may contain a password: do not store it.
"""

import ast
import subprocess
import sys
from typing import Final

WORDS: Final = {"index", "links", "host", "proxy", "timeout", "retries"}


def pip_conf(listed: str) -> str:
    """The text of the file, from what `pip config list` shows: of two lines for one option, the second counts."""
    options = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        words = str(ast.literal_eval(value)).split()
        is_local = any(word.startswith("/") for word in words)
        if section in {"global", ":env:"} and WORDS & {*option.split("-")} and not is_local:
            options[option] = " ".join(words)
    return "\n".join(["[global]", *(f"{option} = {value}" for option, value in options.items())])


if __name__ == "__main__":
    command = [sys.executable, "-m", "pip", "config", "list"]
    print(pip_conf(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
