"""The line by which a table of separated values names its separator. Reads and writes strings alone."""

from __future__ import annotations

import re

_NAMED = re.compile(r'"?sep=([^"\s\w]|\t)"?,*;*\s*', re.I)


def separator_line(line: str) -> str | None:
    """What a first line such as `sep=;` names, which Excel reads and other programs write for it; None for any other line."""
    named = _NAMED.fullmatch(line)
    return named.group(1) if named else None
