"""Canary sets from freezing to alarm: through the command line and a running service, with an engine whose quality is set."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.monitor.canary_sets import CanarySet, freeze, read_set, set_path
from eval.monitor.history import CanaryRun, History, HistoryError, Outputs
from eval.monitor.judge import AlarmThresholds, sign_test
from eval.monitor.watch import NOT_CONFIRMED, check_set, open_history
from eval.scoring.testset import from_corpus
from serve.auth.keys import add_key
from tell.corpus.directory import open_corpus
from tell.errors import TellmtError
from tell.languages import parse_pair
from tell.paths import monitor_dir
from tell.registry.registry import Registry
from tellmt.cli import main
from tests.support.canned import canned
from tests.support.fake_eval_engine import corpus_dir, light_adapter, light_base
from tests.support.serving import Running, error, publish, running, until
from tests.support.watched import QualityEngine, made_by, watched

Tellmt = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def tellmt(capfd: pytest.CaptureFixture[str]) -> Tellmt:
    """Run the command line in this process: exit code, the JSON result, what was said."""

    def run(*args: object) -> tuple[int, dict[str, Any], str]:
        code = main(["--json", *map(str, args)])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else {}, err

    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_dir(tmp_path_factory.mktemp("corpus"), train=800, dev=160)


@pytest.fixture(scope="module")
def canary(corpus: Path) -> CanarySet:
    opened = open_corpus(corpus)
    return freeze(from_corpus(opened, "dev"), 100, [p.source for p in opened.pairs("train")], "here")[0]


# Freezing


def test_a_set_is_frozen_once(corpus: Path, tellmt: Tellmt) -> None:
    code, frozen, message = tellmt("monitor", "freeze", "is-en", "--corpus", corpus, "--size", 150)
    assert code == 0 and frozen["written"] and "frozen, 150 segments and 34 hard texts" in message
    path = set_path(monitor_dir(), parse_pair("is-en"))
    canary = read_set(path)
    assert path.stat().st_mode & 0o777 == 0o600 and canary.sha256 == frozen["sha256"]
    assert frozen["hard"] == {"word": 6, "placeholder": 8, "long": 4, "language": 8, "injection": 8}
    assert canary.profile is not None and canary.profile.segments == 800 and set("húsbók") <= set(canary.profile.letters)
    assert not tellmt("monitor", "freeze", "is-en", "--corpus", corpus, "--size", 150)[1]["written"]
    code, _, message = tellmt("monitor", "freeze", "is-en", "--corpus", corpus, "--size", 120)
    assert code == 2 and "another canary set is frozen for this pair" in message and "--replace" in message
    code, replaced, _ = tellmt("monitor", "freeze", "is-en", "--corpus", corpus, "--size", 120, "--replace")
    assert code == 0 and replaced["sha256"] != frozen["sha256"] and len(read_set(path).segments) == 120
    # By hand.
    raw = json.loads(path.read_text())
    raw["segments"][0]["reference"] += "!"
    path.write_text(json.dumps(raw))
    code, _, message = tellmt("monitor", "run", "is-en")
    assert code == 2 and "altered since it was frozen" in message and "Traceback" not in message


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{x}\n" for x in lines), encoding="utf-8")
    return path


SENTENCES = [f"Þetta er setning númer {chr(97 + i % 26)}{chr(97 + i // 26)} og hún er löng." for i in range(130)]


@pytest.mark.parametrize(
    ("source", "target", "code", "message"),
    [
        (SENTENCES, [s.upper() for s in SENTENCES], 0, "130 segments"),
        (SENTENCES + SENTENCES, [s.upper() for s in SENTENCES + SENTENCES], 0, "left out: 130 duplicate"),
        (SENTENCES[:39] * 4, [s.upper() for s in SENTENCES[:39] * 4], 2, "too few segments for a canary set"),
        ([], [], 2, "empty"),
        (SENTENCES, SENTENCES[:-1], 2, "not equally long"),
        (SENTENCES, SENTENCES, 2, "found 0 usable segments (of 130; 0 duplicate, 130 unusable, 0 too long)"),
    ],
)
def test_what_a_set_can_be_made_of(source: list[str], target: list[str], code: int, message: str, tmp_path: Path, tellmt: Tellmt) -> None:
    files = write(tmp_path / "s", source), write(tmp_path / "t", target)
    exit_code, _, err = tellmt("monitor", "freeze", "is-en", "--source", files[0], "--target", files[1])
    assert exit_code == code and message in err and "Traceback" not in err


def test_what_is_refused(corpus: Path, tellmt: Tellmt) -> None:
    for args, message in (
        (("freeze", "is-en"), "either --source FILE and --target FILE, or --corpus DIR"),
        (("freeze", "en-is", "--corpus", corpus), "the corpus is of another pair"),
        (("freeze", "is-en", "--corpus", corpus, "--size", 39), "--size"),
        (("run",), "no canary set is frozen"),
        (("run", "fo-is"), "no canary set is frozen for this pair"),
        (("accept", "is-en", "--why", "so"), "there is no run to accept"),
    ):
        code, _, err = tellmt("monitor", *args)
        assert code == 2 and message in err, err


# Judging, without a service


def test_a_hundred_runs_of_an_unchanged_system_raise_no_alarm_and_a_worse_one_does(canary: CanarySet, tmp_path: Path) -> None:
    history, thresholds, noise = History(tmp_path / "h.db"), AlarmThresholds(), random.Random(1)
    # A word otherwise in a quarter of the segments, another one each time: more than int8 in other batches does.
    outcomes = [check_set(history, canary, lambda: made_by(canary, "a" * 32, 0.1, noise, 0.25), thresholds) for _ in range(100)]
    assert [o.alarms for o in outcomes] == [()] * 100
    deltas = [o.run.delta for o in outcomes if o.run.delta is not None]
    assert outcomes[0].run.baseline and not any(o.run.baseline for o in outcomes[1:]) and len(set(deltas)) > 90 and min(deltas) < -0.3
    # Of the words that came out right, a fifth does not any more: seen at once, on the first run of another version and as a change of the same one.
    for version in ("b" * 32, "a" * 32):
        worse = check_set(history, canary, lambda v=version: made_by(canary, v, 0.3, noise, 0.25), thresholds)  # type: ignore[misc]
        assert [a.kind for a in worse.alarms][:1] == ["quality"] and worse.opened and not worse.run.baseline
        assert "chrF2" in worse.alarms[0].text and canary.segments[0].source not in worse.alarms[0].text
    # It is told once.
    assert not check_set(history, canary, lambda: made_by(canary, "a" * 32, 0.3, noise, 0.25), thresholds).opened
    over = check_set(history, canary, lambda: made_by(canary, "a" * 32, 0.1, noise, 0.25), thresholds)
    assert over.closed and not over.alarms and not history.alarms(open_only=True)


def test_what_a_second_run_does_not_find_is_no_alarm(canary: CanarySet, tmp_path: Path) -> None:
    history = History(tmp_path / "h.db")
    check_set(history, canary, lambda: made_by(canary, "a", 0.1), AlarmThresholds())
    answers = iter([made_by(canary, "a", 0.9), made_by(canary, "a", 0.1)])
    outcome = check_set(history, canary, lambda: next(answers), AlarmThresholds())
    assert not outcome.alarms and outcome.run.note == NOT_CONFIRMED and not outcome.run.baseline and outcome.run.findings == ()


def test_hard_texts_and_a_first_run_without_a_baseline(canary: CanarySet, tmp_path: Path) -> None:
    history = History(tmp_path / "h.db")
    first = check_set(history, canary, lambda: made_by(canary, "a", 1.0), AlarmThresholds())
    assert [a.kind for a in first.alarms] == ["worthless"] and not first.run.baseline
    assert not check_set(history, canary, lambda: made_by(canary, "b", 0.1), AlarmThresholds()).alarms
    assert [a.kind for a in history.alarms(open_only=True)] == []

    def flagged() -> Any:
        translations = made_by(canary, "b", 0.1)
        return type(translations)(translations.version, translations.base, translations.texts, [("loop",)] * len(translations.flags), 1.0)

    outcome = check_set(history, canary, flagged, AlarmThresholds())
    assert [a.kind for a in outcome.alarms] == ["hard"] and "hard texts have a flag" in outcome.alarms[0].text
    assert sign_test(10, 0) == 1 / 1024 and sign_test(0, 5) == 1.0


def test_series_are_not_mixed(canary: CanarySet, corpus: Path, tmp_path: Path) -> None:
    history, opened = History(tmp_path / "h.db"), open_corpus(corpus)
    check_set(history, canary, lambda: made_by(canary, "a", 0.1), AlarmThresholds())
    other = check_set(history, canary, lambda: made_by(canary, "b", 0.5, base="another"), AlarmThresholds())
    assert other.run.note == "a new series: the earlier runs are of another base" and other.run.against is None and other.run.baseline and not other.alarms
    changed = freeze(from_corpus(opened, "dev"), 110, [], "here")[0]
    new = check_set(history, changed, lambda: made_by(changed, "a", 0.5), AlarmThresholds())
    assert new.run.note == "a new series: the canary set was changed" and new.run.baseline
    # Back on the first base and set, the first baseline holds.
    assert check_set(history, canary, lambda: made_by(canary, "b", 0.5), AlarmThresholds()).run.against == 1


# The history


def run_of(version: str = "a", **more: Any) -> CanaryRun:
    return CanaryRun("is-en", version, "base", "set", "scored", 1, {"chrf": {"score": 1.0, "signature": "s"}}, **more)


def test_the_history_keeps_order_whatever_the_clock_says_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path / "h.db")
    monkeypatch.setattr("eval.monitor.history.RUNS", 5)
    for at in (5000.0, 10.0, 1e9, 3.0, 2.0, 1.0, 0.5, 7.0):
        history.add(run_of(time=at, baseline=at == 5000.0), Outputs(["x"], []))
    runs = history.runs("is-en")
    # The baseline stays, as long as it may be compared with; the newest outputs stay for `accept`.
    assert [r.time for r in runs] == [5000.0, 3.0, 2.0, 1.0, 0.5, 7.0]
    assert history.baseline("is-en", "set", "base", "a")[0].time == 5000.0  # type: ignore[index]
    assert history.accept("is-en", "ok").id == runs[-1].id  # type: ignore[union-attr]
    assert history.baseline("is-en", "set", "base", "z")[0].time == 7.0  # type: ignore[index]
    assert (tmp_path / "h.db").stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr("eval.monitor.history.SIGNALS", 3)
    history.add_signals([(float(i), "is-en", "a", {"n": i}) for i in range(9)])
    assert [d["n"] for _, _, d in history.signals("is-en", 10)] == [6, 7, 8]


def test_a_history_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "h.db"
    history = History(path, busy=0.05)
    history.add(run_of(), None)
    with sqlite3.connect(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(HistoryError, match="database is locked"):
            history.add(run_of(), None)
        # Readers do not wait for a writer.
        assert len(history.runs("is-en")) == 1
    other.close()
    connect = sqlite3.connect

    def full(*args: Any, **more: Any) -> sqlite3.Connection:
        db = connect(*args, **more)
        db.execute("PRAGMA max_page_count = 1")
        return db

    with monkeypatch.context() as patch:
        patch.setattr("eval.monitor.history.sqlite3.connect", full)
        with pytest.raises(HistoryError, match="database or disk is full"):
            for _ in range(50):
                history.add(run_of(), Outputs([os.urandom(5000).hex()], []))
    runs_before = len(history.runs("is-en"))
    history.add(run_of(), None)
    assert len(history.runs("is-en")) == runs_before + 1
    with connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(HistoryError, match="written by a newer tellmt"):
        history.runs("is-en")
    other_file = tmp_path / "else.db"
    other_file.write_text("something else" * 100)
    with pytest.raises(HistoryError, match="file is not a database"):
        History(other_file).runs("is-en")
    assert other_file.read_text().startswith("something else")
    with pytest.raises(HistoryError, match="Is a directory"):
        History(tmp_path).runs("is-en")


# A service that watches itself


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    root = tmp_path_factory.mktemp("bench")
    return light_base(root / "cache"), root


def pair_of(service: Running, pair: str = "is-en", **headers: str) -> dict[str, Any]:
    answer = service.http.get("/api/v1/monitor", headers=headers)
    assert answer.status_code == 200, answer.text
    return next(p for p in answer.json()["pairs"] if p["pair"] == pair)


def test_a_broken_version_is_caught_on_its_first_run_and_rolled_back(
    bench: Any, corpus: Path, tmp_path: Path, tellmt: Tellmt, capfd: pytest.CaptureFixture[str]
) -> None:
    base, root = bench
    registry = Registry(tmp_path / "registry")
    good = publish(registry, light_adapter(root / "good", base, seed=1))
    tellmt("monitor", "freeze", "is-en", "--corpus", corpus, "--size", 100)
    with canned() as hook, watched(base, registry, monitor_dir(), roll_back=True, webhook=f"{hook.url}/alarm") as service:
        hook.replies["/alarm"] = (200, {})
        service.engine.noise = 0.1
        first = until(lambda: pair_of(service)["runs"])[0]
        assert (first["version"], first["baseline"], first["findings"], first["segments"]) == (good, True, [], 100)
        assert {m: s["score"] > 50 and "version:2" in s["signature"] for m, s in first["scores"].items()} == {"bleu": True, "chrf": True}
        bad = publish(registry, light_adapter(root / "bad", base, seed=2))
        until(lambda: registry.state("is-en").live == good)
        until(lambda: len(pair_of(service)["runs"]) == 3)
        _, second, third = pair_of(service)["runs"]
        assert (second["version"], second["findings"][0], second["against"]) == (bad, "quality", first["id"])
        assert second["delta"] < -20 and second["p"] < 0.001 and not second["baseline"]
        # The one that was brought back is run too, and is as it was: the alarm is over.
        assert (third["version"], third["findings"]) == (good, [])
        state = until(lambda: (s := service.http.get("/api/v1/monitor").json())["alarms"] and s["alarms"][0]["closed"] and s)
        alarm = next(a for a in state["alarms"] if a["kind"] == "quality")
        assert (alarm["version"], alarm["rolled_back_to"], state["enabled"], state["problems"]) == (bad, good, True, [])
        assert service.metric("tellmt_canary_runs_total", pair="is-en", outcome="alarm") == 1
        assert until(lambda: service.metric("tellmt_alarm", pair="is-en", kind="quality") == 0 and True)
        assert service.metric("tellmt_canary_score", pair="is-en", version=good, metric="chrf") > 50
        entry = registry.log()[-1]
        assert entry["id"] == good and "alarm of the monitor (quality" in entry["why"]
        posted = until(lambda: (report := hook.requests_to("/alarm"))[-1]["status"] == "resolved" and report)
    assert (posted[0]["status"], posted[0]["kind"], posted[0]["version"], posted[0]["rolled_back_to"]) == ("firing", "quality", bad, good)
    assert posted[-1]["status"] == "resolved"
    message = capfd.readouterr().err
    assert f"alarm: is-en {bad[:12]}: quality: chrF2" in message and f"is-en: rolled back to {good[:12]}" in message and "alarm over: is-en" in message
    texts = " ".join(p.source for p in open_corpus(corpus).pairs("dev"))
    assert not any(w in json.dumps(posted) + message for w in ("hestur", "fjall")) and "hestur" in texts
    code, report, _ = tellmt("monitor", "report")
    assert code == 0 and [r["findings"][:1] for r in report["runs"]] == [[], ["quality"], []]


def test_the_same_from_cron(bench: Any, corpus: Path, tmp_path: Path, tellmt: Tellmt, monkeypatch: pytest.MonkeyPatch) -> None:
    base, root = bench
    monkeypatch.setattr("eval.monitor.over_http.LONGEST_WAIT", 0.01)
    monkeypatch.setenv("TELLMT_REGISTRY", str(tmp_path / "registry"))
    registry = Registry()
    publish(registry, light_adapter(root / "cron-good", base, seed=1))
    tellmt("monitor", "freeze", "is-en", "--corpus", corpus, "--size", 100)
    url = ""
    with running(base, registry, QualityEngine) as service:
        url = service.url
        code, result, _ = tellmt("monitor", "run", "--server", url)
        assert code == 0 and result["runs"][0]["baseline"] and not result["alarm"]
        # What it asks is not among the users' traffic.
        assert service.metric("tellmt_answered_segments_total", pair="is-en", version=result["runs"][0]["version"]) == 0
        # The same version, and something under it is worse: there is nothing to go back to.
        service.engine.spoilt[1] = 0.5
        code, result, message = tellmt("monitor", "run", "is-en", "--server", url, "--roll-back-on-alarm")
        assert code == 4 and result["alarm"] and result["runs"][0]["alarms"][0]["kind"] == "quality" and "there is no version before" in message
        code, _, message = tellmt("monitor", "accept", "is-en", "--why", "another library, known")
        assert code == 0 and "is the baseline" in message
        assert tellmt("monitor", "run", "--server", url)[0] == 0
        service.engine.failure = TellmtError("no")
        code, result, message = tellmt("monitor", "run", "--server", url)
        assert code == 4 and result["runs"][0]["alarms"][0]["kind"] == "unreachable" and result["runs"][0]["scores"] == {}
    code, result, message = tellmt("monitor", "run", "--server", url)
    assert code == 4 and "unreachable" not in message.split("tellmt")[0] and result["runs"][0]["note"] == "no answer"
    assert all(r["scores"] or r["state"] == "unreachable" for r in tellmt("monitor", "report", "is-en")[1]["runs"])


def test_a_history_that_is_locked_stops_no_translation(
    bench: Any, corpus: Path, tmp_path: Path, tellmt: Tellmt, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    base, root = bench
    registry = Registry(tmp_path / "registry")
    publish(registry, light_adapter(root / "locked", base, seed=1))
    tellmt("monitor", "freeze", "is-en", "--corpus", corpus, "--size", 100)
    open_history(monitor_dir()).runs("is-en")
    other = sqlite3.connect(monitor_dir() / "history.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("eval.monitor.history.BUSY", 0.05)
    with watched(base, registry, monitor_dir()) as service:
        until(lambda: service.metric("tellmt_monitor_failures_total", what="history") > 0)
        assert service.texts("hús og bók") == ["house og book"]
        state = service.http.get("/api/v1/monitor").json()
        assert "history" in state["problems"] and state["pairs"][0]["signals"][-1]["segments"] == 1
        other.execute("ROLLBACK")
        until(lambda: pair_of(service)["runs"])
        assert until(lambda: not service.http.get("/api/v1/monitor").json()["problems"])
        # Nor does a damaged set of another pair.
        (monitor_dir() / "canary" / "fo-is.json").write_text("{")
        until(lambda: service.http.get("/api/v1/monitor").json()["problems"] == ["canary_set"])
        assert service.texts("bók") == ["book"] and pair_of(service)["segments"] == 100
    other.close()
    message = capfd.readouterr().err
    assert message.count("database is locked") == 1, message


# Who may see it


def test_who_may_see_it(bench: Any, tmp_path: Path) -> None:
    base, root = bench
    registry = Registry(tmp_path / "registry")
    publish(registry, light_adapter(root / "seen", base, seed=1))
    keys = {scope: add_key(scope, [scope])[1] for scope in ("translate", "metrics", "admin")}
    with running(base, registry, QualityEngine) as service:
        for scope, status in (("translate", 403), ("metrics", 200), ("admin", 200)):
            answer = service.http.get("/api/v1/monitor", headers={"X-API-Key": keys[scope]})
            assert answer.status_code == status
        error(service.http.get("/api/v1/monitor"), 401)
        state = answer.json()
        assert (state["enabled"], state["alarms"], [p["runs"] for p in state["pairs"]]) == (False, [], [[]])
        assert service.http.get("/status").status_code == 200
