"""Load on a service, closed (so many clients, each waiting for its answer) or open (so many requests a second, whatever comes back), and its arithmetic."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.serving.harness.client import LoadClient, LoadRequest, LoadResponse


class BenchFailed(Exception):
    """What went wrong, in words."""


async def closed_loop(
    client: LoadClient, asks: Iterable[LoadRequest], concurrency: int, on_answer: Callable[[LoadResponse], object] | None = None
) -> list[LoadResponse]:
    """Every request once, in this order, `concurrency` at a time. Answers in the order of the requests."""
    waiting: Iterator[tuple[int, LoadRequest]] = enumerate(asks)
    answers: dict[int, LoadResponse] = {}

    async def work() -> None:
        for number, ask in waiting:
            answers[number] = await client.send(ask)
            if on_answer is not None:
                on_answer(answers[number])

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return [answers[n] for n in range(len(answers))]


async def until_set(
    client: LoadClient, asks: Iterable[LoadRequest], concurrency: int, stop: asyncio.Event, on_answer: Callable[[LoadResponse], object]
) -> None:
    """Requests, `concurrency` at a time, until `stop`; those under way then are answered. `asks` must not end before."""
    waiting = iter(asks)

    async def work() -> None:
        while not stop.is_set():
            on_answer(await client.send(next(waiting)))

    await asyncio.gather(*(work() for _ in range(concurrency)))


async def open_loop(client: LoadClient, asks: Iterable[LoadRequest], rate: float, seconds: float, patience: float) -> list[LoadResponse]:
    """`rate` requests a second for `seconds`, evenly spaced. Those not answered `patience` seconds later are left. In the order sent."""
    began = time.perf_counter()
    tasks: list[asyncio.Task[LoadResponse]] = []
    for number, ask in enumerate(itertools.islice(asks, int(rate * seconds))):
        if (wait := began + number / rate - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(client.send(ask, began + seconds + patience - time.perf_counter())))
        if number % 8 == 7:
            # Behind its time it sends in bursts, but still reads what has come.
            await asyncio.sleep(0)
    return list(await asyncio.gather(*tasks))


def wall(answers: Sequence[LoadResponse]) -> float:
    """Seconds from the first request to the last answer."""
    return max(a.done for a in answers) - min(a.sent for a in answers)


def percentile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the two nearest ranks; not a number when there are no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (lowest to highest, n)`, for a line of figures."""
    if not values:
        return "none"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f}, {len(values)} round{'s' * (len(values) != 1)})"


def milliseconds(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest of seconds, in milliseconds."""
    return {name: round(1000 * percentile(values, share), 1) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares: the growth of y per unit of x. 0 with fewer than two different x."""
    if len(points) < 2:
        return 0.0
    middle_x, middle_y = statistics.fmean(x for x, _ in points), statistics.fmean(y for _, y in points)
    across = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / across if across else 0.0


def statuses(answers: Iterable[LoadResponse]) -> dict[str, int]:
    """How many answers of each status; for those without one, the reason."""
    return dict(sorted(Counter(str(a.status) if a.status else a.problem for a in answers).items()))


def unexplained(answers: Iterable[LoadResponse]) -> list[str]:
    """What a service must never answer: a 5xx that is not a 503, a 503 or 429 without Retry-After, a connection closed without an answer."""
    wrong = []
    for a in answers:
        if a.status >= 500 and a.status != 503:
            wrong.append(f"status {a.status} from {a.ask.method} {a.ask.path}")
        elif a.status in (429, 503) and not a.headers.get("retry-after", "").isdigit():
            wrong.append(f"status {a.status} without Retry-After from {a.ask.method} {a.ask.path}")
        elif a.problem and a.problem != "left":
            wrong.append(f"{a.problem} at {a.ask.method} {a.ask.path}")
    return wrong


def counted(problems: Sequence[str]) -> list[str]:
    """Each different problem once, with how often it came."""
    return [f"{n} x {text}" if n > 1 else text for text, n in Counter(problems).most_common()]


def all_answered(answers: Sequence[LoadResponse], what: str) -> None:
    """Raises BenchFailed unless every answer is a 200."""
    if bad := [a for a in answers if a.status != 200]:
        problem = bad[0].said.get("error") or bad[0].problem
        raise BenchFailed(f"{what}: {len(bad)} of {len(answers)} requests were not answered; the first: status {bad[0].status}, {problem}")


# By adapter version, by line: everything that it has given. A version may give a line in several ways, by what else is in the batch.
Expected = Mapping[str, Mapping[str, set[str]]]


def check(answer: LoadResponse, expected: Expected) -> str:
    """Whether every line of an answer is what the version it names has given: `right`, `mixed` (what another one has) or `other` (what none has)."""
    expected_texts = expected.get(answer.adapter)
    texts = answer.texts
    if expected_texts is None or len(texts) != len(answer.ask.lines):
        return "other"
    verdict = "right"
    for line, text in zip(answer.ask.lines, texts, strict=True):
        if text in expected_texts.get(line, ()):
            continue
        if any(text in by_version.get(line, ()) for by_version in expected.values()):
            return "mixed"
        verdict = "other"
    return verdict


def alike(text: str, other: str) -> float:
    """0 to 1: how much of two texts is the same."""
    return difflib.SequenceMatcher(None, text, other, autojunk=False).ratio()


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table; the first column is words, the others are figures."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]
