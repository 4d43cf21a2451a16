"""The results of a study so far, as its report needs them.

Reads a study directory: `study.json`, `results.jsonl`, `runs/<id>/hypotheses.txt`, `runs/<id>/losses.jsonl` and `dev/<pair>/reference.txt`; writes
nothing. Where a run has hypotheses, its BLEU and chrF2 are computed from them, and a note names a recorded score that differs.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from eval.scoring.scores import metrics, scoring_part
from eval.study.config import Stage
from tell.errors import BadInput
from tell.files import decode, read_bytes, read_jsonl, read_lines
from tell.languages import parse_pair

# Two roundings of one score differ by less than this.
SAME_SCORE = 0.01
SAME_NATS = 0.01


class _Record(BaseModel):
    """A record that the runner wrote. The report ignores keys that it does not need."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RecordedStudy(_Record):
    """study.json."""

    name: str
    pairs: list[str]
    arms: dict[str, dict[str, Any]]
    reference_arm: str = "sft"
    # What sizes count. A study of before counted the tokens of task examples, anchors included.
    unit: Literal["pairs", "tokens"] = "tokens"
    stages: list[Stage] = []
    # The arm, size, ratio and margin of the primary figure.
    primary: dict[str, Any] = {}
    tune: dict[str, Any] = {}


class DataCount(_Record):
    examples: int
    tokens: int


class TrainingRecord(_Record):
    steps: int
    tokens: int
    seconds: float
    final_loss: float | None = None
    # [step, nats per token] of each look at the tuning segments, and the step whose weights were kept.
    looks: list[tuple[int, float]] = []
    kept_step: int | None = None


class RecordedScores(_Record):
    """The scores of a run on the tuning slice or the dev set."""

    name: str | None = None
    segments: int
    # None where the held-out segments were not translated.
    bleu: float | None = None
    chrf2: float | None = None
    signatures: dict[str, str] = {}
    nats_per_token: float | None = None
    truncated: int = 0


class ResultRow(_Record):
    """A line of results.jsonl. `size` is in the study's unit, and None stands for all task data; `train` None for an arm without training."""

    id: str
    role: Literal["tune", "run"]
    arm: str
    pair: str
    size: int | None = Field(validation_alias=AliasChoices("size", "budget"))
    ratio: float | None
    seed: int
    learning_rate: float | None
    passes: float | None = Field(default=None, validation_alias=AliasChoices("passes", "epochs"))
    counts: dict[str, DataCount] | None = None
    train: TrainingRecord | None
    dev: RecordedScores
    base: dict[str, Any] | str = {}
    versions: dict[str, Any] = {}
    machine: Any = None
    finished: str | None = None

    def tokens(self, kind: str) -> int:
        return self.counts[kind].tokens if self.counts and kind in self.counts else 0


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredRun:
    """A row with the scores and losses of its run. `stats` are sacreBLEU's chrF2 counts, (segments, 18), or None without hypotheses; `losses` is
    line -> (tokens, nats)."""

    row: ResultRow
    chrf2: float | None
    bleu: float | None
    stats: Any
    losses: Mapping[int, tuple[int, float]]
    # line -> the nats of its tokens, where the run kept them.
    each: Mapping[int, list[float]]

    @property
    def nats(self) -> float | None:
        nats = self.row.dev.nats_per_token
        return nats if nats is not None and math.isfinite(nats) else None


@dataclasses.dataclass(frozen=True)
class StudyResults:
    """`signatures` are those of the scores, by pair and metric; `notes` say what was passed over or differs."""

    study: RecordedStudy
    tuning: list[ResultRow]
    runs: list[ScoredRun]
    signatures: dict[str, dict[str, str]]
    notes: list[str]


def _first_error(e: ValidationError) -> str:
    first = e.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def read_recorded_study(directory: Path) -> RecordedStudy:
    path = directory / "study.json"
    if not path.exists():
        raise BadInput("this is not the directory of a study", place=str(directory), found="no study.json", valid="the directory that `tellmt study` wrote")
    try:
        return RecordedStudy.model_validate(json.loads(decode(read_bytes(path), str(path))))
    except ValidationError as e:
        raise BadInput("not a study", place=str(path), found=_first_error(e)) from None
    except ValueError as e:
        raise BadInput("not JSON", place=str(path), found=str(e)) from None


def read_result_rows(path: Path) -> tuple[list[ResultRow], list[str]]:
    """The newest row of each run, and notes. Leaves out a last line that was cut short when the study was killed; raises BadInput for other damage."""
    if not path.exists():
        raise BadInput("no run has finished yet", place=str(path.parent), found="no results.jsonl", valid="a study with at least one line of results")
    raw = read_bytes(path)
    lines = raw.split(b"\n")
    notes: list[str] = []
    rows: dict[tuple[str, str], ResultRow] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            value = json.loads(line.decode())
        except ValueError as e:
            if number == len(lines):
                notes.append(f"{path.name}, line {number}: cut short (the last line, without a line end), left out; its run counts as missing")
                continue
            raise BadInput("not JSON", place=place, found=str(e), valid="one JSON object a line; take this line out to go on without it") from None
        try:
            row = ResultRow.model_validate(value)
        except ValidationError as e:
            raise BadInput("not a result of a study", place=place, found=_first_error(e)) from None
        if (row.id, row.role) in rows:
            notes.append(f"{path.name}, line {number}: run {row.id} is there twice; the later line counts")
        rows[row.id, row.role] = row
    if not rows:
        raise BadInput("no run has finished yet", place=str(path), found="no whole line", valid="at least one line of results")
    return list(rows.values()), notes


def _losses(path: Path, row: ResultRow, notes: list[str]) -> tuple[dict[int, tuple[int, float]], dict[int, list[float]]]:
    losses: dict[int, tuple[int, float]] = {}
    each: dict[int, list[float]] = {}
    if not path.exists():
        return losses, each
    for number, value in read_jsonl(path):
        try:
            line, tokens, nats = int(value["line"]), int(value["tokens"]), float(value["nats"])
        except (KeyError, TypeError, ValueError):
            raise BadInput("not a segment's loss", place=f"{path}, line {number}", found=json.dumps(value), valid='{"line", "tokens", "nats"}') from None
        if tokens > 0 and math.isfinite(nats):
            losses[line] = (tokens, nats)
            if "each" in value:
                each[line] = [float(x) for x in value["each"]]
    recorded = row.dev.nats_per_token
    if losses and recorded is not None and math.isfinite(recorded):
        mean = math.fsum(n for _, n in losses.values()) / sum(t for t, _ in losses.values())
        if abs(mean - recorded) > SAME_NATS * max(1, abs(recorded)):
            notes.append(f"run {row.id}: its losses per segment make {mean:.4f} nats/token, {recorded:.4f} are recorded")
    return losses, each


class Scorer:
    """sacreBLEU's metrics for one pair. The n-grams of the references are counted once for all runs."""

    def __init__(self, pair: str, references: list[str]):
        self.references = references
        self._metrics = metrics(parse_pair(pair))
        for metric in self._metrics.values():
            metric._ref_cache = metric._cache_references([references])
            # The signature names the number of references, which a metric knows only after it has scored.
            metric.corpus_score(references, None)
        names = {"bleu": "bleu", "chrf2": "chrf"}
        self.signatures = {ours: str(self._metrics[name].get_signature()) for ours, name in names.items()}

    def scores(self, hypotheses: list[str]) -> tuple[float, float, Any]:
        """chrF2, BLEU, and chrF2's counts per segment."""
        import numpy as np

        chrf = self._metrics["chrf"]
        stats = np.array(chrf._extract_corpus_statistics(hypotheses, None), dtype=np.int64)
        return float(chrf._compute_score_from_stats(stats.sum(0)).score), float(self._metrics["bleu"].corpus_score(hypotheses, None).score), stats


def _open_run(directory: Path, row: ResultRow, scorer: Scorer | None, notes: list[str]) -> ScoredRun:
    run_directory = directory / "runs" / row.id
    losses, each = _losses(run_directory / "losses.jsonl", row, notes)
    path = run_directory / "hypotheses.txt"
    if scorer is None or not path.exists():
        if scorer is not None and row.dev.chrf2 is not None:
            notes.append(f"run {row.id} ({row.arm}, {row.pair}): no hypotheses.txt, so its recorded scores stand")
        return ScoredRun(row, row.dev.chrf2, row.dev.bleu, None, losses, each)
    hypotheses = read_lines(path)
    if len(hypotheses) != len(scorer.references):
        valid = f"{len(scorer.references):,} lines, as dev/{row.pair}/reference.txt"
        raise BadInput("the hypotheses do not match the references", place=str(path), found=f"{len(hypotheses):,} lines", valid=valid)
    chrf2, bleu, stats = scorer.scores(hypotheses)
    for name, recorded, computed in (("chrF2", row.dev.chrf2, chrf2), ("BLEU", row.dev.bleu, bleu)):
        if recorded is not None and abs(recorded - computed) > SAME_SCORE:
            notes.append(f"run {row.id} ({row.arm}, {row.pair}): {name} {recorded:.2f} is recorded, its hypotheses score {computed:.2f}, which counts here")
    return ScoredRun(row, chrf2, bleu, stats, losses, each)


def read_results(directory: Path) -> StudyResults:
    """The results in a study directory. Raises BadInput when there is no study, no result, or damage; notes name everything that was passed over."""
    study = read_recorded_study(directory)
    rows, notes = read_result_rows(directory / "results.jsonl")
    scorers: dict[str, Scorer] = {}
    signatures: dict[str, dict[str, str]] = {}
    for pair in dict.fromkeys(r.pair for r in rows):
        path = directory / "dev" / pair / "reference.txt"
        if path.exists():
            if not (references := read_lines(path)):
                raise BadInput("no references", place=str(path), found="an empty file", valid="one segment per line")
            scorers[pair] = Scorer(pair, references)
            signatures[pair] = scorers[pair].signatures
        else:
            notes.append(f"{pair}: no dev/{pair}/reference.txt, so recorded scores stand")
            signatures[pair] = next((r.dev.signatures for r in rows if r.pair == pair), {})
    for row in rows:
        for name, recorded in row.dev.signatures.items():
            if name in signatures[row.pair] and scoring_part(recorded) != scoring_part(signatures[row.pair][name]):
                notes.append(f"run {row.id}: recorded with {name} signature {recorded}, scored here with {signatures[row.pair][name]}")
    cells: dict[tuple[Any, ...], ScoredRun] = {}
    for row in rows:
        if row.role == "run":
            run = _open_run(directory, row, scorers.get(row.pair), notes)
            cell = (row.pair, row.size, row.arm, row.ratio, row.seed)
            if cell in cells:
                notes.append(f"runs {cells[cell].row.id} and {row.id}: both are {row.arm}, {row.pair}, seed {row.seed}; the later counts")
            cells[cell] = run
    return StudyResults(study, [r for r in rows if r.role == "tune"], list(cells.values()), signatures, notes)
