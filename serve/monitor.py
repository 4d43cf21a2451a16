"""The monitor inside the service: samples the live traffic, runs canary sets at every deploy and on a schedule, and raises alarms.

Where the configuration enables it, it reads `<monitor>/canary/*.json` and writes `<monitor>/history.db`. Its failures (a locked history, a full disk, a
damaged set) are logged once and counted, and requests are answered all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Gauge

from eval.monitor.canary_sets import CanarySet, file_stamps, read_sets
from eval.monitor.history import Alarm, HistoryError
from eval.monitor.judge import ALARM_KINDS, AlarmThresholds
from eval.monitor.run_set import TranslatedPart, run_set
from eval.monitor.watch import Outcome, check_set, line, open_history, post, roll_back
from serve.config import MonitorConfig
from serve.logs import where
from tell.errors import EngineError, Overloaded, TellmtError

if TYPE_CHECKING:
    from serve.adapters.follower import Follower
    from serve.translation.service import Service

logger = logging.getLogger(__name__)

# Seconds between two tries of a part while the queue is full, and the number of tries.
PART_WAIT, PART_TRIES = 5.0, 12
# What can fail in the monitor: the label of its counter.
FAILURES = ("history", "canary_set", "webhook", "roll_back", "unexpected")


class MonitorMetrics:
    """The monitor's own Prometheus metrics."""

    def __init__(self, registry: Any, by_version: list[Any]):
        common = {"registry": registry}
        self.on = Gauge("tellmt_monitor_enabled", "1 where canary sets are run and a history is kept.", **common)
        self.score = Gauge("tellmt_canary_score", "BLEU and chrF2 of the newest canary run, 0 to 100.", ["pair", "version", "metric"], **common)
        self.delta = Gauge("tellmt_canary_chrf_delta", "Points of chrF2 of the newest canary run above its baseline.", ["pair", "version"], **common)
        self.flagged = Gauge("tellmt_canary_hard_flagged_ratio", "Share of the hard texts with a flag in the newest canary run.", ["pair", "version"], **common)
        self.last = Gauge("tellmt_canary_last_run_timestamp_seconds", "When a canary set was last translated and scored.", ["pair"], **common)
        self.runs = Counter("tellmt_canary_runs", "Canary runs of this process: clean, alarm, unreachable.", ["pair", "outcome"], **common)
        self.alarm = Gauge("tellmt_alarm", "1 while the alarm is on.", ["pair", "kind"], **common)
        self.failures = Counter("tellmt_monitor_failures", f"What the monitor could not do: {', '.join(FAILURES)}.", ["what"], **common)
        for part in FAILURES:
            self.failures.labels(part)
        by_version += [self.score, self.delta, self.flagged]


class Monitor:
    def __init__(self, config: MonitorConfig | None = None, rules: AlarmThresholds | None = None):
        self.config, self.rules = config or MonitorConfig(), rules or AlarmThresholds()
        self.history = open_history(self.config.home) if self.config.home else None
        self.sets: dict[str, CanarySet] = {}
        # The problems of now, by kind and what was being done; each is logged once.
        self.problems: dict[tuple[str, str], str] = {}
        # pair -> (the version of its last run, when that began in monotonic time)
        self._last_runs: dict[str, tuple[str, float]] = {}
        self._paused_until = 0.0
        self._file_stamps: dict[str, tuple[int, int]] = {}
        self._current_run: asyncio.Task[None] | None = None
        self._current_part: Future[TranslatedPart] | None = None
        self._stopped = False

    def attach(self, service: Service, follower: Follower) -> None:
        self.service, self.follower = service, follower
        self.gauges = MonitorMetrics(service.metrics.registry, service.metrics.by_version)
        self.gauges.on.set(self.history is not None)

    async def run(self) -> None:
        """Repeat the monitor's work until cancelled."""
        next_look = last_store = time.monotonic()
        try:
            while True:
                try:
                    await self.service.signals.look(self.service.queue.waiting())
                    now = time.monotonic()
                    if self.history is not None and now >= next_look:
                        next_look = now + self.config.look
                        await self._read_state()
                        self._start_due_run()
                    if now >= last_store + self.config.store:
                        last_store = now
                        await self._store_signals()
                except Exception as e:
                    # The monitor must not end silently while the service runs.
                    self._report_problem("unexpected", where(e))
                await asyncio.sleep(self.config.tick)
        finally:
            self._stopped = True
            for pending in (self._current_part, self._current_run):
                if pending is not None:
                    pending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*filter(None, [self._current_run]), return_exceptions=True)

    def _report_problem(self, part: str, problem: str, activity: str = "") -> None:
        self.gauges.failures.labels(part).inc()
        if problem not in self.problems.values():
            logger.error(f"monitor: {problem}")
        self.problems[part, activity] = problem

    def _clear_problem(self, part: str, activity: str = "") -> None:
        self.problems.pop((part, activity), None)

    # The history and the sets as they are now: `tellmt monitor` may have changed both.

    async def _read_state(self) -> None:
        assert self.config.home is not None and self.history is not None
        if (stamps := await asyncio.to_thread(file_stamps, self.config.home)) != self._file_stamps:
            old_pairs = self.sets.keys()
            self.sets, problems = await asyncio.to_thread(read_sets, self.config.home)
            self._file_stamps = stamps
            if problems:
                self._report_problem("canary_set", str(problems[0]))
            else:
                self._clear_problem("canary_set")
            for pair in old_pairs - self.sets.keys():
                self.gauges.alarm.remove_by_labels({"pair": pair})
            self.service.signals.compare_with({pair: canary.profile for pair, canary in self.sets.items() if canary.profile is not None})
        try:
            alarms, runs = await asyncio.to_thread(self._newest_runs)
        except HistoryError as e:
            return self._report_problem("history", str(e))
        self._clear_problem("history")
        open_alarms = {(a.pair, a.kind) for a in alarms}
        for pair in self.sets:
            for kind in ALARM_KINDS:
                self.gauges.alarm.labels(pair, kind).set((pair, kind) in open_alarms)
        for run in runs:
            live = self.service.versions.live.get(run.pair)
            if live is None or live.adapter.id != run.version:
                continue
            for metric, score in run.scores.items():
                self.gauges.score.labels(run.pair, run.version, metric).set(score["score"])
            self.gauges.delta.labels(run.pair, run.version).set(run.delta or 0.0)
            if texts_total := sum(n for _, n in run.hard.values()):
                self.gauges.flagged.labels(run.pair, run.version).set(sum(n for n, _ in run.hard.values()) / texts_total)
            self.gauges.last.labels(run.pair).set(run.time)

    def _newest_runs(self) -> tuple[list[Alarm], list[Any]]:
        assert self.history is not None
        runs = [next((r for r in reversed(self.history.runs(pair, 20)) if r.state == "scored"), None) for pair in self.sets]
        return self.history.alarms(open_only=True), [r for r in runs if r is not None]

    async def _store_signals(self) -> None:
        rows = self.service.signals.take()
        if self.history is None or not rows:
            return
        try:
            await asyncio.to_thread(self.history.add_signals, rows)
            self._clear_problem("history", "signals")
        except HistoryError as e:
            self._report_problem("history", str(e), "signals")

    # Canary runs, one at a time.

    def _start_due_run(self) -> None:
        now = time.monotonic()
        if (self._current_run is not None and not self._current_run.done()) or now < self._paused_until:
            return
        for pair, canary in sorted(self.sets.items()):
            # A pair that is not loaded is not loaded for its canary set: it would evict one that clients use.
            if (version := self.service.versions.live.get(pair)) is None:
                continue
            last_run = self._last_runs.get(pair)
            if last_run is None or last_run[0] != version.adapter.id or (self.config.every and now - last_run[1] >= self.config.every):
                self._last_runs[pair] = version.adapter.id, now
                self._current_run = asyncio.get_running_loop().create_task(self._run_set(canary))
                return

    async def _run_set(self, canary: CanarySet) -> None:
        loop = asyncio.get_running_loop()
        assert self.history is not None

        def translate_part(texts: list[str]) -> TranslatedPart:
            if self._stopped:
                raise CancelledError
            self._current_part = asyncio.run_coroutine_threadsafe(self._translate_part(canary, texts), loop)
            return self._current_part.result()

        try:
            # In a thread, since judging computes for a second, and the history is on disk.
            outcome = await asyncio.to_thread(check_set, self.history, canary, lambda: run_set(canary, translate_part), self.rules)
            await self._react(outcome)
        except HistoryError as e:
            self._report_problem("history", str(e), "runs")
            self._retry_later(canary.pair)
        except Exception as e:
            self._report_problem("unexpected", f"canary run of {canary.pair}: {where(e)}")

    def _retry_later(self, pair: str) -> None:
        """Make the run of a pair due again later, since the history did not take it."""
        self._last_runs.pop(pair, None)
        self._paused_until = time.monotonic() + self.config.retry

    async def _react(self, outcome: Outcome) -> None:
        """React to a run: log lines, metrics, a roll back, the webhook."""
        assert self.history is not None
        run = outcome.run
        self.gauges.runs.labels(run.pair, "unreachable" if run.state == "unreachable" else "alarm" if outcome.alarms else "clean").inc()
        changed_alarms = [*outcome.opened, *outcome.closed]
        for alarm in changed_alarms:
            logger.log(logging.INFO if alarm.closed else logging.WARNING, line(alarm), extra={"pair": alarm.pair, "version": alarm.version, "kind": alarm.kind})
        if outcome.history is None:
            self._clear_problem("history", "runs")
        else:
            self._report_problem("history", str(outcome.history), "runs")
            self._retry_later(run.pair)
            for alarm in outcome.alarms:
                self.gauges.alarm.labels(alarm.pair, alarm.kind).set(1)
        restored = None
        if outcome.alarms and run.version is not None and self.config.roll_back:
            try:
                restored, message = await asyncio.to_thread(roll_back, self.follower.registry, self.history, outcome)
                logger.warning(message, extra={"pair": run.pair, "version": run.version})
                self.follower.wake()
            except (TellmtError, OSError) as e:
                self._report_problem("roll_back", str(e))
        if changed_alarms and self.config.webhook and (problem := await asyncio.to_thread(post, self.config.webhook, changed_alarms, restored)):
            self._report_problem("webhook", problem)
        await self._read_state()

    async def _translate_part(self, canary: CanarySet, texts: list[str]) -> TranslatedPart:
        """The live version's translations of a part of the set, with the limits of a client's request. Waits while the queue is full."""
        from serve.translation.request import RequestOptions

        pair, seconds = canary.parsed, self.service.limits.timeout
        for tries_left in reversed(range(PART_TRIES)):
            options = RequestOptions("canary", seconds, asyncio.get_running_loop().time() + seconds, cache=False, background=True)
            try:
                async with asyncio.timeout(seconds), self.service.lease(pair.source.tag, pair.target.tag) as version:
                    translations = await self.service.translate(version, texts, options)
                    base = version.adapter.card.base.id
                    return TranslatedPart(version.adapter.id, base, [t.text for t in translations], [t.flags for t in translations])
            except TimeoutError:
                raise EngineError("a part of the canary set was not translated in time") from None
            except Overloaded:
                if not tries_left:
                    raise
                await asyncio.sleep(PART_WAIT)
        raise AssertionError
