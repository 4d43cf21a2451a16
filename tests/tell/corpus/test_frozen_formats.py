"""The frozen split of a corpus stays when its file is edited, sorted and exported again, in every format, or comes back in another one."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.corpus.frozen import source_key
from tests.conftest import Ran
from tests.support import corpora
from tests.tell.corpus.test_readers import kept

Rows = list[tuple[str, str]]
NONE = {"train": 0, "dev": 0, "test": 0}
ROWS = [(f"{a} Númer {'abcdefghij'[i // 10]}{'abcdefghij'[i % 10]}.", f"{b} Number {i}.") for i, (a, b) in enumerate(corpora.pairs(60))]


def jsonl(rows: Rows, keys: tuple[str, str]) -> bytes:
    return "".join(json.dumps({keys[0]: a, keys[1]: b}, ensure_ascii=keys[0] == "is") + "\n" for a, b in rows).encode()


def sides(rows: Rows, *names: str) -> dict[str, bytes]:
    return {name: "".join(row[side] + "\n" for row in rows).encode() for side, name in enumerate(names)}


def directories(rows: Rows) -> dict[str, bytes]:
    """Documents of ten lines, the numbers of which come from where the rows stand now."""
    return {f"d/{code}/{i:02}.txt": text for i in range(0, len(rows), 10) for code, text in sides(rows[i : i + 10], "is", "en").items()}


def parted(rows: Rows, name: str, write: Callable[[Rows], bytes]) -> dict[str, bytes]:
    """Six files, by where the rows stand now."""
    return {name.format(k): write(rows[k::6]) for k in range(6)}


def po(rows: Rows, language: str, place: str) -> dict[str, bytes]:
    """A catalogue of a program of six files."""
    lines = corpora.po(rows, language).decode().split("\n")
    return {"is.po": "\n".join(re.sub(r"^#: src/a.c:(\d+)", lambda m: f"#: {place}{int(m[1]) % 6}.c:{m[1]}", line) for line in lines).encode()}


def swapped(rows: Rows) -> Rows:
    return [(b, a) for a, b in rows]


def numbered(rows: Rows) -> bytes:
    return corpora.xlsx([(i, b, a) for i, (a, b) in enumerate(rows)], ("", "en", "is"))


MARKED = '<prop type="x-note">seen</prop>'
# Each as it was written first, and as another tool writes it.
FORMATS: dict[str, tuple[Callable[[Rows], dict[str, bytes]], Callable[[Rows], dict[str, bytes]]]] = {
    "TMX": (lambda r: {"t.tmx": corpora.tmx(r)}, lambda r: {"t.tmx": corpora.tmx(r, ("is-IS", "en-GB"), MARKED)}),
    "XLIFF": (lambda r: parted(r, "t{}.xlf", corpora.xliff), lambda r: parted(r, "t{}.xlf", lambda part: corpora.xliff(swapped(part), "en", "is"))),
    "XLIFF 2": (lambda r: parted(r, "t{}.xlf", corpora.xliff), lambda r: parted(r, "t{}.xlf", corpora.xliff2)),
    "PO": (lambda r: po(r, "is", "src/"), lambda r: po(r, "is_IS", "lib/")),
    "CSV": (lambda r: {"t.csv": corpora.table(r, ",", "is", "en")}, lambda r: {"t.csv": b"sep=;\r\n" + corpora.table(r, ";", "Icelandic", "English")}),
    "TSV": (lambda r: {"t.tsv": corpora.table(r, "\t")}, lambda r: {"t.tsv": corpora.table(swapped(r), "\t", "en", "is")}),
    "XLSX": (lambda r: {"t.xlsx": corpora.xlsx([*r], ("is", "en"))}, lambda r: {"t.xlsx": numbered(r)}),
    "JSONL": (lambda r: {"t.jsonl": jsonl(r, ("is", "en"))}, lambda r: {"t.jsonl": jsonl(r, ("source", "target"))}),
    "two texts": (lambda r: sides(r, "t.is", "t.en"), lambda r: {n: d.replace(b"\n", b"\r\n") for n, d in sides(r, "t.is", "t.en").items()}),
    "directories": (directories, directories),
    "a table that becomes a memory": (lambda r: {"t.csv": corpora.table(r, ",", "is", "en")}, lambda r: {"t.tmx": corpora.tmx(r)}),
}  # fmt: skip


def build(here: Callable[..., Ran], files: dict[str, bytes], *options: str) -> Any:
    for name, data in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    names = dict.fromkeys(name.partition("/")[0] for name in files)
    return here("corpus", "build", *names, "--pair", "is-en", "--jobs", 1, "--off", "near-duplicate", "language", *options, "-o", "c", "--json").json


def splits() -> dict[str, str]:
    return {p["source"]: p["split"] for p in map(json.loads, Path("c/pairs.jsonl").read_text(encoding="utf-8").strip().split("\n"))}


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_moves(here: Callable[..., Ran], name: str) -> None:
    written, exported = FORMATS[name]
    build(here, written(ROWS))
    before = splits()
    assert set(before.values()) == {"train", "dev", "test"}
    # Three targets are mended, a text is spelled otherwise, a row goes and one comes, and all are in another order.
    held = [i for i, (a, _) in enumerate(ROWS) if before[a] != "train"]
    rows = [(a, b.replace("old", "very old") if i in held[:3] else b) for i, (a, b) in enumerate(ROWS)]
    rows[held[0]] = rows[held[0]][0].upper(), rows[held[0]][1]
    gone, new = next(a for a, _ in ROWS if before[a] == "train"), "Alveg ný setning sem enginn hefur séð."
    rows = [row for row in rows if row[0] != gone] + [(new, "A wholly new sentence that nobody has seen.")]
    random.Random(7).shuffle(rows)
    done = build(here, exported(rows))
    assert done["changes"]["moved"] == NONE and sum(done["changes"]["went"].values()) == 1 == sum(done["changes"]["appeared"].values())
    by_key = {source_key(source): split for source, split in before.items()}
    assert all(by_key[source_key(source)] == split for source, split in splits().items() if source != new)


def test_a_text_whose_references_are_mended_stays(here: Callable[..., Ran]) -> None:
    rows = [(a.replace("Númer", "&quot;Númer&quot;"), b) for a, b in ROWS]
    build(here, sides(rows, "t.is", "t.en"), "entities")
    before = splits()
    assert any("&quot;" in source for source in before)
    done = build(here, sides(rows[::-1], "t.is", "t.en"))
    assert done["changes"] == {"moved": NONE, "appeared": NONE, "went": NONE} and done["mended"] == {"entities": 60}
    assert splits() == {source.replace("&quot;", '"'): split for source, split in before.items()}


def test_what_is_marked_as_a_machines_goes_and_moves_nothing(here: Callable[..., Ran]) -> None:
    build(here, {"t.csv": corpora.table(ROWS, ",", "is", "en")})
    before = splits()
    marked = "".join(f'"{a}","{b}",{"DeepL" if i % 3 == 0 else ""}\n' for i, (a, b) in enumerate(ROWS))
    done = build(here, {"t.csv": f"is,en,origin\n{marked}".encode()})
    assert done["changes"]["moved"] == NONE and sum(done["changes"]["went"].values()) == 20 == done["dropped"]["machine output: DeepL"]
    assert splits() == {a: before[a] for a, b in kept()}
