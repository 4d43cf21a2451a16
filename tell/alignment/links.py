"""What each training pair gave to a lexicon, so that it can be left out for the pair itself.

Reads and writes links.jsonl.gz: a line for each pair, its digest and its links counted by key and candidate.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tell.errors import BadInput
from tell.files import iter_lines

FILE = "links.jsonl.gz"
Contributions = Mapping[str, Mapping[str, float]]


def digest(source: str, target: str) -> str:
    """What a pair is known by: half the SHA-256 of its two texts."""
    return hashlib.sha256(f"{source}\n{target}".encode()).hexdigest()[:32]


def write_line(out: gzip.GzipFile, source: str, target: str, contributions: Contributions) -> None:
    _write(out, digest(source, target), contributions)


def _write(out: gzip.GzipFile, pair: str, contributions: Contributions) -> None:
    out.write(f'{{"pair": "{pair}", "links": {json.dumps(contributions, ensure_ascii=False)}}}\n'.encode())


def _lines(file: Path) -> Iterator[bytes]:
    for number, (_, line) in enumerate(iter_lines(file), 1):
        if not (line.startswith(b'{"pair": "') and line[42:52] == b'", "links"'):
            raise BadInput("these are not the links of a lexicon", place=f"{file}, line {number}", valid="build the lexicon again")
        yield line


def write_union(path: Path, weighted: Iterable[tuple[Path, float]]) -> None:
    """The links of several files, each count times its file's weight: what a pair gave to their union. Raises CorpusError or BadInput for a damaged file."""
    with opened(path) as out:
        for file, weight in weighted:
            append(out, file, weight)


def append(out: gzip.GzipFile, file: Path, weight: float = 1) -> None:
    """Write the links of a file behind others, each count times `weight`. Raises CorpusError or BadInput for a damaged file."""
    for line in _lines(file):
        if weight == 1:
            out.write(line)
        else:
            row = json.loads(line)
            _write(out, row["pair"], {key: {name: weight * n for name, n in counts.items()} for key, counts in row["links"].items()})


@contextmanager
def opened(path: Path) -> Iterator[gzip.GzipFile]:
    """The file, open to be written. Without name and time in it, so that equal links give equal bytes."""
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=4) as out:
        yield out


class Links:
    """The contributions of pairs by their digest, each kept as its JSON until it is asked for."""

    def __init__(self, path: Path):
        """Raises CorpusError or BadInput where the file is missing or damaged."""
        file = path / FILE if path.is_dir() else path
        if not file.exists():
            raise BadInput(
                "a lexicon without the links of its pairs cannot be trained with: no pair could be left out for itself",
                place=str(path), found=f"no {FILE}", valid="a directory of tellmt lexicon build, or of tellmt lexicon merge of one with others",
            )  # fmt: skip
        self._of: dict[bytes, list[bytes]] = {}
        for line in _lines(file):
            self._of.setdefault(line[10:42], []).append(line)

    def __len__(self) -> int:
        return len(self._of)

    def of(self, source: str, target: str) -> dict[str, Counter[str]]:
        """What the pair gave, by key and folded candidate: `without` of `Lexicon.hints`. Empty for a pair that the lexicon was not learned from."""
        given: dict[str, Counter[str]] = {}
        for line in self._of.get(digest(source, target).encode(), ()):
            for source_key, counts in json.loads(line)["links"].items():
                given.setdefault(source_key, Counter()).update(counts)
        return given
