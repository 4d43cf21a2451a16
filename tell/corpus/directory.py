"""Opens a corpus directory for later stages, and refuses one whose pairs are not exactly those that were built.

Reads corpus.json and pairs.jsonl. Writes nothing.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tell.errors import CorpusError
from tell.files import sha256_file
from tell.languages import LanguagePair, parse_pair
from tell.records import Pair, Split, iter_pairs

REPORT, PAIRS = "corpus.json", "pairs.jsonl"
FILES = (REPORT, PAIRS, "dropped.jsonl", "split.json", "report.html")
# A command that names more files than this is harder to read than one that leaves them out.
MOST_NAMED = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus whose pairs.jsonl has the hash that its corpus.json (`report`) names."""

    path: Path
    pair: LanguagePair
    report: dict[str, Any]

    @property
    def pairs_sha256(self) -> str:
        return str(self.report["pairs_sha256"])

    @property
    def pairs_path(self) -> Path:
        return self.path / PAIRS

    def pairs(self, split: Split | None = None) -> Iterator[Pair]:
        """Yields the pairs in file order, only those of `split` if it is given. Memory holds one pair at a time."""
        return (p for p in iter_pairs(self.pairs_path) if split is None or p.split == split)


def read_report(path: Path) -> dict[str, Any]:
    """The corpus.json of the corpus at `path`; does not look at the pairs. Raises CorpusError when there is none."""
    try:
        report = json.loads((path / REPORT).read_bytes())
        return {**report, "pair": str(report["pair"]), "key": str(report["key"])}
    except FileNotFoundError:
        raise CorpusError("not a corpus", place=str(path), found=f"no {REPORT}", valid="a directory made by tellmt corpus build") from None
    except NotADirectoryError:
        raise CorpusError("not a corpus", place=str(path), found="a file", valid="a directory made by tellmt corpus build") from None
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise CorpusError(f"{REPORT} cannot be read", place=str(path), found=repr(e), valid="build the corpus again") from None


def rebuild_command(path: Path, report: dict[str, Any]) -> str:
    """The command that builds the corpus at `path` again. It lacks the options that decided how files were read: corpus.json does not have them."""
    paths = [str(s["path"]) for s in report.get("sources", []) if isinstance(s, dict) and "path" in s]
    if "reverse_of" in report:
        words = ["tellmt", "corpus", "reverse", "CORPUS"]
    elif (path / "select.json").exists():
        words = ["tellmt", "select", "--corpus", *(str(Path(p).parent) for p in paths)]
    else:
        words = ["tellmt", "corpus", "build", *(paths if 0 < len(paths) <= MOST_NAMED else ["FILES"]), "--pair", str(report["pair"])]
    return f"{shlex.join([*words, '-o', str(path)])} with the options it was made with"


def open_corpus(path: Path) -> Corpus:
    """Opens the corpus at `path`. Raises CorpusError when it is not a finished corpus, or when pairs.jsonl was altered; the message names the command that
    builds the corpus again."""
    report = read_report(path)
    pair, pairs, again = parse_pair(report["pair"], str(path / REPORT)), path / PAIRS, f"what {rebuild_command(path, report)} writes"
    if not pairs.is_file():
        raise CorpusError(f"{PAIRS} is missing from this corpus", place=str(path), valid=again)
    expected, actual = report.get("pairs_sha256"), sha256_file(pairs)
    if not isinstance(expected, str):
        raise CorpusError(f"{REPORT} does not say which {PAIRS} it was written for", place=str(path), found="no pairs_sha256", valid=again)
    if actual != expected:
        found = f"SHA-256 {actual[:16]} instead of {expected[:16]}"
        raise CorpusError(f"{PAIRS} was altered since the corpus was built", place=str(path), found=found, valid=again)
    return Corpus(path, pair, report)


def intact(out: Path, key: str) -> dict[str, Any] | None:
    """The corpus.json at `out` if it has this key, and everything is there as it was written."""
    report = read_report(out)
    whole = report["key"] == key and all((out / name).is_file() for name in FILES) and sha256_file(out / PAIRS) == report.get("pairs_sha256")
    return report if whole else None
