"""The messages, the JSON result and the report (Markdown or JSON) of a run over files. The report has every unit that somebody should look at.

Reads the report entries in a store, one by one; writes the report aside and renames it.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from serve.files.collect_and_fill import UnitCounts
from serve.files.outputs import FileTask, open_output
from serve.files.segment_store import ReportEntry, SegmentStore
from tell.console import say
from tell.errors import BadInput

# Places named in one message; the rest is counted.
NAMED = 20
_SPACE = re.compile(r"\s+")
# Formats in which a unit without a translation is left empty: its own text would pass for one.
EMPTY = {"text", "csv", "tsv", "jsonl"}


def check_report_name(name: str | None) -> None:
    """Raises BadInput for a report whose name has neither of the two endings."""
    if name is not None and not name.endswith((".md", ".json")):
        raise BadInput("the report's name tells its format", place="--report", found=name, valid="a name that ends in .md or .json")


class _Places:
    """The first places of one problem, and how many there are: a file of a million lines may have it in each."""

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


def say_problems(tasks: Sequence[FileTask], store: SegmentStore) -> None:
    """Say on stderr which units have which problem, file by file."""
    formats = {task.name: task.format.name for task in tasks}
    totals = Counter(e.file for e in store.entries("failed", "bad"))
    said_by_file: Counter[str] = Counter()
    for entry in store.entries("failed", "bad"):
        said_by_file[entry.file] += 1
        if said_by_file[entry.file] > NAMED:
            continue
        outcome = "left empty" if entry.kind == "failed" and formats[entry.file] in EMPTY else "left as it is"
        if entry.kind == "failed":
            outcome = f"not translated, {outcome}"
        say(f"{entry.file}, {entry.place}: {outcome}: {entry.reason}")
    for file, count in totals.items():
        if count > NAMED:
            say(f"{file}: {count - NAMED:,} more are not translated")
    places_by_warning: defaultdict[tuple[str, str], _Places] = defaultdict(_Places)
    for entry in store.entries("warning"):
        places_by_warning[entry.file, entry.reason].add(entry.place)
    for entry in store.entries("flagged"):
        for flag, outcome in (("truncated", "cut at the length limit"), ("empty", "the adapter returned nothing for")):
            if flag in entry.reason.split(", "):
                places_by_warning[entry.file, outcome].add(entry.place)
    for (file, outcome), places in places_by_warning.items():
        say(f"{file}: {outcome}{'' if outcome.endswith(' for') else ':'} {places}")


def summary(counts: Mapping[str, UnitCounts]) -> dict[str, Any]:
    """The sums of the counts of all files."""
    names = ("segments", "translated", "blank", "kept", "reused", "flagged", "failed", "characters", "warnings")
    flags: Counter[str] = Counter()
    for file_counts in counts.values():
        flags.update(file_counts.flags)
    return {**{name: sum(getattr(file_counts, name) for file_counts in counts.values()) for name in names}, "flags": dict(sorted(flags.items()))}


def _entries(store: SegmentStore) -> Iterator[ReportEntry]:
    yield from store.entries("failed", "bad")
    yield from store.entries("flagged")
    yield from store.entries("warning")


def _cell(text: str) -> str:
    return _SPACE.sub(" ", text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def write(name: str, result: Mapping[str, Any], store: SegmentStore) -> None:
    """Write the report. It holds texts of the files, and is as confidential as they are."""
    with open_output(name) as file:
        if name.endswith(".json"):
            head = json.dumps(result, ensure_ascii=False, indent=2, sort_keys=True)
            file.write((head.rstrip("}").rstrip() + ',\n  "rows": [').encode())
            for i, entry in enumerate(_entries(store)):
                fields = {"file": entry.file, "place": entry.place, "kind": entry.kind, "source": entry.source}
                fields |= {"translation": entry.translation, "why": entry.reason}
                file.write((",\n    " if i else "\n    ").encode() + json.dumps(fields, ensure_ascii=False).encode())
            file.write(b"\n  ]\n}\n")
            return
        file.write(b"# Translation report\n\n")
        for key, value in result.items():
            if key not in ("files", "flags") and value not in (None, [], {}):
                file.write(f"- {key}: {', '.join(value) if isinstance(value, list) else value}\n".encode())
        file.write(b"\n| file | segments | translated | kept | reused | flagged | failed |\n|---|---|---|---|---|---|---|\n")
        for file_result in result["files"]:
            numbers = " | ".join(str(file_result[name]) for name in ("segments", "translated", "kept", "reused", "flagged", "failed"))
            file.write(f"| {_cell(file_result['file'])} | {numbers} |\n".encode())
        if result["flags"]:
            file.write(b"\n| flag | segments |\n|---|---|\n" + "".join(f"| {k} | {v} |\n" for k, v in result["flags"].items()).encode())
        first_entry = True
        for entry in _entries(store):
            if first_entry:
                file.write(b"\n| where | what | source | translation |\n|---|---|---|---|\n")
                first_entry = False
            problem = entry.reason if entry.kind == "flagged" else f"{'warning' if entry.kind == 'warning' else 'failed'}: {entry.reason}"
            file.write(f"| {_cell(entry.file)}, {_cell(entry.place)} | {_cell(problem)} | {_cell(entry.source)} | {_cell(entry.translation)} |\n".encode())


def write_failed(name: str, store: SegmentStore) -> None:
    """Write the units without a translation beside the output, a JSON object a line."""
    with open_output(name) as file:
        for entry in store.entries("failed", "bad"):
            file.write(
                (json.dumps({"file": entry.file, "place": entry.place, "why": entry.reason, "source": entry.source}, ensure_ascii=False) + "\n").encode()
            )
