"""How much training a corpus is worth, and how much fits into the time there is. Reads nothing, runs nothing.

What the numbers rest on is in docs/results/study.md and shipped.md: no general data, an instruction before the source, LoRA of rank 16, steps of 1,024
tokens; three passes at 5e-4 were the best of what was tried at 10,000 and 30,000 task tokens, one pass at 7e-4 serves at a million.
"""

from __future__ import annotations

import dataclasses
import re

from eval.gate.decoding import PENALTIES, PENALTY_SEGMENTS
from tell.console import clock
from tell.errors import BadInput

# Below this many training pairs an adapter learns the look of translations more than the language.
FEW = 200
# (task tokens up to which it holds, passes, learning rate); the last holds for all that is larger.
PASSES = ((120_000, 3, 5e-4), (400_000, 2, 5e-4), (float("inf"), 1, 7e-4))
# Scoring, where nothing was measured on this machine yet: seconds for a segment by one system, and to start the engine with a new adapter.
SEGMENT = {"cpu": 0.35, "cuda": 0.02}
START = {"cpu": 45.0, "cuda": 60.0}


@dataclasses.dataclass(frozen=True, slots=True)
class Direction:
    """What was measured of one direction: its training tokens, seconds for one pass over them, and to start; segments that are scored, and of these those
    of the dev split, on which device."""

    pair: str
    pairs: int
    tokens: int
    pass_seconds: float
    start_seconds: float
    held_out: int
    dev: int
    device: str

    @property
    def scoring(self) -> float:
        """Seconds for choosing how to decode, and scoring dev and test with the adapter and the bare base."""
        kind = "cuda" if self.device.startswith("cuda") else "cpu"
        return START[kind] + ((len(PENALTIES) - 1) * min(self.dev, PENALTY_SEGMENTS) + 2 * self.held_out) * SEGMENT[kind]

    def seconds(self, passes: int) -> float:
        return self.start_seconds + passes * self.pass_seconds + self.scoring


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Passes over the data and the learning rate for each direction, and the seconds all of it takes."""

    passes: dict[str, int]
    learning_rate: dict[str, float]
    seconds: float
    notes: list[str]


def seconds_of(text: str, place: str = "--budget") -> float:
    """`90s`, `20m`, `1h30m`, `2h`; a bare number is minutes. Raises BadInput."""
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower().replace(" ", ""))
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        total = 60 * float(text)
    else:
        total = sum(float(n) * unit for n, unit in zip(found.groups(), (3600, 60, 1), strict=True) if n) if found else 0.0
    if not total:
        raise BadInput("not a length of time", place=place, found=text, valid="such as 20m, 90s or 1h30m")
    return total


def wanted(tokens: int) -> tuple[int, float]:
    """Passes and learning rate for this many training tokens."""
    return next((passes, rate) for upto, passes, rate in PASSES if tokens <= upto)


def make_plan(directions: list[Direction], budget: float | None, spent: float = 0.0) -> Plan:
    """As many passes as the data are worth, fewer where `budget` seconds, of which `spent` are gone, hold no more.

    Raises BadInput, with what it would take, when they do not hold one pass.
    """
    passes = {d.pair: wanted(d.tokens)[0] for d in directions}
    rates = {d.pair: wanted(d.tokens)[1] for d in directions}
    notes = [f"{d.pair}: {d.pairs:,} training pairs are few: expect a gain over the bare base, not a translator" for d in directions if d.pairs < FEW]

    def total() -> float:
        return spent + sum(d.seconds(passes[d.pair]) for d in directions)

    if budget is not None:
        while total() > budget and max(passes.values()) > 1:
            # The one with the most passes gives one up: both directions are served alike.
            most = max(passes, key=lambda p: passes[p])
            passes[most] -= 1
        if total() > budget:
            one = spent + sum(d.seconds(1) for d in directions)
            single = spent + min(d.seconds(1) for d in directions)
            ways = [f"--budget {int(one // 60) + 1}m"]
            if len(directions) > 1:
                ways.append(f"--one-way, which takes {clock(single)}")
            raise BadInput("the time is too short for one pass over the data", place="--budget", found=clock(budget), valid=" or ".join(ways))
        fewer = [f"{d.pair} {passes[d.pair]} of {wanted(d.tokens)[0]}" for d in directions if passes[d.pair] < wanted(d.tokens)[0]]
        if fewer:
            notes.append(f"{clock(budget)} hold fewer passes than these data are worth: {', '.join(fewer)}")
    return Plan(passes, rates, total(), notes)


def recipe(pair: str, base: str, passes: int, rate: float) -> str:
    """The recipe of a direction, as it is written beside its corpus. What is there already and differs in more than these values is the user's, and kept."""
    return f"""# Written by tellmt pair add from the size of the corpus and the speed of this machine.
pair = "{pair}"
base = "{base}"
seed = 1

[anchor]
parts = "prefix"

[mix]
ratio = 0
max_tokens = 384

[train]
epochs = {passes}
learning_rate = {rate:g}
batch_tokens = 1024
save_steps = 20
"""
