"""The other direction of a corpus: the same pairs, the same split, source and target exchanged. Reads a corpus directory, writes another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tell.corpus.directory import FILES, intact, read_corpus
from tell.errors import CorpusError
from tell.files import atomic_dir, check_replaceable, key_of, read_jsonl, sha256_file, write_json, write_jsonl
from tell.languages import parse_pair


def reverse(corpus: Path, out: Path, force: bool = False) -> tuple[dict[str, Any], bool]:
    """The corpus.json of the corpus at `out`, and whether it was there already.

    What was cleaned in one direction is clean in the other, and what is frozen as dev and test is so in both. Raises CorpusError,
    and then leaves `out` as it was.
    """
    found = read_corpus(corpus)
    pair = parse_pair(found["pair"]).reverse
    key = key_of({"reverse of": found["key"], "pairs_sha256": found.get("pairs_sha256")})
    check_replaceable(out, FILES)
    if (out / "corpus.json").exists():
        there = read_corpus(out)
        if there["pair"] != str(pair):
            raise CorpusError("this directory holds a corpus of another pair", place=str(out), found=there["pair"], valid="another -o")
        if not force and (whole := intact(out, key)) is not None:
            return whole, True

    def turned(name: str) -> Iterator[dict[str, Any]]:
        for _, row in read_jsonl(corpus / name):
            yield {**row, "source": row["target"], "target": row["source"]}

    report = {**{k: v for k, v in found.items() if k != "base"}, "key": key, "pair": str(pair), "reverse_of": found["key"]}
    with atomic_dir(out) as aside:
        for name in ("pairs.jsonl", "dropped.jsonl"):
            write_jsonl(aside / name, turned(name))
        for name in ("split.json", "report.html"):
            if (corpus / name).exists():
                shutil.copyfile(corpus / name, aside / name)
        report["pairs_sha256"] = sha256_file(aside / "pairs.jsonl")
        write_json(aside / "corpus.json", report)
    return report, False
