"""The two records that travel between stages, one JSON object a line.

Pair      pairs.jsonl    written by `corpus build`, read by `mix`, `score` and `publish`
Example   mixed.jsonl    written by `mix`, read by `train`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from json.encoder import encode_basestring as _string
from pathlib import Path
from typing import Any, Literal

from tell.errors import CorpusError
from tell.files import read_jsonl

Split = Literal["train", "dev", "test"]


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One aligned segment pair. `line` counts from 1 in `origin`; `doc` groups the segments of one document."""

    source: str
    target: str
    doc: str
    line: int
    origin: str
    split: Split

    def row(self) -> dict[str, Any]:
        # Not dataclasses.asdict, which copies deeply: twenty times slower, and there may be a million.
        return {name: getattr(self, name) for name in self.__slots__}


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One training example. The model reads `prompt` and learns `opening + response`.

    `id` says where it came from: `task:<doc>:<line>` (`<first>-<last>` for several) or `general:<file>:<line>`.
    """

    id: str
    kind: Literal["task", "general"]
    prompt: str
    opening: str
    response: str

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def line(self) -> bytes:
        """The row as its line of mixed.jsonl: what json.dumps writes, without the encoder that it makes each time."""
        return (
            f'{{"id": {_string(self.id)}, "kind": "{self.kind}", "prompt": {_string(self.prompt)}, "opening": {_string(self.opening)}, '
            f'"response": {_string(self.response)}}}\n'
        ).encode()


def _read(path: Path, kind: type) -> Iterator[Any]:
    names = [f.name for f in dataclasses.fields(kind)]
    fields = set(names)
    for number, row in read_jsonl(path):
        if row.keys() != fields:
            raise CorpusError(f"not a {kind.__name__}", place=f"{path}, line {number}", found=", ".join(sorted(row)), valid=", ".join(names))
        yield kind(**row)


def iter_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of pairs.jsonl one by one, in file order."""
    yield from _read(path, Pair)


def read_pairs(path: Path, split: Split | None = None) -> list[Pair]:
    """The pairs of pairs.jsonl, of one split if named, in file order."""
    return [p for p in _read(path, Pair) if split is None or p.split == split]


def read_examples(path: Path) -> list[Example]:
    """The examples of mixed.jsonl, in the order they are to be trained on."""
    return list(_read(path, Example))
