"""Writes report.html of a corpus for people: what was read, what each rule dropped or mended, with samples.

Reads a finished build's counts and its table of segments; returns one self-contained page: no script, nothing fetched, every text escaped
and free to run either way.
"""

from __future__ import annotations

import heapq
import json
import re
from pathlib import Path
from typing import Any

from tell.corpus.readers.machine_output import OPTION, is_machine_output
from tell.corpus.rules import RULES, rule_of
from tell.corpus.segment_table import SegmentTable
from tell.languages import Language, LanguagePair

# Samples shown for each reason, and characters of each text.
SAMPLES, SHOWN = 6, 240
# What cannot be seen, or turns around what stands beside it.
_UNSEEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd]")
_FIXED = {
    "blank line": "both sides empty; parts documents in texts that have no other sign of them",
    "empty source": "nothing on this side",
    "empty target": "nothing on this side",
    "not translated": "a unit that nobody has translated yet",
    "fuzzy": "marked as a guess in the catalogue",
    "obsolete": "no longer in the program that the catalogue is of",
    "too few columns": "a row that ends before the columns of both sides",
    "unequal lines in document": "the two sides have different numbers of lines, so nobody knows which belong together",
    "no source and target": "a record without both sides",
    "invalid characters": "half of a character, which UTF-8 cannot hold",
    "in dev": "a training pair one side of which is in dev, or a pair of test whose source is, but for case and punctuation",
    "in test": "a training pair one side of which is in test, but for case and punctuation",
}


def reason_sentence(reason: str) -> str:
    """One sentence that explains why lines are dropped for this reason."""
    rule = rule_of(reason)
    if reason in _FIXED:
        return _FIXED[reason]
    if is_machine_output(reason):
        return f"a machine's translation that nobody has confirmed; {OPTION} reads it"
    if rule:
        return RULES[rule][0]
    return "one side is in a test set given with --against" if reason.startswith("in ") else "the file has no pair here in these languages"


def split_at_invisible(text: str) -> list[tuple[str, str]]:
    """(text, name) in turn: a stretch of text, and the code point of the invisible character after it. Long texts are cut."""
    parts: list[tuple[str, str]] = []
    cut, position = text[:SHOWN], 0
    for unseen in _UNSEEN.finditer(cut):
        parts.append((cut[position : unseen.start()], f"U+{ord(unseen.group()):04X}"))
        position = unseen.end()
    ellipsis = f"… {len(text):,} characters" if len(text) > SHOWN else ""
    return [*parts, (cut[position:], ellipsis)]


def _samples(table: SegmentTable) -> dict[int, list[int]]:
    """Some segments for each reason (0: kept segments), from all over the corpus, in order."""
    best: dict[int, list[tuple[int, int]]] = {}
    for i, reason in enumerate(table.reason):
        heap = best.setdefault(reason, [])
        # A number that is spread as if by chance, the same every time.
        item = (-(((i + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFF), i)
        if len(heap) < SAMPLES:
            heapq.heappush(heap, item)
        elif item > heap[0]:
            heapq.heapreplace(heap, item)
    return {reason: sorted(i for _, i in heap) for reason, heap in best.items()}


def _row(table: SegmentTable, i: int) -> dict[str, Any]:
    texts = json.loads(b"{" + table.spool.read(i) + b"}")
    place = f"{table.files.all[table.file[i]]}:{table.line[i]}"
    return {"place": place, "source": split_at_invisible(texts["source"]), "target": split_at_invisible(texts["target"])}


def _named(language: Language) -> str:
    return language.name if language.autonym.casefold() == language.name.casefold() else f"{language.name} ({language.autonym})"


def corpus_page(report: dict[str, Any], pair: LanguagePair, table: SegmentTable, mended: list[Any]) -> str:
    """The page as HTML. `report` is the content of corpus.json; `mended` are samples of `tell.corpus.ingest.Mended`."""
    from jinja2 import Environment

    samples = _samples(table)
    read = max(1, report["read"])
    dropped = []
    for reason, n in sorted(report["dropped"].items(), key=lambda d: (-d[1], d[0])):
        rows = [_row(table, i) for i in samples.get(table.reasons.number(reason), [])]
        dropped.append({"reason": reason, "n": n, "share": _percent(n, read), "said": reason_sentence(reason), "rule": rule_of(reason), "rows": rows})
    repairs = []
    for rule, n in sorted(report["mended"].items(), key=lambda d: (-d[1], d[0])):
        rows = [{"place": m.place, "before": split_at_invisible(m.before), "after": split_at_invisible(m.after)} for m in mended if m.rule == rule][:SAMPLES]
        repairs.append({"rule": rule, "n": n, "said": RULES[rule][0], "rows": rows})
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    )
    rendered: str = template.render(
        report=report,
        pair=pair,
        names=(_named(pair.source), _named(pair.target)),
        dropped=dropped,
        repairs=repairs,
        kept=[_row(table, i) for i in samples.get(0, [])],
        quiet=[name for name in RULES if name not in report["off"] and name not in report["mended"] and not any(d["rule"] == name for d in dropped)],
        rules=RULES,
        shares=[(name, s["pairs"], 100 * s["pairs"] / read) for name, s in report["splits"].items()]
        + [("dropped", sum(report["dropped"].values()), 100 * sum(report["dropped"].values()) / read)],
    )
    return rendered.strip() + "\n"


def _percent(n: int, of: int) -> str:
    share = 100 * n / max(1, of)
    return f"{share:.0f}%" if share >= 10 else f"{share:.1f}%" if share >= 0.1 else "under 0.1%"
