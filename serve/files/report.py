"""What a run over files has to say: on the terminal, as one JSON object, and as a report in Markdown or JSON with every segment that somebody should look at.

Reads the notes in a ledger, one by one; writes the report aside and renames it.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from serve.files.collect_and_fill import Counts
from serve.files.outputs import Work, written
from serve.files.segment_store import Ledger, Noted
from tell.console import say
from tell.errors import BadInput

# Places named in one message; the rest is counted.
NAMED = 20
# Formats in which what failed is left empty: its own text would pass for a translation.
EMPTY = {"text", "csv", "tsv", "jsonl"}


def check(name: str | None) -> None:
    """Raises BadInput for a report in no format that there is."""
    if name is not None and not name.endswith((".md", ".json")):
        raise BadInput("the report's name tells its format", place="--report", found=name, valid="a name that ends in .md or .json")


class _Places:
    """The first places of something, and how many there are: a file of a million lines may have it in each."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def add(self, place: str) -> None:
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(place)

    def __str__(self) -> str:
        alike = all(p.startswith("line ") for p in self.first)
        lines = ", ".join(p.removeprefix("line ") for p in self.first)
        shown = f"{'line' if self.count == 1 else 'lines'} {lines}" if alike else "; ".join(self.first)
        return shown + (f" and {self.count - NAMED:,} more" if self.count > NAMED else "")


def tell(works: Sequence[Work], ledger: Ledger) -> None:
    """What is wrong with which segments, on stderr, file by file."""
    formats = {w.name: w.format.name for w in works}
    left = Counter(n.file for n in ledger.noted("failed", "bad"))
    shown: Counter[str] = Counter()
    for row in ledger.noted("failed", "bad"):
        shown[row.file] += 1
        if shown[row.file] > NAMED:
            continue
        what = ("not translated, left empty" if formats[row.file] in EMPTY else "not translated, left as it is") if row.kind == "failed" else "left as it is"
        say(f"{row.file}, {row.place}: {what}: {row.why}")
    for file, count in left.items():
        if count > NAMED:
            say(f"{file}: {count - NAMED:,} more are not translated")
    warned: defaultdict[tuple[str, str], _Places] = defaultdict(_Places)
    for row in ledger.noted("warning"):
        warned[row.file, row.why].add(row.place)
    for row in ledger.noted("flagged"):
        for flag, what in (("truncated", "cut at the length limit"), ("empty", "the adapter returned nothing for")):
            if flag in row.why.split(", "):
                warned[row.file, what].add(row.place)
    for (file, what), places in warned.items():
        say(f"{file}: {what}{'' if what.endswith(' for') else ':'} {places}")


def summary(counts: Mapping[str, Counts]) -> dict[str, Any]:
    """The counts of all files together."""
    names = ("segments", "translated", "blank", "kept", "reused", "flagged", "failed", "characters", "warnings")
    flags: Counter[str] = Counter()
    for c in counts.values():
        flags.update(c.flags)
    return {**{n: sum(getattr(c, n) for c in counts.values()) for n in names}, "flags": dict(sorted(flags.items()))}


def _rows(ledger: Ledger) -> Iterator[Noted]:
    yield from ledger.noted("failed", "bad")
    yield from ledger.noted("flagged")
    yield from ledger.noted("warning")


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def write(name: str, result: Mapping[str, Any], ledger: Ledger) -> None:
    """The report. Its texts are the file's: it is as confidential as they are."""
    with written(name) as out:
        if name.endswith(".json"):
            head = json.dumps(result, ensure_ascii=False, indent=2, sort_keys=True)
            out.write((head.rstrip("}").rstrip() + ',\n  "rows": [').encode())
            for i, row in enumerate(_rows(ledger)):
                one = {"file": row.file, "place": row.place, "kind": row.kind, "source": row.source, "translation": row.made, "why": row.why}
                out.write((",\n    " if i else "\n    ").encode() + json.dumps(one, ensure_ascii=False).encode())
            out.write(b"\n  ]\n}\n")
            return
        out.write(b"# Translation report\n\n")
        for key, value in result.items():
            if key not in ("files", "flags") and value not in (None, [], {}):
                out.write(f"- {key}: {', '.join(value) if isinstance(value, list) else value}\n".encode())
        out.write(b"\n| file | segments | translated | kept | reused | flagged | failed |\n|---|---|---|---|---|---|---|\n")
        for f in result["files"]:
            out.write(f"| {_cell(f['file'])} | {f['segments']} | {f['translated']} | {f['kept']} | {f['reused']} | {f['flagged']} | {f['failed']} |\n".encode())
        if result["flags"]:
            out.write(b"\n| flag | segments |\n|---|---|\n" + "".join(f"| {k} | {v} |\n" for k, v in result["flags"].items()).encode())
        first = True
        for row in _rows(ledger):
            if first:
                out.write(b"\n| where | what | source | translation |\n|---|---|---|---|\n")
                first = False
            what = row.why if row.kind == "flagged" else f"{'warning' if row.kind == 'warning' else 'failed'}: {row.why}"
            out.write(f"| {_cell(row.file)}, {_cell(row.place)} | {_cell(what)} | {_cell(row.source)} | {_cell(row.made)} |\n".encode())


def write_failed(name: str, ledger: Ledger) -> None:
    """What was not translated, a JSON object a line, beside the output."""
    with written(name) as out:
        for row in ledger.noted("failed", "bad"):
            out.write((json.dumps({"file": row.file, "place": row.place, "why": row.why, "source": row.source}, ensure_ascii=False) + "\n").encode())
