"""A translation memory: the training pairs that an adapter is shown the nearest of.

Reads and writes memory.tsv. Its first line is "# tellmt memory", a tab and a JSON object: format, pair, and the SHA-256 of the rest. Then a line for each pair:
source, tab, target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from tell.errors import BadInput
from tell.files import HeadedFormat
from tell.languages import LanguagePair, parse_pair

FORMAT = 1
FILE = "memory.tsv"
FILE_FORMAT = HeadedFormat("memory", FORMAT, FILE, "tellmt mix", "written", "pairs", "mix again")
# Bytes of memory.tsv: it goes along with every copy of an adapter.
MOST_BYTES = 4 << 20
# Bytes that are set aside for the first line.
_HEADER = 256


def single_spaced(text: str) -> str:
    """The text as a memory has it: one line, with single spaces."""
    return " ".join(text.split())


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """`pairs`: (source, target), each source once, in the order of the corpora."""

    pair: LanguagePair
    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> Memory:
        """Raises BadInput as `parse` does, and where there is no such file."""
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as e:
            raise BadInput("the memory cannot be read", place=str(path), found=e.strerror or str(e)) from None

    @classmethod
    def parse(cls, data: bytes, place: str = FILE) -> Memory:
        """The memory that `dump` wrote. Raises BadInput where it is damaged, was altered, or is of a later format."""
        header, body = FILE_FORMAT.read(data, place)
        try:
            rows = [line.split("\t") for line in body.decode().split("\n")[:-1]]
            return cls(parse_pair(str(header["pair"]), place), tuple((source, target) for source, target in rows))
        except (KeyError, ValueError) as e:
            raise BadInput("this memory cannot be read", place=place, found=repr(e), valid="mix again") from None

    def dump(self) -> bytes:
        """The bytes of memory.tsv; equal memories have equal bytes."""
        body = "".join(map(_line, self.pairs)).encode()
        return FILE_FORMAT.write({"pair": str(self.pair)}, body)


def _line(pair: tuple[str, str]) -> str:
    return f"{pair[0]}\t{pair[1]}\n"


def collect(pair: LanguagePair, texts: Iterable[tuple[str, str]], most_bytes: int = MOST_BYTES) -> tuple[Memory, int]:
    """The memory of (source, target), and how many pairs are left out of it.

    Of pairs with one source the first is kept. Of these the longest are left out until memory.tsv has no more than `most_bytes`: long texts have few near ones.
    """
    kept: dict[str, str] = {}
    seen = size = 0
    for source, target in texts:
        source, target = single_spaced(source), single_spaced(target)
        seen += 1
        if kept.setdefault(source, target) is target:
            size += len(_line((source, target)).encode())
        # Now and then, so that what is held grows with the file and not with the corpora.
        if size > 2 * most_bytes:
            kept, size = _shortest(kept, most_bytes - _HEADER)
    kept, _ = _shortest(kept, most_bytes - _HEADER)
    return Memory(pair, tuple(kept.items())), seen - len(kept)


def _shortest(pairs: dict[str, str], most_bytes: int) -> tuple[dict[str, str], int]:
    """The shortest of the pairs that have no more bytes together, in their order, and their bytes."""
    sizes = [len(_line(pair).encode()) for pair in pairs.items()]
    chosen, size = bytearray(len(sizes)), 0
    for number in sorted(range(len(sizes)), key=lambda n: (sizes[n], n)):
        if size + sizes[number] > most_bytes:
            break
        size += sizes[number]
        chosen[number] = True
    return {source: target for (source, target), kept in zip(pairs.items(), chosen, strict=True) if kept}, size
