"""Reverses a corpus: the same pairs and the same split, source and target exchanged. Reads a corpus directory, writes another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tell.corpus.directory import FILES, intact, open_corpus, read_report
from tell.errors import CorpusError
from tell.files import atomic_dir, check_replaceable, key_of, read_jsonl, sha256_file, write_json, write_jsonl


def reverse(corpus: Path, out: Path, force: bool = False) -> tuple[dict[str, Any], bool]:
    """Writes the reversed corpus to `out`. Returns its corpus.json, and whether it was reused.

    The pairs are not cleaned again, and the frozen dev and test documents stay the same. Raises CorpusError, and then leaves `out` as it was.
    """
    opened = open_corpus(corpus)
    pair, forward = opened.pair.reverse, opened.report
    key = key_of({"reverse of": forward["key"], "pairs_sha256": opened.pairs_sha256})
    check_replaceable(out, FILES)
    if (out / "corpus.json").exists():
        earlier = read_report(out)
        if earlier["pair"] != str(pair):
            raise CorpusError("this directory holds a corpus of another pair", place=str(out), found=earlier["pair"], valid="another -o")
        if not force and (unchanged := intact(out, key)) is not None:
            return unchanged, True

    def turned(name: str) -> Iterator[dict[str, Any]]:
        for _, row in read_jsonl(corpus / name):
            yield {**row, "source": row["target"], "target": row["source"]}

    report = {**{k: v for k, v in forward.items() if k != "base"}, "key": key, "pair": str(pair), "reverse_of": forward["key"]}
    with atomic_dir(out) as aside:
        for name in ("pairs.jsonl", "dropped.jsonl"):
            write_jsonl(aside / name, turned(name))
        if (corpus / "report.html").exists():
            shutil.copyfile(corpus / "report.html", aside / "report.html")
        if (corpus / "split.json").exists():
            # The pairs that are frozen are known by their sources, which are the targets here: pairs.jsonl has them.
            try:
                state = dict(json.loads((corpus / "split.json").read_bytes()))
            except (ValueError, TypeError) as e:
                raise CorpusError("the frozen split cannot be read", place=str(corpus / "split.json"), found=str(e)) from None
            write_json(aside / "split.json", {name: value for name, value in state.items() if name != "pairs"})
        report["pairs_sha256"] = sha256_file(aside / "pairs.jsonl")
        write_json(aside / "corpus.json", report)
    return report, False
