"""One run of a canary set: asks the live system, judges, records the run in the history, opens and closes alarms, and rolls back.

A finding counts when a second run, made at once, confirms it: chance does not repeat itself, and a broken version stays broken. The baseline of a
version is its first run without a finding; the quality is also compared with the best baseline of the series, so that the measure does not slide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.monitor.canary_sets import CanarySet
from eval.monitor.history import Alarm, CanaryRun, History, HistoryError
from eval.monitor.judge import ON_TRANSLATIONS, UNREACHABLE, AlarmThresholds, CanaryTranslations, Judgement, judge_translations
from tell.errors import KeyRefused, RegistryError, ScopeRefused, TellmtError
from tell.registry.registry import Registry

HISTORY = "history.db"
# Seconds for the webhook to accept an alarm, and how often it is posted.
WEBHOOK_SECONDS, WEBHOOK_TRIES = 10.0, 2


def open_history(home: Path) -> History:
    return History(home / HISTORY)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """A run and its alarms: `alarms` is every finding, `opened` the new ones, `closed` those that are over; `history` is the error that kept the run out of
    the history, if any."""

    run: CanaryRun
    alarms: tuple[Alarm, ...]
    opened: tuple[Alarm, ...]
    closed: tuple[Alarm, ...]
    history: HistoryError | None = None


def check_set(history: History, canary: CanarySet, ask: Callable[[], CanaryTranslations], thresholds: AlarmThresholds) -> Outcome:
    """`ask` translates the whole set; an error that it raises is an alarm of its own, never a score.

    Raises HistoryError when the baseline cannot be read, since nothing can be judged without it; and KeyRefused and ScopeRefused.
    """
    try:
        translations = ask()
    except (KeyRefused, ScopeRefused):
        # This is a fault of the caller's key, not of the service.
        raise
    except TellmtError as e:
        run = CanaryRun(canary.pair, None, None, canary.sha256, "unreachable", findings=(UNREACHABLE,), note=e.thing)
        return _record(history, run, None, [Alarm(canary.pair, None, UNREACHABLE, f"the canary set was not translated: {e.thing}")], keep=ON_TRANSLATIONS)
    baseline = history.baseline(canary.pair, canary.sha256, translations.base, translations.version)
    best = history.best_baseline(canary.pair, canary.sha256, translations.base)
    if baseline is None or best is None or best.run.id == baseline[0].id:
        best = None

    def judge(run: CanaryTranslations) -> Judgement:
        return judge_translations(canary, run, baseline, thresholds, best)

    judged, note = judge(translations), None
    if judged.findings:
        judged, note = _confirm(ask, judge, translations, judged)
    elif baseline is None and (other_series := _other_series(history, canary, translations.base)):
        note = other_series
    own_baseline = baseline is not None and baseline[0].version == translations.version
    run = CanaryRun(
        pair=canary.pair, version=translations.version, base=translations.base, canary=canary.sha256, state="scored", segments=len(canary.segments),
        scores=judged.scores, hard=judged.hard, against=baseline[0].id if baseline else None, delta=judged.delta, p=judged.p,
        findings=tuple(f.kind for f in judged.findings),
        # A run with a finding that was not confirmed is no measure for later runs.
        baseline=not judged.findings and not own_baseline and note != NOT_CONFIRMED, note=note, seconds=round(translations.seconds, 2),
    )  # fmt: skip
    return _record(history, run, translations, [Alarm(canary.pair, translations.version, f.kind, f.text) for f in judged.findings])


NOT_CONFIRMED = "a finding that a second run did not confirm"


def _confirm(
    ask: Callable[[], CanaryTranslations], judge: Callable[[CanaryTranslations], Judgement], first: CanaryTranslations, judged: Judgement
) -> tuple[Judgement, str | None]:
    """The findings that a second run confirms. If the second run fails, the findings of the first stand."""
    try:
        second = ask()
    except TellmtError:
        return judged, None
    if second.version != first.version:
        return dataclasses.replace(judged, findings=()), NOT_CONFIRMED
    kinds = {f.kind for f in judge(second).findings}
    confirmed = tuple(f for f in judged.findings if f.kind in kinds)
    return dataclasses.replace(judged, findings=confirmed), None if confirmed else NOT_CONFIRMED


def _other_series(history: History, canary: CanarySet, base: str) -> str | None:
    """Why the runs in the history cannot be a baseline, in words; None without any."""
    runs = [r for r in history.runs(canary.pair) if r.state == "scored"]
    if not runs:
        return None
    if all(r.canary != canary.sha256 for r in runs):
        return "a new series: the canary set was changed"
    if all(r.base != base for r in runs if r.canary == canary.sha256):
        return "a new series: the earlier runs are of another base"
    return None


def _record(history: History, run: CanaryRun, translations: CanaryTranslations | None, alarms: Sequence[Alarm], keep: Sequence[str] = ()) -> Outcome:
    try:
        # A run needs its outputs to be a baseline.
        id = history.add(run, translations.outputs() if translations else None)
        opened, closed = history.update_alarms(run.pair, alarms, keep)
    except HistoryError as e:
        # An alarm is reported even if it cannot be recorded.
        return Outcome(run, tuple(alarms), tuple(alarms), (), e)
    return Outcome(dataclasses.replace(run, id=id), tuple(alarms), tuple(opened), tuple(closed))


# Reactions to an alarm


def roll_back(registry: Registry, history: History, outcome: Outcome) -> tuple[str | None, str]:
    """Promote the version before the one that the alarm is about. Returns (its id or None, a message that says what was done or why not)."""
    pair, version = outcome.run.pair, outcome.run.version
    kinds = [a.kind for a in outcome.alarms if a.kind in ON_TRANSLATIONS]
    if not kinds or version is None:
        return None, f"{pair}: not rolled back: the alarm is not about a version"
    state = registry.state(pair)
    if state.live != version:
        return None, f"{pair}: not rolled back: {version[:12]} is not live in the registry"
    if state.previous is None:
        return None, f"{pair}: not rolled back: there is no version before {version[:12]}"
    if history.alarmed(pair, state.previous):
        return None, f"{pair}: not rolled back: {state.previous[:12]}, the version before, raised an alarm too"
    why = f"alarm of the monitor ({', '.join(kinds)}): {outcome.alarms[0].text}"
    try:
        # A roll back on the condition that nobody has changed the pair since.
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
    """An alarm as it is posted, without the text of any segment. Chat systems show `text`."""
    return {
        "text": f"tellmt {line(alarm)}" + (f"; rolled back to {rolled_back[:12]}" if rolled_back else ""),
        "status": "resolved" if alarm.closed else "firing",
        "pair": alarm.pair, "version": alarm.version, "kind": alarm.kind, "reason": alarm.text, "rolled_back_to": rolled_back,
        "opened": alarm.opened, "closed": alarm.closed,
    }  # fmt: skip


def post(url: str, alarms: Sequence[Alarm], rolled_back: str | None = None) -> str | None:
    """POST each alarm as JSON. Returns what went wrong, without the address, which may hold a secret; None when the webhook accepted all."""
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
