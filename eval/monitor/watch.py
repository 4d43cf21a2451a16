"""One run of a canary set from question to alarm: asks the live system, judges, keeps the run in the history, opens and closes alarms.

A finding counts when a second run, made at once, finds it too: what chance brought is gone then, and what is broken stays so. So is the baseline
recorded: by the first run of a version that nothing is found against.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.monitor.canary_sets import CanarySet
from eval.monitor.history import Alarm, History, HistoryError, Run
from eval.monitor.judge import ON_TRANSLATIONS, UNREACHABLE, Judged, Made, Rules, judge
from tell.errors import KeyRefused, RegistryError, ScopeRefused, TellmtError
from tell.registry.registry import Registry

HISTORY = "history.db"
# Seconds for whoever is told of an alarm to take it, and how often it is tried.
WEBHOOK_SECONDS, WEBHOOK_TRIES = 10.0, 2


def open_history(home: Path) -> History:
    return History(home / HISTORY)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `alarms` is every finding, `opened` those that are new; `history` is why it could not be kept, if so."""

    run: Run
    alarms: tuple[Alarm, ...]
    opened: tuple[Alarm, ...]
    closed: tuple[Alarm, ...]
    history: HistoryError | None = None


def watch(history: History, canary: CanarySet, ask: Callable[[], Made], rules: Rules) -> Outcome:
    """`ask` has the whole set translated; what it raises is an alarm of its own, never a score.

    Raises HistoryError when the baseline cannot be read: without it nothing can be said; KeyRefused and ScopeRefused.
    """
    try:
        made = ask()
    except (KeyRefused, ScopeRefused):
        # Of whoever runs this, not of the service.
        raise
    except TellmtError as e:
        run = Run(canary.pair, None, None, canary.sha256, "unreachable", findings=(UNREACHABLE,), note=e.thing)
        return _settle(history, run, None, [Alarm(canary.pair, None, UNREACHABLE, f"the canary set was not translated: {e.thing}")], keep=ON_TRANSLATIONS)
    baseline = history.baseline(canary.pair, canary.sha256, made.base, made.version)
    judged = judge(canary, made, baseline, rules)
    note = None
    if judged.findings:
        judged, note = _again(canary, ask, rules, made, judged, baseline)
    elif baseline is None and (others := _other_series(history, canary, made.base)):
        note = others
    own = baseline is not None and baseline[0].version == made.version
    run = Run(
        pair=canary.pair, version=made.version, base=made.base, canary=canary.sha256, state="scored", segments=len(canary.segments), scores=judged.scores,
        hard=judged.hard, against=baseline[0].id if baseline else None, delta=judged.delta, p=judged.p, findings=tuple(f.kind for f in judged.findings),
        # One that a finding was made of and not confirmed is no measure for what comes.
        baseline=not judged.findings and not own and note != NOT_CONFIRMED, note=note, seconds=round(made.seconds, 2),
    )  # fmt: skip
    return _settle(history, run, made, [Alarm(canary.pair, made.version, f.kind, f.text) for f in judged.findings])


NOT_CONFIRMED = "a finding that a second run did not confirm"


def _again(canary: CanarySet, ask: Callable[[], Made], rules: Rules, made: Made, judged: Judged, baseline: object) -> tuple[Judged, str | None]:
    """What a second run finds too. One that cannot be made confirms nothing and clears nothing: the first stands."""
    try:
        second = ask()
    except TellmtError:
        return judged, None
    if second.version != made.version:
        return dataclasses.replace(judged, findings=()), NOT_CONFIRMED
    kinds = {f.kind for f in judge(canary, second, baseline, rules).findings}  # type: ignore[arg-type]
    left = tuple(f for f in judged.findings if f.kind in kinds)
    return dataclasses.replace(judged, findings=left), None if left else NOT_CONFIRMED


def _other_series(history: History, canary: CanarySet, base: str) -> str | None:
    """What is in the history and cannot be compared with, in words."""
    runs = [r for r in history.runs(canary.pair) if r.state == "scored"]
    if not runs:
        return None
    if all(r.canary != canary.sha256 for r in runs):
        return "a new series: the canary set was changed"
    if all(r.base != base for r in runs if r.canary == canary.sha256):
        return "a new series: the earlier runs are of another base"
    return None


def _settle(history: History, run: Run, made: Made | None, alarms: Sequence[Alarm], keep: Sequence[str] = ()) -> Outcome:
    try:
        # Without outputs a run cannot be a baseline.
        id = history.add(run, made.outputs() if made else None)
        opened, closed = history.settle(run.pair, alarms, keep)
    except HistoryError as e:
        # An alarm that cannot be written down is told all the same.
        return Outcome(run, tuple(alarms), tuple(alarms), (), e)
    return Outcome(dataclasses.replace(run, id=id), tuple(alarms), tuple(opened), tuple(closed))


# What follows from an alarm


def roll_back(registry: Registry, history: History, outcome: Outcome) -> tuple[str | None, str]:
    """Bring back the version before the one that the alarm is about. Returns its id, or None; and what was done, or why nothing was, in words."""
    pair, version = outcome.run.pair, outcome.run.version
    kinds = [a.kind for a in outcome.alarms if a.kind in ON_TRANSLATIONS]
    if not kinds or version is None:
        return None, f"{pair}: not rolled back: the alarm says nothing of a version"
    state = registry.state(pair)
    if state.live != version:
        return None, f"{pair}: not rolled back: {version[:12]} is not what the registry names as live"
    if state.previous is None:
        return None, f"{pair}: not rolled back: there is no version before {version[:12]}"
    if history.alarmed(pair, state.previous):
        return None, f"{pair}: not rolled back: {state.previous[:12]}, the version before, raised an alarm too"
    why = f"alarm of the monitor ({', '.join(kinds)}): {outcome.alarms[0].text}"
    try:
        # The same as a roll back, on condition that nobody has changed the pair since.
        registry.promote(pair, state.previous, why, generation=state.generation)
    except (TellmtError, OSError) as e:
        thing = e.thing if isinstance(e, TellmtError) else str(e.strerror)
        raise RegistryError(f"not rolled back: {thing}", place=pair) from None
    history.rolled_back(pair, version, state.previous)
    return state.previous, f"{pair}: rolled back to {state.previous[:12]}"


def line(alarm: Alarm) -> str:
    """An alarm as a line of the log."""
    version = f" {alarm.version[:12]}" if alarm.version else ""
    state = "alarm over" if alarm.closed else "alarm"
    return f"{state}: {alarm.pair}{version}: {alarm.kind}: {alarm.text}"


def message(alarm: Alarm, rolled_back: str | None) -> dict[str, object]:
    """An alarm as it is posted: no text of any segment. `text` is what chat systems show."""
    return {
        "text": f"tellmt {line(alarm)}" + (f"; rolled back to {rolled_back[:12]}" if rolled_back else ""),
        "status": "resolved" if alarm.closed else "firing",
        "pair": alarm.pair, "version": alarm.version, "kind": alarm.kind, "reason": alarm.text, "rolled_back_to": rolled_back,
        "opened": alarm.opened, "closed": alarm.closed,
    }  # fmt: skip


def post(url: str, alarms: Sequence[Alarm], rolled_back: str | None = None) -> str | None:
    """POST each alarm as JSON. Returns what went wrong, without the address, which may hold a secret; None when all were taken."""
    import httpx

    problem = None
    for alarm in alarms:
        for _ in range(WEBHOOK_TRIES):
            try:
                answer = httpx.post(url, json=message(alarm, rolled_back), timeout=WEBHOOK_SECONDS)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as e:
                problem = f"the alarm was not taken by the webhook: {type(e).__name__}"
                continue
            if answer.is_success:
                break
            problem = f"the alarm was not taken by the webhook: HTTP status {answer.status_code}"
        else:
            return problem
    return None
