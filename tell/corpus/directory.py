"""A corpus directory as later stages open it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tell.errors import CorpusError
from tell.files import sha256_file

FILES = ("corpus.json", "pairs.jsonl", "dropped.jsonl", "split.json", "report.html")


def read_corpus(path: Path) -> dict[str, Any]:
    """The corpus.json of a built corpus. Raises CorpusError when there is none."""
    try:
        found = json.loads((path / "corpus.json").read_bytes())
        return {**found, "pair": str(found["pair"]), "key": str(found["key"])}
    except (FileNotFoundError, NotADirectoryError):
        raise CorpusError("not a corpus", place=str(path), found="no corpus.json", valid="a directory made by tellmt corpus build") from None
    except (ValueError, KeyError, TypeError) as e:
        raise CorpusError("corpus.json cannot be read", place=str(path), found=str(e)) from None


def intact(out: Path, key: str) -> dict[str, Any] | None:
    """The corpus.json at `out` if it has this key, and everything is there as it was written."""
    found = read_corpus(out)
    whole = all((out / name).is_file() for name in FILES) and sha256_file(out / "pairs.jsonl") == found.get("pairs_sha256")
    return found if whole and found["key"] == key else None
