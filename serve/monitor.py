"""The monitor inside the service: looks at the live traffic, runs canary sets at every deploy and on a schedule, raises alarms.

Reads `<monitor>/canary/*.json`, writes `<monitor>/history.db`, where it is asked to. It stands beside the requests: whatever fails here (a locked history, a
full disk, a damaged set) is said once and counted, and translating goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Gauge

from eval.monitor.canary_sets import CanarySet, all_sets, stamps
from eval.monitor.history import Alarm, HistoryError
from eval.monitor.judge import ALARM_KINDS, Rules
from eval.monitor.run_set import TranslatedPart, run_set
from eval.monitor.watch import Outcome, line, open_history, post, roll_back, watch
from serve.config import MonitorConfig
from serve.logs import where
from tell.errors import EngineError, Overloaded, TellmtError

if TYPE_CHECKING:
    from serve.adapters.follower import Follower
    from serve.translation.service import Service

logger = logging.getLogger(__name__)

# Seconds between two tries of a part that found no room, and how many there are.
WAIT, TRIES = 5.0, 12
# What can fail in here, as it is counted.
FAILURES = ("history", "canary_set", "webhook", "roll_back", "unexpected")


class Gauges:
    """What the monitor counts, beside the signals."""

    def __init__(self, registry: Any, by_version: list[Any]):
        kept = {"registry": registry}
        self.on = Gauge("tellmt_monitor_enabled", "1 where canary sets are run and a history is kept.", **kept)
        self.score = Gauge("tellmt_canary_score", "BLEU and chrF2 of the newest canary run, 0 to 100.", ["pair", "version", "metric"], **kept)
        self.delta = Gauge("tellmt_canary_chrf_delta", "Points of chrF2 of the newest canary run above its baseline.", ["pair", "version"], **kept)
        self.flagged = Gauge("tellmt_canary_hard_flagged_ratio", "Share of the hard texts with a flag in the newest canary run.", ["pair", "version"], **kept)
        self.last = Gauge("tellmt_canary_last_run_timestamp_seconds", "When a canary set was last translated and scored.", ["pair"], **kept)
        self.runs = Counter("tellmt_canary_runs", "Canary runs of this process: clean, alarm, unreachable.", ["pair", "outcome"], **kept)
        self.alarm = Gauge("tellmt_alarm", "1 while the alarm is on.", ["pair", "kind"], **kept)
        self.failures = Counter("tellmt_monitor_failures", f"What the monitor could not do: {', '.join(FAILURES)}.", ["what"], **kept)
        for what in FAILURES:
            self.failures.labels(what)
        by_version += [self.score, self.delta, self.flagged]


class Monitor:
    def __init__(self, config: MonitorConfig | None = None, rules: Rules | None = None):
        self.config, self.rules = config or MonitorConfig(), rules or Rules()
        self.history = open_history(self.config.home) if self.config.home else None
        self.sets: dict[str, CanarySet] = {}
        # What is wrong now, by kind and what was being done: said once.
        self.problems: dict[tuple[str, str], str] = {}
        # Of each pair: the version that was last run, and when in the loop's time.
        self._ran: dict[str, tuple[str, float]] = {}
        self._resting = 0.0
        self._stamps: dict[str, tuple[int, int]] = {}
        self._running: asyncio.Task[None] | None = None
        self._part: Future[TranslatedPart] | None = None
        self._ended = False

    def attach(self, service: Service, follower: Follower) -> None:
        self.service, self.follower = service, follower
        self.gauges = Gauges(service.metrics.registry, service.metrics.by_version)
        self.gauges.on.set(self.history is not None)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        look = kept = time.monotonic()
        try:
            while True:
                try:
                    await self.service.signals.look(self.service.queue.waiting())
                    now = time.monotonic()
                    if self.history is not None and now >= look:
                        look = now + self.config.look
                        await self._read()
                        self._begin()
                    if now >= kept + self.config.kept:
                        kept = now
                        await self._keep()
                except Exception as e:
                    # One that dies would leave the service unwatched without a word.
                    self._failed("unexpected", where(e))
                await asyncio.sleep(self.config.tick)
        finally:
            self._ended = True
            for work in (self._part, self._running):
                if work is not None:
                    work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*filter(None, [self._running]), return_exceptions=True)

    def _failed(self, what: str, problem: str, doing: str = "") -> None:
        self.gauges.failures.labels(what).inc()
        if problem not in self.problems.values():
            logger.error(f"monitor: {problem}")
        self.problems[what, doing] = problem

    def _worked(self, what: str, doing: str = "") -> None:
        self.problems.pop((what, doing), None)

    # The history and the sets, as they are now: `tellmt monitor` may have changed both.

    async def _read(self) -> None:
        assert self.config.home is not None and self.history is not None
        if (stamped := await asyncio.to_thread(stamps, self.config.home)) != self._stamps:
            before = self.sets.keys()
            self.sets, problems = await asyncio.to_thread(all_sets, self.config.home)
            self._stamps = stamped
            if problems:
                self._failed("canary_set", str(problems[0]))
            else:
                self._worked("canary_set")
            for pair in before - self.sets.keys():
                self.gauges.alarm.remove_by_labels({"pair": pair})
            self.service.signals.compare_with({pair: canary.profile for pair, canary in self.sets.items() if canary.profile is not None})
        try:
            alarms, newest = await asyncio.to_thread(self._newest)
        except HistoryError as e:
            return self._failed("history", str(e))
        self._worked("history")
        on = {(a.pair, a.kind) for a in alarms}
        for pair in self.sets:
            for kind in ALARM_KINDS:
                self.gauges.alarm.labels(pair, kind).set((pair, kind) in on)
        for run in newest:
            live = self.service.versions.live.get(run.pair)
            if live is None or live.adapter.id != run.version:
                continue
            for metric, score in run.scores.items():
                self.gauges.score.labels(run.pair, run.version, metric).set(score["score"])
            self.gauges.delta.labels(run.pair, run.version).set(run.delta or 0.0)
            if of := sum(n for _, n in run.hard.values()):
                self.gauges.flagged.labels(run.pair, run.version).set(sum(n for n, _ in run.hard.values()) / of)
            self.gauges.last.labels(run.pair).set(run.time)

    def _newest(self) -> tuple[list[Alarm], list[Any]]:
        assert self.history is not None
        runs = [next((r for r in reversed(self.history.runs(pair, 20)) if r.state == "scored"), None) for pair in self.sets]
        return self.history.alarms(open_only=True), [r for r in runs if r is not None]

    async def _keep(self) -> None:
        rows = self.service.signals.take()
        if self.history is None or not rows:
            return
        try:
            await asyncio.to_thread(self.history.add_signals, rows)
            self._worked("history", "signals")
        except HistoryError as e:
            self._failed("history", str(e), "signals")

    # Canary runs, one at a time.

    def _begin(self) -> None:
        now = time.monotonic()
        if (self._running is not None and not self._running.done()) or now < self._resting:
            return
        for pair, canary in sorted(self.sets.items()):
            # One that is not loaded is not loaded for this: it would put out another that is asked for.
            if (version := self.service.versions.live.get(pair)) is None:
                continue
            last = self._ran.get(pair)
            if last is None or last[0] != version.adapter.id or (self.config.every and now - last[1] >= self.config.every):
                self._ran[pair] = version.adapter.id, now
                self._running = asyncio.get_running_loop().create_task(self._one(canary))
                return

    async def _one(self, canary: CanarySet) -> None:
        loop = asyncio.get_running_loop()
        assert self.history is not None

        def translate_part(texts: list[str]) -> TranslatedPart:
            if self._ended:
                raise CancelledError
            self._part = asyncio.run_coroutine_threadsafe(self._translate_part(canary, texts), loop)
            return self._part.result()

        try:
            # Judging takes a second of arithmetic: in a thread, as is all that touches the disk.
            outcome = await asyncio.to_thread(watch, self.history, canary, lambda: run_set(canary, translate_part), self.rules)
            await self._follow(outcome)
        except HistoryError as e:
            self._failed("history", str(e), "runs")
            self._later(canary.pair)
        except Exception as e:
            self._failed("unexpected", f"canary run of {canary.pair}: {where(e)}")

    def _later(self, pair: str) -> None:
        """Let a run that could not be kept be due again in a while."""
        self._ran.pop(pair, None)
        self._resting = time.monotonic() + self.config.retry

    async def _follow(self, outcome: Outcome) -> None:
        """What a run leads to: lines in the log, numbers, a roll back, a word to whoever is to be told."""
        assert self.history is not None
        run = outcome.run
        self.gauges.runs.labels(run.pair, "unreachable" if run.state == "unreachable" else "alarm" if outcome.alarms else "clean").inc()
        told = [*outcome.opened, *outcome.closed]
        for alarm in told:
            logger.log(logging.INFO if alarm.closed else logging.WARNING, line(alarm), extra={"pair": alarm.pair, "version": alarm.version, "kind": alarm.kind})
        if outcome.history is None:
            self._worked("history", "runs")
        else:
            self._failed("history", str(outcome.history), "runs")
            self._later(run.pair)
            for alarm in outcome.alarms:
                self.gauges.alarm.labels(alarm.pair, alarm.kind).set(1)
        back = None
        if outcome.alarms and run.version is not None and self.config.roll_back:
            try:
                back, said = await asyncio.to_thread(roll_back, self.follower.registry, self.history, outcome)
                logger.warning(said, extra={"pair": run.pair, "version": run.version})
                self.follower.wake()
            except (TellmtError, OSError) as e:
                self._failed("roll_back", str(e))
        if told and self.config.webhook and (problem := await asyncio.to_thread(post, self.config.webhook, told, back)):
            self._failed("webhook", problem)
        await self._read()

    async def _translate_part(self, canary: CanarySet, texts: list[str]) -> TranslatedPart:
        """The live version's translations of some of the set, asked for as from outside; patient while there is no room."""
        from serve.translation.request import Ask

        pair, seconds = canary.parsed, self.service.limits.timeout
        for left in reversed(range(TRIES)):
            ask = Ask("canary", seconds, asyncio.get_running_loop().time() + seconds, cache=False, low=True)
            try:
                async with asyncio.timeout(seconds), self.service.lease(pair.source.tag, pair.target.tag) as version:
                    translations = await self.service.translate(version, texts, ask)
                    base = version.adapter.card.base.id
                    return TranslatedPart(version.adapter.id, base, [t.text for t in translations], [t.flags for t in translations])
            except TimeoutError:
                raise EngineError("a part of the canary set was not translated in time") from None
            except Overloaded:
                if not left:
                    raise
                await asyncio.sleep(WAIT)
        raise AssertionError
