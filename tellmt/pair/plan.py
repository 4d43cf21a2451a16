"""How many epochs suit a corpus, and how many fit into the budget of time. Reads nothing, runs nothing.

docs/results/study.md and shipped.md have the measurements behind the numbers. They are for no general data, an instruction before the source, LoRA of rank 16
and steps of 1,024 tokens: three epochs at 5e-4 were the best of those tried at 10,000 and 30,000 task tokens, one epoch at 7e-4 is enough at a million.
"""

from __future__ import annotations

import dataclasses
import re

from eval.gate.decoding import PENALTIES, PENALTY_SEGMENTS
from tell.console import clock
from tell.corpus.dev_halves import expected_sizes
from tell.errors import BadInput

# With fewer training pairs an adapter learns the look of translations more than the language.
FEW_PAIRS = 200
# (task tokens up to which the row holds, epochs, learning rate); the last row holds for all larger corpora.
SCHEDULES = ((120_000, 3, 5e-4), (400_000, 2, 5e-4), (float("inf"), 1, 7e-4))
# Scoring, before anything was measured on this machine: seconds for one segment by one system, and for starting the engine with a new adapter.
SEGMENT_SECONDS = {"cpu": 0.35, "cuda": 0.02}
START_SECONDS = {"cpu": 45.0, "cuda": 60.0}


@dataclasses.dataclass(frozen=True, slots=True)
class DirectionEstimate:
    """The measurements of one direction that a plan is made from."""

    pair: str
    # Training pairs.
    pairs: int
    # Training tokens in one epoch.
    tokens: int
    # Of one epoch, and of the start of a training.
    pass_seconds: float
    start_seconds: float
    # Segments that are scored: those of dev and test together, and those of dev.
    held_out: int
    dev: int
    device: str

    @property
    def scoring_seconds(self) -> float:
        """Choosing the penalty on repetition, and scoring dev and test with the adapter and the bare base, test without hints as well."""
        kind = "cuda" if self.device.startswith("cuda") else "cpu"
        choosing, judging = expected_sizes(self.dev)
        segments = (len(PENALTIES) - 1) * min(choosing, PENALTY_SEGMENTS) + 2 * (self.held_out - self.dev + judging) + self.held_out - self.dev
        return START_SECONDS[kind] + segments * SEGMENT_SECONDS[kind]

    def training_seconds(self, epochs: int) -> float:
        return self.start_seconds + epochs * self.pass_seconds

    def seconds(self, epochs: int) -> float:
        return self.training_seconds(epochs) + self.scoring_seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Epochs and learning rate of each direction, and the seconds that everything takes together."""

    epochs: dict[str, int]
    learning_rates: dict[str, float]
    seconds: float
    notes: list[str]


def seconds_of(text: str, place: str = "--budget") -> float:
    """The seconds of `90s`, `20m`, `1h30m`, `2h`; a number without a unit is minutes. Raises BadInput."""
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower().replace(" ", ""))
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        total = 60 * float(text)
    else:
        total = sum(float(n) * unit for n, unit in zip(parts.groups(), (3600, 60, 1), strict=True) if n) if parts else 0.0
    if not total:
        raise BadInput("not a length of time", place=place, found=text, valid="such as 20m, 90s or 1h30m")
    return total


def best_schedule(tokens: int) -> tuple[int, float]:
    """Epochs and learning rate that suit this many training tokens."""
    return next((epochs, rate) for most_tokens, epochs, rate in SCHEDULES if tokens <= most_tokens)


def plan_schedules(directions: list[DirectionEstimate], budget: float | None, spent: float = 0.0) -> Plan:
    """As many epochs as suit the data, or fewer where `budget` seconds, of which `spent` are used up, are too short for them.

    Raises BadInput, with the budget that would do, when the time is too short for one epoch.
    """
    best = {d.pair: best_schedule(d.tokens) for d in directions}
    epochs = {pair: n for pair, (n, _) in best.items()}
    rates = {pair: rate for pair, (_, rate) in best.items()}
    notes = [f"{d.pair}: {d.pairs:,} training pairs are few: expect a gain over the bare base, not a translator" for d in directions if d.pairs < FEW_PAIRS]

    def total() -> float:
        return spent + sum(d.seconds(epochs[d.pair]) for d in directions)

    if budget is not None:
        while total() > budget and max(epochs.values()) > 1:
            # The direction with the most epochs loses one, so that both directions are treated alike.
            longest = max(epochs, key=lambda pair: epochs[pair])
            epochs[longest] -= 1
        if total() > budget:
            both_ways = spent + sum(d.seconds(1) for d in directions)
            one_way = spent + min(d.seconds(1) for d in directions)
            remedies = [f"--budget {int(both_ways // 60) + 1}m"]
            if len(directions) > 1:
                remedies.append(f"--one-way, which takes {clock(one_way)}")
            raise BadInput("the time is too short for one epoch", place="--budget", found=clock(budget), valid=" or ".join(remedies))
        shortened = [f"{pair} {epochs[pair]} of {n}" for pair, (n, _) in best.items() if epochs[pair] < n]
        if shortened:
            notes.append(f"{clock(budget)} are too short for all epochs that suit these data: {', '.join(shortened)}")
    return Plan(epochs, rates, total(), notes)


# Where the dev split is too small to choose a penalty: of those tried with 500 pairs it lost nowhere and gained most out of English
# (docs/results/decoding.md).
PENALTY = """
[decoding]
repetition_penalty = 1.1
"""
# The lexicon lies beside the recipe.
HINTS = """
[hints]
lexicon = "lexicon"
"""


@dataclasses.dataclass(frozen=True, slots=True)
class RecipeBasis:
    """What a direction's recipe depends on beside the plan: whether its prompts get hints, and whether its dev split is too small to choose a penalty by."""

    pair: str
    base: str
    hints: bool = False
    few_dev: bool = False


def recipe_text(basis: RecipeBasis, epochs: int, learning_rate: float) -> str:
    """The recipe of a direction, as `pair add` writes it beside the corpus."""
    return f"""# Written by tellmt pair add from the size of the corpus and the speed of this machine.
pair = "{basis.pair}"
base = "{basis.base}"
seed = 1

[anchor]
parts = "prefix"

[mix]
ratio = 0
max_tokens = 384
{HINTS if basis.hints else ""}
[train]
epochs = {epochs}
learning_rate = {learning_rate:g}
batch_tokens = 1024
save_steps = 20
{PENALTY if basis.few_dev else ""}"""
