"""`tellmt decoding`: how an adapter decodes is chosen by the dev split, and what was chosen is on its card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tell.adapter.card import open_adapter
from tests.conftest import Tellmt
from tests.support.fake_eval_engine import Bench, corpus_dir, make_bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Bench:
    return make_bench(tmp_path, monkeypatch, dev=100)


def test_an_adapter_that_does_not_loop_is_left_alone(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    adapter = bench.adapter("good", 1)
    code, report, err = tellmt("decoding", adapter.path, "--corpus", bench.corpus)
    assert code == 0, err
    assert report["chosen"] == 1.0 and [r["penalty"] for r in report["tried"]] == [1.0] and report["id"] == adapter.id
    assert open_adapter(adapter.path) == adapter and sum(n for _, n in bench.calls) == 100
    # The dev split was translated as the gate will want it.
    bench.calls.clear()
    assert tellmt("publish", adapter.path, "--corpus", bench.corpus)[0] == 0
    assert {seed for seed, n in bench.calls if n == 32} == {None}


@pytest.mark.parametrize(
    ("loops", "chosen", "tried"),
    [
        # Where nothing loops any more, no more is tried.
        ({1.0: 0.5, 1.1: 0.25}, 1.2, [1.0, 1.1, 1.2]),
        ({1.0: 0.5}, 1.1, [1.0, 1.1]),
        # Three segments of 100 say nothing for sure.
        ({1.0: 0.02}, 1.0, [1.0, 1.1, 1.2, 1.3]),
        # What is no better is not chosen, and does not hide what is.
        ({1.0: 0.5, 1.1: 0.5}, 1.2, [1.0, 1.1, 1.2]),
        # Worse than none.
        ({1.0: 0.1, 1.1: 0.9, 1.2: 0.9, 1.3: 0.9}, 1.0, [1.0, 1.1, 1.2, 1.3]),
    ],
)
def test_the_least_penalty_that_helps(bench: Bench, tellmt: Tellmt, tmp_path: Path, loops: dict[float, float], chosen: float, tried: list[float]) -> None:
    bench.loops.update(loops)
    adapter = bench.adapter("a", 1)
    code, report, err = tellmt("decoding", adapter.path, "--corpus", bench.corpus)
    assert code == 0, err
    assert report["chosen"] == chosen and [r["penalty"] for r in report["tried"]] == tried
    assert report["tried"][0]["stuck"] > 0 and report["tried"][0]["chrf"]["signature"].startswith("nrefs:1|")
    card = open_adapter(adapter.path).card
    assert card.decoding.repetition_penalty == chosen and card.files == adapter.card.files
    part = {"part": "whole", "segments": 100, "of": 100}
    assert report["part"] == part and card.training == ({} if chosen == 1.0 else {"decoding": {"repetition_penalty": chosen, **part}})
    assert card == adapter.card.model_copy(update={"decoding": card.decoding, "training": card.training})
    assert json.loads((tmp_path / "a.decoding.json").read_text())["chosen"] == chosen
    # What is chosen once is not chosen again, and what was translated is not translated again.
    bench.calls.clear()
    assert tellmt("decoding", adapter.path, "--corpus", bench.corpus)[1]["reused"] is True and bench.calls == []
    assert tellmt("decoding", adapter.path, "--corpus", bench.corpus, "--force")[1]["reused"] is False and bench.calls == []


def test_what_chrf_gains_and_bleu_loses_is_not_taken(bench: Bench, tellmt: Tellmt) -> None:
    """All words, two by two from the last, have more of the reference than its first four, by characters, and less by sequences of words."""

    def backwards(words: list[str]) -> list[str]:
        return [w for at in range(len(words) // 2 * 2 - 2, -1, -2) for w in words[at : at + 2]]

    bench.loops[1.0] = 0.1
    bench.twists.update({1.0: lambda words: words[:4], **dict.fromkeys((1.1, 1.2, 1.3), backwards)})
    _, report, _ = tellmt("decoding", bench.adapter("a", 1).path, "--corpus", bench.corpus)
    chrf, bleu = (report["tried"][1]["paired"][m] for m in ("chrf", "bleu"))
    assert chrf["delta"] > 0 and chrf["p"] < 0.1 and bleu["delta"] < 0 and bleu["p"] < 0.1 and report["chosen"] == 1.0


def test_outputs_that_the_gate_finds_too_short_are_not_taken(bench: Bench, tellmt: Tellmt) -> None:
    bench.loops[1.0] = 0.1
    bench.twists.update({1.0: lambda words: ["x" * len(w) for w in words], **dict.fromkeys((1.1, 1.2, 1.3), lambda words: words[:5])})
    _, report, _ = tellmt("decoding", bench.adapter("a", 1).path, "--corpus", bench.corpus)
    second = report["tried"][1]
    assert second["paired"]["chrf"]["delta"] > 0 and second["paired"]["bleu"]["delta"] > 0
    assert 0.5 < second["diagnostics"]["length_ratio"] < 0.7 and report["chosen"] == 1.0


def test_scores_and_gate_decode_as_the_card_says(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    bench.loops.update({1.0: 0.5})
    adapter = bench.adapter("a", 1)
    scores_before = tellmt("score", adapter.path, "--corpus", bench.corpus, "-o", tmp_path / "before")[1]
    assert tellmt("publish", adapter.path, "--corpus", bench.corpus)[0] == 1
    assert tellmt("decoding", adapter.path, "--corpus", bench.corpus)[1]["chosen"] == 1.1
    after = tellmt("score", adapter.path, "--corpus", bench.corpus, "-o", tmp_path / "after")[1]
    assert after["systems"]["adapter"]["chrf"]["score"] > scores_before["systems"]["adapter"]["chrf"]["score"] + 5
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    assert code == 0 and report["verdict"]["passed"], err


def test_what_does_not_go_together(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    adapter = bench.adapter("a", 1)
    code, _, err = tellmt("decoding", adapter.path, "--corpus", corpus_dir(tmp_path / "other", "fo-en"))
    assert code == 2 and "the corpus and the adapter are of different pairs; found fo-en; valid: is-en" in err
    code, _, err = tellmt("decoding", adapter.path, "--corpus", corpus_dir(tmp_path / "small", dev=0))
    assert code == 2 and "0 segments" in err
    code, _, err = tellmt("decoding", tmp_path / "none", "--corpus", bench.corpus)
    assert code != 0 and str(tmp_path / "none") in err
    (tmp_path / "a.decoding.json").write_text("{")
    assert tellmt("decoding", adapter.path, "--corpus", bench.corpus)[1]["reused"] is False
