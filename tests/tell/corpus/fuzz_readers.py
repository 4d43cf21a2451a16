"""What the readers are given at random: damaged files of every format, and the promise that nothing but one clear message comes of them.

`python -m tests.tell.corpus.fuzz_readers --minutes 10` goes on for so long and prints what it found; the tests call `once` with few examples.
"""

from __future__ import annotations

import argparse
import gzip
import random
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tell.corpus.readers.dispatch import InputGroup, corpus_format, read_group
from tell.corpus.readers.segment import ReadOptions
from tell.errors import BadInput
from tell.languages import parse_pair
from tests.support import corpora

ROWS = corpora.pairs(6)
SEEDS: dict[str, Callable[[], bytes]] = {
    "a.tmx": lambda: corpora.tmx(ROWS),
    "a.xlf": lambda: corpora.xliff(ROWS),
    "b.xlf": lambda: corpora.xliff2(ROWS),
    "is.po": lambda: corpora.po(ROWS),
    "is.mo": lambda: corpora.mo(ROWS),
    "a.xlsx": lambda: corpora.xlsx([*ROWS], ("is", "en")),
    "a.csv": lambda: corpora.table(ROWS, ",", "is", "en"),
    "a.tsv": lambda: corpora.table(ROWS, "\t", "document", "is", "en"),
    "a.jsonl": lambda: b'{"source": "x", "target": "y"}\n{"translation": {"is": "a", "en": "b"}}\n{"query": "x", "response": "y"}\n',
    "a.tmx.gz": lambda: gzip.compress(corpora.tmx(ROWS)),
    "a.txt": lambda: "".join(a + "\n" for a, _ in ROWS).encode(),
}
_NASTY = [
    b"\0",
    b"\xff",
    b"\xff\xfe",
    b"<",
    b"&",
    b"]]>",
    b'"',
    b"\\",
    b"\n",
    b"\r",
    b"\t",
    b"\xef\xbb\xbf",
    b"&a;",
    b"<!ENTITY a 'b'>",
    b"\x1b",
    b"-1",
    b"9" * 20,
    b"{",
    b"[" * 200,
    b"\xe2\x80\xa8",
    b'msgid "',
    b'msgstr[9] "',
    b"xml:lang",
]
WANT = ReadOptions(parse_pair("is-en"))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few things done to them."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at, to = chance.randrange(len(out) + 1), chance.randrange(len(out) + 1)
        what = chance.randrange(6)
        if what == 0 and out:
            out[at % len(out)] = chance.randrange(256)
        elif what == 1:
            out[at:at] = chance.choice(_NASTY)
        elif what == 2:
            del out[min(at, to) : min(min(at, to) + chance.randint(1, 60), max(at, to))]
        elif what == 3:
            out[at:at] = out[min(at, to) : min(min(at, to) + 200, max(at, to))]
        elif what == 4:
            del out[at:]
        elif out:
            out[at % len(out)] ^= 1 << chance.randrange(8)
    return bytes(out)


def once(name: str, data: bytes, at: Path) -> str:
    """What reading this file comes to: the number of its segments, or what is said. Raises whatever is no BadInput."""
    path = at / name
    path.write_bytes(data)
    kind = corpus_format(path)
    paths = (path, path.with_suffix(".other")) if kind == "text" else (path,)
    if kind == "text":
        paths[1].write_bytes(SEEDS[name]())
    group = InputGroup(kind, paths, name, paths)
    reading = group.reading()
    try:
        n = 0
        for s in read_group(group, WANT, reading):
            n += 1
            # A file of some kilobytes has no more to say than that.
            if n > 50_000 or len(s.source) + len(s.target) > 1 << 20:
                raise AssertionError("more came out than went in")
        return f"{n} segments"
    except BadInput as e:
        if not e.place or "Traceback" in str(e) or "\n" in str(e).strip():
            raise AssertionError(f"not one clear message: {e}") from e
        return e.thing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="For how long, in all.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    seeds = {name: make() for name, make in SEEDS.items()}
    tried = dict.fromkeys(seeds, 0)
    messages: dict[str, set[str]] = {name: set() for name in seeds}
    crashes: dict[str, int] = {}
    slowest = 0.0
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as at:
        while time.monotonic() < end:
            for name, data in seeds.items():
                begun = time.monotonic()
                bad = damaged(data, chance)
                try:
                    messages[name].add(once(name, bad, Path(at)).split(" segments")[0])
                except Exception as e:
                    frame = traceback.extract_tb(e.__traceback__)[-1]
                    where = f"{name}: {type(e).__name__} in {Path(frame.filename).name}:{frame.lineno}"
                    if where not in crashes:
                        print(where, repr(bad[:400]), flush=True)
                        traceback.print_exc()
                    crashes[where] = crashes.get(where, 0) + 1
                tried[name] += 1
                slowest = max(slowest, time.monotonic() - begun)
    for name, n in tried.items():
        print(f"{name}: {n:,} files, {len(messages[name])} outcomes")
    print(f"crashes: {crashes or 'none'}; slowest file {slowest:.2f} s")


if __name__ == "__main__":
    main()
