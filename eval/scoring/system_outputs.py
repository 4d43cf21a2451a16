"""Reads outputs of any systems, with the segments that they translate.

Reads text files (one segment a line), JSONL (one object a segment, with `hypothesis` or, of several systems, `hypotheses`, and where it has them `source`,
`reference`, `document`), and directories that `tellmt score` wrote, by their segments.jsonl. Writes that file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tell.corpus.readers.dispatch import corpus_format, labels
from tell.errors import BadInput, CorpusError
from tell.files import read_jsonl, read_lines, write_jsonl
from tell.languages import LanguagePair
from tell.text.normalise import spelled

SEGMENTS = "segments.jsonl"
_SIDES = ("source", "reference", "document")


@dataclasses.dataclass(frozen=True, slots=True)
class SystemOutput:
    """One system's hypotheses. `sides` holds what its file says beside them: `source`, `reference`, `document`, each as long as the hypotheses."""

    name: str
    place: str
    hypotheses: list[str]
    sides: dict[str, list[str]]


def read_segments(path: Path) -> list[str]:
    """The lines of a text, one segment each. Raises CorpusError when it is missing, a directory, or not UTF-8, BadInput when it is empty."""
    lines = read_lines(path)
    if not lines:
        raise BadInput("the file is empty", place=str(path), valid="one segment a line")
    return lines


def _text(row: dict[str, Any], name: str, place: str) -> str:
    if not isinstance(text := row[name], str):
        raise CorpusError(f"{name} is not a text", place=place, found=type(text).__name__)
    return spelled(text)


def _hypotheses_of(row: dict[str, Any], name: str, place: str) -> dict[str, str]:
    """The hypotheses of a row by system; the hypothesis of a row of one system gets the file's name."""
    for key in ("hypothesis", "translation"):
        if key in row:
            return {name: _text(row, key, place)}
    hypotheses = row.get("hypotheses")
    if isinstance(hypotheses, dict) and hypotheses and all(isinstance(t, str) for t in hypotheses.values()):
        return {f"{name}/{spelled(system)}": spelled(text) for system, text in hypotheses.items()}
    raise CorpusError("no hypothesis", place=place, found=", ".join(sorted(row)), valid='{"hypothesis": "...", ...} or {"hypotheses": {"SYSTEM": "..."}, ...}')


def _read_rows(path: Path, name: str) -> list[SystemOutput]:
    systems: dict[str, list[str]] = {}
    sides: dict[str, list[str]] = {s: [] for s in _SIDES}
    count = 0
    for count, row in read_jsonl(path):
        place = f"{path}, line {count}"
        row_systems = _hypotheses_of(row, name, place)
        if count > 1 and row_systems.keys() != systems.keys():
            raise CorpusError("other systems than on the lines before", place=place, found=", ".join(row_systems), valid=", ".join(systems))
        for system, text in row_systems.items():
            systems.setdefault(system, []).append(text)
        for side, texts in sides.items():
            if row.get(side) is not None:
                texts.append(_text(row, side, place))
    if not systems:
        raise BadInput("the file is empty", place=str(path), valid="one object a line")
    for side, texts in sides.items():
        if texts and len(texts) != count:
            raise CorpusError(f"{side} is on some lines only", place=str(path), found=f"{len(texts):,} of {count:,}")
    kept = {side: texts for side, texts in sides.items() if texts}
    return [SystemOutput(system, str(path), texts, kept) for system, texts in systems.items()]


def _read_one(path: Path, name: str) -> list[SystemOutput]:
    if path.is_dir():
        if not (path / SEGMENTS).is_file():
            raise BadInput("this is a directory", place=str(path), found=f"no {SEGMENTS}", valid="a file of one segment a line, or a directory of tellmt score")
        return _read_rows(path / SEGMENTS, name)
    if corpus_format(path) == "jsonl":
        return _read_rows(path, name)
    return [SystemOutput(name, str(path), read_segments(path), {})]


def _names(paths: Sequence[Path]) -> list[str]:
    """The files' names without what all of them share (`is-en.` and `.txt`), where they are still different without it."""
    names = [spelled(p.name) for p in paths]
    short = [Path(n).stem if Path(n).suffix.lower() in (".txt", ".jsonl", ".ndjson") else n for n in names]
    parts = [n.split(".") for n in short]
    while len(parts) > 1 and all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    short = [".".join(p) for p in parts]
    return short if len(set(short)) == len(short) and all(short) else labels(paths)


def read_outputs(paths: Sequence[Path]) -> list[SystemOutput]:
    """Every system of the files and directories, in their order; of directories that share an output that is the same (the bare base), each is there once."""
    distinct: list[SystemOutput] = []
    for path, name in zip(paths, _names([p.absolute() for p in paths]), strict=True):
        for output in _read_one(path, name):
            same = path.is_dir() and output.name.endswith("/base") and any(o.hypotheses == output.hypotheses and o.name.endswith("/base") for o in distinct)
            if not same:
                distinct.append(output)
    return distinct


def write_segments(
    path: Path, systems: Mapping[str, Sequence[str]], references: Sequence[str], sources: Sequence[str] | None, documents: Sequence[str] | None
) -> None:
    """Writes segments.jsonl into a directory: everything that is needed to compute scores again."""
    rows = []
    for i, reference in enumerate(references):
        row: dict[str, Any] = {"reference": spelled(reference)}
        row |= {} if sources is None else {"source": spelled(sources[i])}
        row |= {} if documents is None else {"document": spelled(documents[i])}
        rows.append({**row, "hypotheses": {name: texts[i] for name, texts in systems.items()}})
    write_jsonl(path, rows)


@dataclasses.dataclass(frozen=True, slots=True)
class ScoredSegments:
    """What the systems translated. `sources` and `documents` are None where they are not known, and so is the pair."""

    references: list[str]
    sources: list[str] | None = None
    documents: list[str] | None = None
    pair: LanguagePair | None = None


# What the two languages must at least be likely to be where no pair is given.
SURE = 0.7


def _side(name: str, file: Path | None, outputs: Sequence[SystemOutput]) -> list[str] | None:
    """A side (source or reference) from the file given for it, else from the outputs' own files. Raises BadInput when these differ."""
    from eval.scoring.system_outputs import read_segments

    if file is not None:
        return read_segments(file)
    common: tuple[str, list[str]] | None = None
    for output in outputs:
        side = output.sides.get(name)
        if side is not None and common is not None and side != common[1]:
            raise BadInput(f"these outputs are of other segments: their {name}s are not the same", place=f"{common[0]} and {output.place}")
        common = common or (None if side is None else (output.place, side))
    return common and common[1]


def likely_pair(sources: list[str] | None, references: list[str]) -> tuple[LanguagePair | None, str | None]:
    """The pair that the texts are in, where they leave no doubt, and a note for the user about it."""
    from eval.scoring.metrics import spaceless
    from tell.languages import parse_pair
    from tell.text.language_id import detect

    target = detect("\n".join(references))
    if sources is None:
        needed = target.confidence >= SURE and spaceless(target.language)
        return None, "these references look like a language without spaces: give --pair, so that BLEU does not count lines as words" if needed else None
    source = detect("\n".join(sources))
    if min(source.confidence, target.confidence) < SURE or source.language == target.language:
        return None, "the languages cannot be told: give --pair for diagnostics"
    pair = parse_pair(f"{source.language}:{target.language}")
    return pair, f"taken for {pair} by the texts; --pair says otherwise"


def gather(
    files: Sequence[Path], reference: Path | None, source: Path | None, documents: Path | None, pair: str | None
) -> tuple[ScoredSegments, list[SystemOutput], list[str]]:
    """The segments, the systems' outputs, and notes for the user."""
    from eval.scoring.system_outputs import ScoredSegments, read_outputs
    from tell.languages import parse_pair

    given_pair = parse_pair(pair) if pair else None
    outputs = read_outputs(files)
    references = _side("reference", reference, outputs)
    if references is None:
        raise click.UsageError("say what to compare with: --reference FILE")
    sources, named, notes = _side("source", source, outputs), _side("document", documents, outputs), []
    if named is not None and "" in (ids := [n.strip() for n in named]):
        raise BadInput("no document id on this line", place=f"{documents or 'documents'}, line {ids.index('') + 1}", valid="one document id a line")
    for what, path, side in (("source", source, sources), ("documents", documents, named)):
        if side is not None and len(side) != len(references):
            found = f"{len(side):,} lines, and {len(references):,} references"
            raise BadInput(f"{what} and references are not equally many", place=str(path or what), found=found, valid="one line for every segment")
    if given_pair is None:
        given_pair, note = likely_pair(sources, references)
        notes += [note] if note else []
    return ScoredSegments(references, sources, named and [n.strip() for n in named], given_pair), outputs, notes
