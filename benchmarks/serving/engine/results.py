"""What was measured, as JSON lines that a broken-off run goes on from, and the table and ratios made of them."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Quantile 0.975 of Student's t by degrees of freedom; beyond the last the normal distribution's is within 2%.
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)


@dataclasses.dataclass(frozen=True, slots=True)
class Ratio:
    """The geometric mean of the turns' ratios; `low` and `high` are its 95% interval by Student's t on their logarithms, from three turns on.

    With two they are the two turns; with one there is no interval.
    """

    middle: float
    low: float
    high: float
    turns: int

    def __str__(self) -> str:
        if self.turns < 2:
            return f"{self.middle:.2f}x"
        return f"{self.middle:.2f}x ({self.low:.2f} to {self.high:.2f})"


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Of (ours, theirs) of each turn: ours by theirs."""
    logs = [math.log(a / b) for a, b in pairs]
    middle, n = statistics.fmean(logs), len(logs)
    if n < 3:
        return Ratio(math.exp(middle), math.exp(min(logs)), math.exp(max(logs)), n)
    half = (T[n - 2] if n - 2 < len(T) else 1.96) * statistics.stdev(logs) / math.sqrt(n)
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half), n)


class Results:
    """One value a row: figure, side, turn, value, and whatever belongs to it. Rows of another `version` of the code or other `settings` do not count."""

    def __init__(self, path: Path, version: str, settings: Mapping[str, Any]):
        self.path, self.version, self.settings = path, version, dict(settings)
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            for line in path.read_text().split("\n"):
                try:
                    row = json.loads(line)
                except ValueError:
                    continue  # the end of a run that was killed while it wrote
                if row.get("version") == version and row.get("settings") == self.settings:
                    self.rows.append(row)

    def has(self, figure: str, side: str, turn: int) -> bool:
        return any((r["figure"], r["side"], r["turn"]) == (figure, side, turn) for r in self.rows)

    def add(self, figure: str, side: str, turn: int, **values: Any) -> None:
        row = {"figure": figure, "side": side, "turn": turn, **values, "version": self.version, "settings": self.settings}
        # A line that was cut off by a kill would swallow the first of the next run.
        cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size
        with self.path.open("a") as f:
            f.write(("\n" if cut else "") + json.dumps(row) + "\n")
            f.flush()
        self.rows.append(row)

    def values(self, figure: str, side: str, key: str = "value") -> dict[int, Any]:
        """By turn."""
        return {r["turn"]: r[key] for r in self.rows if r["figure"] == figure and r["side"] == side and key in r}

    def pairs(self, figure: str, ours: str, theirs: str, key: str = "value") -> list[tuple[float, float]]:
        """(ours, theirs) of the turns that both have."""
        a, b = self.values(figure, ours, key), self.values(figure, theirs, key)
        return [(a[t], b[t]) for t in sorted(a.keys() & b.keys())]


@dataclasses.dataclass(frozen=True, slots=True)
class Aim:
    """What a figure is to reach: its ratio to another side, or its own value where `absolute`. `least` says in which direction."""

    value: float
    least: bool = True
    absolute: bool = False

    def met(self, reached: float) -> bool:
        # As it is printed: 1.997 is said to be 2.00.
        return round(reached, 2) >= self.value if self.least else round(reached, 2) <= self.value

    def __str__(self) -> str:
        return f"at {'least' if self.least else 'most'} {self.value:.2f}x"


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A line of the table: a figure of two sides."""

    figure: str
    title: str
    unit: str
    ours: str
    theirs: str
    aim: Aim | None
    # Of the rows' values, the one that is compared.
    key: str = "value"

    def reached(self, results: Results) -> Ratio | None:
        pairs = results.pairs(self.figure, self.ours, self.theirs, self.key)
        if not pairs:
            return None
        # A value that has its aim itself is compared with one.
        return ratio([(a, 1.0) for a, _ in pairs] if self.aim and self.aim.absolute else pairs)

    def line(self, results: Results) -> str:
        reached = self.reached(results)
        if reached is None:
            return f"{self.title}: not measured"
        aim = ""
        if self.aim:
            aim = f"; aim: {self.aim}, {'met' if self.aim.met(reached.middle) else 'MISSED'}"
        return f"{self.title}: {reached}{aim}"

    def row(self, results: Results) -> list[str]:
        reached = self.reached(results)
        sides = []
        for side in (self.theirs, self.ours):
            values = list(results.values(self.figure, side, self.key).values())
            sides.append(f"{shown(statistics.median(values))} {self.unit}" if values else "-")
        used = results.pairs(self.figure, self.ours, self.theirs, "by_cpu") if self.key == "value" else []
        return [
            self.title, str(self.aim) if self.aim else "-", *sides, str(reached) if reached else "not measured", str(ratio(used)) if used else "-",
            "-" if not self.aim or not reached else "met" if self.aim.met(reached.middle) else "**missed**",
        ]  # fmt: skip


HEAD = ("figure", "aim", "{theirs}", "{ours}", "ratio", "by processor time", "")


def tables(results: Results, comparisons: Sequence[Comparison], reasons: Mapping[str, str]) -> Iterator[str]:
    """Markdown: a table for each pair of sides, the reasons of what was missed, then the ratios a line each."""
    from benchmarks.serving.harness.load import table

    for theirs, ours in dict.fromkeys((c.theirs, c.ours) for c in comparisons):
        of = [c for c in comparisons if (c.theirs, c.ours) == (theirs, ours) and c.reached(results)]
        if not of:
            continue
        yield from table([h.format(theirs=theirs, ours=ours) for h in HEAD], [c.row(results) for c in of])
        yield ""
        for c in of:
            reached = c.reached(results)
            if c.aim and reached and not c.aim.met(reached.middle):
                yield f"{c.title} is missed: {reasons.get(c.title, 'no reason is known yet')}."
                yield ""
        yield from ("    " + c.line(results) for c in of)
        yield ""
