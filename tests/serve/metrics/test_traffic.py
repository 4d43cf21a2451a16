"""What the live traffic looks like, as counts: by pair and version, beside the requests, and nothing of it after a version has gone."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.monitor.canary_sets import CanarySegment, CanarySet, content_hash, set_path, write_set
from eval.monitor.drift import WINDOW, divergence, profile_of, trigrams, unknown_letters
from eval.monitor.history import History
from serve.metrics.registry import Metrics
from serve.metrics.traffic import SAMPLED, Signals, language_of
from tell.languages import parse_pair
from tell.paths import monitor_dir
from tell.registry.registry import Registry
from tell.text.flags import Checked
from tests.conftest import ROOT
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Running, publish, running, until
from tests.support.watched import WORDS, QualityEngine, watched


def examples(column: int) -> list[str]:
    rows = [line.split("\t") for path in sorted((ROOT / "examples" / "en-is").glob("*.tsv")) for line in path.read_text().split("\n")[1:] if line]
    return [row[column] for row in rows]


# Drift


def test_divergence_tells_other_languages_and_other_words() -> None:
    english, icelandic = examples(1), examples(2)
    profile = profile_of(icelandic)
    half = trigrams(icelandic[::2])
    assert divergence(half, half) == 0.0 and divergence(half, half * 3) == pytest.approx(0)
    same, other = divergence(half, trigrams(icelandic[1::2])), divergence(trigrams(english), profile.counts)
    assert 0 < same < 0.15 < 0.3 < other < 1
    assert divergence(trigrams([]), half) == 0.0 and divergence([1, 0], [0, 1]) == 1.0
    # Those across two texts are none.
    assert trigrams(["ab", "cd"]).sum() == 0 and trigrams(["abcd"]).sum() == 2 and trigrams(["🌧🌧🌧"]).sum() == 1
    assert unknown_letters("Hæ Жук 12", frozenset("hæ")) == (3, 5)
    assert set("þæö") <= set(profile.letters) and profile.segments == len(icelandic)


def test_a_profile_says_what_is_usual() -> None:
    draw = random.Random(3)
    texts = [" ".join(draw.choices(list(WORDS), k=12)) for _ in range(6 * WINDOW // 60)]
    profile = profile_of(texts)
    assert profile.usual is not None and 0 < profile.usual < 0.02
    assert profile_of(texts[:10]).usual is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Í gær fórum við í sund og það var mjög gaman.", "source"),
        ("Yesterday we went swimming and it was great fun.", "target"),
        ("Gestern sind wir schwimmen gegangen, und es war sehr schön.", "other"),
        ("OK 12", None),
    ],
)
def test_the_language_of_the_input(text: str, language: str | None) -> None:
    assert language_of("is-en", text) == language


def test_a_set_that_is_read_again_does_not_begin_the_window_anew() -> None:
    metrics = Metrics()
    signals, profile = Signals(metrics), profile_of(examples(2))
    texts = [("is-en", "v", text) for text in examples(1) * 2]
    for at in range(0, len(texts), 64):
        signals.compare_with({"is-en": profile.model_copy()})
        signals._sample(texts[at : at + 64])
    assert 0.3 < (metrics.registry.get_sample_value("tellmt_input_drift_ratio", {"pair": "is-en"}) or 0) < 1
    signals.compare_with({})
    assert signals.now()[0][2]["drift"] is None


# In the service


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    root = tmp_path_factory.mktemp("bench")
    return light_base(root / "cache"), root


@pytest.fixture
def service(bench: Any, tmp_path: Path) -> Iterator[Running]:
    base, root = bench
    registry = Registry(tmp_path / "registry")
    publish(registry, light_adapter(root / "one", base, seed=1))
    segments = [CanarySegment(source=s, reference=s.upper()) for s in examples(2)[:100]]
    canary = CanarySet(pair="is-en", name="x", sha256=content_hash("is-en", segments, []), segments=tuple(segments), hard=(), profile=profile_of(examples(2)))
    home = monitor_dir()
    write_set(set_path(home, parse_pair("is-en")), canary, replace=False)
    with watched(base, registry, home, look=3600.0) as running_service:
        running_service.service.signals.compare_with({"is-en": canary.profile})  # type: ignore[dict-item]
        yield running_service


def test_what_is_counted(service: Running) -> None:
    version = service.service.versions.live["is-en"].adapter.id
    texts = [
        "Í gær fórum við í sund og það var mjög gaman.",
        "Yesterday we went swimming and it was great fun.",
        "hús og bók og Ж",
    ]
    service.texts(texts)
    service.texts(texts[:1])
    # In the background: not users' traffic.
    assert service.http.post("/api/v1/translate", json={"source": "is", "target": "en", "text": texts}, headers={"Priority": "u=7"}).status_code == 200
    until(lambda: service.metric("tellmt_input_language_segments_total", pair="is-en", language="source") == 2)
    labels = {"pair": "is-en", "version": version}
    assert service.metric("tellmt_answered_segments_total", **labels) == 4 and service.metric("tellmt_length_ratio_count", **labels) == 4
    assert service.metric("tellmt_input_language_segments_total", pair="is-en", language="target") == 1
    assert service.metric("tellmt_input_unknown_letters_total", pair="is-en") == 1
    assert service.metric("tellmt_translation_seconds_count", **labels) == 2
    state = until(lambda: (s := service.http.get("/api/v1/monitor").json()["pairs"][0]["signals"]) and s)
    assert sum(s["segments"] for s in state) == 4 and {s["version"] for s in state} == {version}
    flagged = next(s for s in state if s["flags"])
    assert set(flagged["flags"]) <= {"loop", "language", "copied", "length", "sentences"} and flagged["latency_p95"] >= flagged["latency_p50"] > 0
    # Kept, and without a word of the texts.
    history = History(monitor_dir() / "history.db")
    rows = until(lambda: (signals := history.signals("is-en", 10)) and sum(d["segments"] for _, _, d in signals) == 4 and signals)
    page = service.http.get("/metrics").text + service.http.get("/api/v1/monitor").text + json.dumps(rows)
    assert "sund" not in page and "swimming" not in page


def test_what_has_gone_is_told_no_more(service: Running, bench: Any) -> None:
    base, root = bench
    published = set()
    service.texts("hús")
    for seed in (0, 1, 3, 4):
        version = publish(service.follower.registry, light_adapter(root / f"gone-{seed}", base, seed=seed))
        published.add(version)
        # Each is to have answered: what follows too fast on another is never live.
        until(lambda version=version: service.status()["adapter"] == version)
        service.texts("hús")

    def exposed() -> set[str]:
        return {v for v in published if v in service.http.get("/metrics").text}

    # What answers, and what a roll back would bring.
    state = service.follower.registry.state("is-en")
    until(lambda: exposed() == {state.live, state.previous} and service.status()["adapter"] == state.live)


def test_it_costs_a_request_next_to_nothing() -> None:
    """Of a request of one sentence, which takes 20 ms at the least (a GPU), less than a hundredth: by the clock, and by what is put off."""
    signals = Signals(Metrics())
    translation, text = Checked("Hello world, this is a sentence.", 9, False, ("number",)), "Halló heimur, þetta er setning."
    began = time.thread_time()
    for _ in range(2000):
        signals.note("is-en", "a" * 32, text, translation)
        signals.took("is-en", "a" * 32, 0.1)
    assert (time.thread_time() - began) / 2000 < 0.01 * 0.02
    assert len(signals._recent) == SAMPLED


@pytest.mark.clock
def test_a_canary_run_gives_way(bench: Any, tmp_path: Path) -> None:
    base, root = bench
    registry = Registry(tmp_path / "registry")
    publish(registry, light_adapter(root / "low", base, seed=1))
    with running(base, registry, QualityEngine) as service:
        service.engine.delay = 0.05
        low = {"source": "is", "target": "en", "text": [f"hús {i}" for i in range(40)], "cache": False}
        answers: list[int] = []

        def ask() -> None:
            answers.append(service.http.post("/api/v1/translate", json=low, headers={"Priority": "u=7"}).status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: service.engine.running.total())
        # Never more of it in the engine than a user would not notice; and a user's document goes first, whole.
        most_running = 0
        began = time.monotonic()
        assert len(service.texts([f"bók {i}" for i in range(200)])) == 200
        seconds = time.monotonic() - began
        waits = thread.is_alive()
        while thread.is_alive():
            most_running = max(most_running, service.engine.running.total())
            time.sleep(0.005)
        thread.join()
    assert answers == [200] and most_running <= 4 and waits and seconds < 2
