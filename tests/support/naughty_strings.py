"""The list of naughty strings that lies beside this checkout: texts that programs trip over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import SHARED

PATH = SHARED / "hostile" / "blns.json"
naughty = pytest.mark.skipif(not PATH.exists(), reason="the list of naughty strings is not beside this checkout")


def naughty_lines(path: Path) -> list[str]:
    """Write every naughty string as one line of a file, UTF-8; returns the lines."""
    lines = [s.replace("\n", " ") for s in json.loads(PATH.read_text(encoding="utf-8"))]
    assert len(lines) == 515
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return lines
