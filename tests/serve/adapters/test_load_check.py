"""Golden sentences: made when an adapter is published, and what it must come up to before it answers for anyone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import WEIGHTS, adapter_id, read_card
from tell.adapter.golden import Golden, Sentence
from tell.registry.registry import Registry
from tellmt.cli import main
from tests.conftest import ROOT
from tests.serve.adapters.test_follower import Bench, bench, live, refused, serving_one  # noqa: F401
from tests.support.fake_eval_engine import make_bench
from tests.support.serving import Running, running, until

# What `FakeEngine` makes of a sentence that begins with "golden", by an adapter of this seed.
SEED = 7
SOURCES = [f"golden setning númer {i} um veðrið og færðina í dag" for i in range(8)]


def golden(outputs: list[str] | None = None, exact: str | None = "fake 1") -> Golden:
    golden_outputs = outputs or [f"<{SEED}>{s}" for s in SOURCES]
    return Golden(engine="fake", versions={}, exact=exact, sentences=tuple(Sentence(source=s, output=o) for s, o in zip(SOURCES, golden_outputs, strict=True)))


def publish(bench: Bench, golden_sentences: Golden, seed: int = SEED) -> str:  # noqa: F811
    adapter = bench.adapter(seed=seed)
    id = bench.registry.add(adapter.path, adapter.card.model_copy(update={"golden": golden_sentences}))
    bench.registry.promote("is-en", id, "test")
    return id


def outputs(right: int) -> list[str]:
    """So many as published, the others nothing like it."""
    return [f"<{SEED}>{s}" if i < right else "xq zv wk jj" for i, s in enumerate(SOURCES)]


@pytest.mark.parametrize(
    ("golden_sentences", "goes_live"),
    [
        (golden(), True),
        # By the same engine every one must be the same.
        (golden(outputs(7)), False),
        # By another one half of them, or all of them nearly.
        (golden(outputs(7), exact="fake 0"), True),
        (golden(outputs(4), exact=None), True),
        (golden([f"<{SEED}>{s}."[:-3] for s in SOURCES], exact=None), True),
        (golden(outputs(1), exact=None), False),
        (golden(["þetta er allt annað"] * 8, exact="fake 0"), False),
    ],
)
def test_golden_sentences(bench: Bench, golden_sentences: Golden, goes_live: bool) -> None:  # noqa: F811
    with serving_one(bench) as (service, old):
        new = publish(bench, golden_sentences)
        if goes_live:
            until(lambda: live(service, new))
            assert service.texts("a") == [f"<{new[:8]}>a"]
        else:
            refused(service, new, old, "the golden sentences come out otherwise than when the adapter was published")
            assert "golden setning" not in service.status()["reason"]


def test_an_adapter_that_loads_and_answers_like_the_base(bench: Bench) -> None:  # noqa: F811
    with serving_one(bench) as (service, old):
        new = publish(bench, golden([f"<base>{s}" for s in SOURCES]), seed=13)
        refused(service, new, old, "the adapter does not act: every golden sentence came out as from the bare base")


def test_sentences_too_long_for_the_context_are_left_out(bench: Bench) -> None:  # noqa: F811
    golden_sentences = golden()
    long = Sentence(source="golden " + "þ" * 900, output="b")
    with serving_one(bench) as (service, _):
        new = publish(bench, golden_sentences.model_copy(update={"sentences": (long, *golden_sentences.sentences)}))
        until(lambda: live(service, new))


def test_loaded_again_it_must_still_act(bench: Bench) -> None:  # noqa: F811
    """A version that was proved is proved by one sentence when it comes back, and refused if the engine has lost it."""
    from serve.config import Limits

    old = publish(bench, golden())
    bench.publish("fo-is", seed=1)
    with running(bench.base, bench.registry, limits=Limits(context=2048, adapters=2, stay=0.0)) as service:
        assert service.status("is-en")["state"] == "cold" and service.texts("a") == [f"<{old[:8]}>a"]
        assert service.texts("a", source="fo", target="is")
        calls = len(service.engine.calls)
        assert service.texts("b") == [f"<{old[:8]}>b"]
        assert [n for _, n in service.engine.calls[calls:]] == [1, 1]
        assert service.texts("b", source="fo", target="is")
        service.call(forget(service, old))
        answer = service.translate("c")
        assert answer.status_code == 503 and "does not act any more" in answer.json()["error"]


async def forget(service: Running, id: str) -> None:
    """Let the engine load this adapter as one that does nothing."""
    load = service.engine.load

    async def without(adapter_id: str, path: Path) -> None:
        await load(adapter_id, path)
        if adapter_id == id:
            service.engine._loaded[adapter_id] = 13

    service.engine.load = without


def test_values_that_are_no_numbers_reach_no_engine(bench: Bench) -> None:  # noqa: F811
    from tell.adapter.card import write_card
    from tell.files import sha256_file

    adapter = bench.adapter(seed=2)
    raw = bytearray((adapter.path / WEIGHTS).read_bytes())
    raw[-4:] = b"\x00\x00\xc0\x7f"
    (adapter.path / WEIGHTS).write_bytes(raw)
    card = adapter.card.model_copy(update={"files": {**adapter.card.files, WEIGHTS: sha256_file(adapter.path / WEIGHTS)}})
    write_card(adapter.path, card)
    new = adapter_id(card)
    with serving_one(bench) as (service, old):
        shutil.copytree(adapter.path, bench.registry.root / "adapters" / new)
        bench.pair_file().write_text(json.dumps({"pair": "is-en", "live": new, "generation": 7}))
        refused(service, new, old, "not numbers")
        assert service.engine.loads == [old]


# What publishing puts on the card


@pytest.fixture
def tellmt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def run(*args: object) -> dict[str, Any]:
        code = main(["--json", *map(str, args)])
        printed, err = capsys.readouterr()
        assert code == 0, err
        return dict(json.loads(printed))

    return run


def test_publish_writes_them_and_writes_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tellmt: Any) -> None:
    eval_bench = make_bench(tmp_path, monkeypatch)
    adapter = eval_bench.adapter("good", 1)
    id = tellmt("publish", adapter.path, "--corpus", eval_bench.corpus)["id"]
    card = Registry().adapter(id).card
    assert card.golden is not None and len(card.golden.sentences) == 8 and card.golden.exact is None
    dev = {s for s in eval_bench.known if " dev " in s}
    for sentence in card.golden.sentences:
        assert sentence.source in dev and sentence.output != sentence.source
    # They were asked for together, as a canary asks for them.
    assert eval_bench.calls[-1] == (1, 8)
    # Published again elsewhere it has the same id, and the engine is not asked for them again.
    shutil.rmtree(Registry().root)
    eval_bench.calls.clear()
    assert tellmt("publish", adapter.path, "--corpus", eval_bench.corpus)["id"] == id and eval_bench.calls == []


def test_publish_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tellmt: Any) -> None:
    eval_bench = make_bench(tmp_path, monkeypatch)
    id = tellmt("publish", eval_bench.adapter("good", 1).path, "--corpus", eval_bench.corpus, "--no-golden")["id"]
    raw = (Registry().path(id) / "card.json").read_text()
    assert Registry().adapter(id).card.golden is None and "golden" not in json.loads(raw)


def test_published_cards_keep_their_ids() -> None:
    """Two that came with tellmt: is-en as it was before cards had golden sentences, en-is as it was published since, with them. Neither has hints."""
    golden = ROOT / "tests" / "golden" / "cards"
    cards = {pair: read_card(golden / pair) for pair in ("is-en", "en-is")}
    assert {pair: adapter_id(card) for pair, card in cards.items()} == {
        "is-en": "cdf9de02f30fe98d769625fad317e6bb",
        "en-is": "a2e2318854d26da8dfb6423ffbe7aa00",
    }
    assert cards["is-en"].golden is None and cards["en-is"].golden is not None
    for pair, card in cards.items():
        assert card.dump() == (golden / pair / "card.json").read_bytes()
