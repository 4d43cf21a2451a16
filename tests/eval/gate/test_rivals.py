"""What the gate compares an adapter with beside the bare base: the live version, by a margin, and the best before it; and what those were trained on."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest

from eval.gate.line import best_id
from eval.gate.margin import difference, level, margin
from tell.files import sha256_file, write_jsonl
from tell.registry.registry import Registry
from tests.conftest import Tellmt
from tests.support.fake_eval_engine import Bench, corpus_dir, make_bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Bench:
    bench = make_bench(tmp_path, monkeypatch, dev=64)
    bench.spoilt |= {11: 0.30, 12: 0.33}
    return bench


def published(bench: Bench, tellmt: Tellmt, name: str, seed: int, *more: object, **data: Any) -> tuple[int, dict[str, Any], str]:
    return tellmt("publish", bench.adapter(name, seed, **data).path, "--corpus", bench.corpus, *more)


def test_the_margin_and_the_level_follow_from_the_number_of_segments() -> None:
    assert [margin(n) for n in (10, 40, 64, 100, 144, 256, 1000)] == [2.0, 2.0, 2.0, 1.6, 1.33, 1.0, 1.0]
    assert [level(n) for n in (10, 64, 511, 512)] == [0.08, 0.08, 0.08, 0.05]


def test_a_version_that_may_be_worse_does_not_go_live_silently(bench: Bench, tellmt: Tellmt) -> None:
    first = published(bench, tellmt, "first", 11)[1]["id"]
    code, report, err = published(bench, tellmt, "second", 12)
    live = report["verdict"]["paired"]["adapter_vs_live"]
    # Not surely worse, which was all that was asked, and not surely about as good.
    assert live["delta"] < 0 and live["p"] >= 0.05 and live["least"] < -live["margin"] == -2.0
    assert code == 1 and Registry().state("is-en").live == first and f"not surely within 2 chrF2 of the live version {first[:12]}: chrF2 -" in err, err
    code, report, err = published(bench, tellmt, "second", 12, "--force", "--why", "the names")
    assert code == 0 and report["forced"] and "95% interval" in Registry().log()[-1]["why"], err


def test_the_difference_from_the_live_version_is_told_everywhere(bench: Bench, tellmt: Tellmt) -> None:
    first = published(bench, tellmt, "middling", 2)[1]["id"]
    code, report, err = published(bench, tellmt, "good", 1)
    live = report["verdict"]["paired"]["adapter_vs_live"]
    low, high = live["interval"]
    assert code == 0 and low < live["delta"] < high and (live["margin"], live["level"], live["left_out"]) == (2.0, 0.08, 0)
    words = f"difference from the live version {first[:12]}: chrF2 {live['delta']:+.2f}, 95% interval {low:+.2f} to {high:+.2f}, 64 segments"
    assert f"note: {words}" in err and report["verdict"]["notes"][0].startswith(words)
    assert f"{live['delta']:+.2f} to the live version, 95% interval {low:+.2f} to {high:+.2f}" in Registry().log()[-1]["why"]
    assert Registry().adapter(report["id"]).card.verdict == report["verdict"]
    assert report["verdict"]["best"] == {"id": first, "beaten": True}


def test_small_losses_do_not_add_up_below_the_best_version(bench: Bench, tellmt: Tellmt) -> None:
    best = published(bench, tellmt, "good", 1)[1]["id"]
    assert published(bench, tellmt, "bad", 2, "--force", "--why", "so")[0] == 0
    # Better than what is live, and far below what was.
    code, report, err = published(bench, tellmt, "less bad", 11)
    assert report["verdict"]["paired"]["adapter_vs_live"]["delta"] > 0 > report["verdict"]["paired"]["adapter_vs_best"]["delta"]
    assert code == 1 and f"worse than the best version {best[:12]}" in err and f"tellmt registry promote is-en {best[:12]} brings that one back" in err, err
    assert best in Registry()._best(Registry().states())
    assert published(bench, tellmt, "less bad", 11)[0] == 1
    code, report, err = published(bench, tellmt, "less bad", 11, "--no-best")
    assert code == 0 and f"not compared with the best version {best[:12]}, as asked" in err, err
    # It is remembered all the same; what is as good may go live, and is not yet the best.
    bench.spoilt[13] = 0.05
    code, report, err = published(bench, tellmt, "better", 13)
    assert code == 0 and report["verdict"]["best"]["id"] == best and set(report["verdict"]["metrics"]) >= {"live", "best"}, err


def test_with_few_segments_the_gate_says_so(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    bench.corpus = corpus_dir(tmp_path / "few", dev=40)
    bench.known |= {r["source"]: r["target"] for r in map(json.loads, (bench.corpus / "pairs.jsonl").read_text().splitlines())}
    assert published(bench, tellmt, "first", 11)[0] == 0
    code, _, err = published(bench, tellmt, "second", 11, rank=2)
    few = "equal versions may pass in fewer than half of the cases; 64 or more are enough"
    assert code == 0 and "40 segments are few to compare with the live version" in err and few in err, err


def trained_on(bench: Bench, path: Path, numbers: list[int]) -> dict[str, Any]:
    """What a card says of another corpus that has these dev segments of the bench among its training pairs."""
    corpus = corpus_dir(path, mark=" z", train=80)
    rows = [json.loads(line) for line in (corpus / "pairs.jsonl").read_text().splitlines()]
    sources = [s for s in bench.known if any(f" dev {n}." in s for n in numbers)]
    for row, source in zip([r for r in rows if r["split"] == "train"], sources, strict=False):
        row["source"] = source
    write_jsonl(corpus / "pairs.jsonl", rows)
    digest = sha256_file(corpus / "pairs.jsonl")
    report = json.loads((corpus / "corpus.json").read_text())
    (corpus / "corpus.json").write_text(json.dumps(report | {"pairs_sha256": digest}))
    return {"corpora": [{"path": str(corpus), "pairs_sha256": digest, "pairs": 40}]}


def made_live(bench: Bench, name: str, seed: int, data: dict[str, Any]) -> str:
    adapter = bench.adapter(name, seed, data=data)
    id = Registry().add(adapter.path, adapter.card)
    Registry().promote("is-en", id, "from before")
    return id


def test_segments_that_the_live_version_was_trained_on_are_left_out(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    live = made_live(bench, "live", 2, trained_on(bench, tmp_path / "other", [3, 4, 5]))
    code, report, err = published(bench, tellmt, "good", 1, data={"corpora": []})
    test = report["verdict"]["paired"]["adapter_vs_live"]
    assert code == 0 and (test["left_out"], test["segments"]) == (3, 61), err
    assert f"3 of 64 segments are in what the live version {live[:12]} was trained on, and are left out of the comparison with it" in err
    assert report["verdict"]["corpus"]["segments"] == 64


def test_a_live_version_that_was_trained_on_nearly_all_of_them_cannot_be_compared_with(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    live = made_live(bench, "live", 2, trained_on(bench, tmp_path / "other", list(range(60))))
    code, _, err = published(bench, tellmt, "good", 1)
    assert code == 1 and f"4 segments are left that the live version {live[:12]} was not trained on, too few to compare; needed: at least 10" in err, err


@pytest.mark.parametrize(
    ("data", "why"),
    [({}, "its card names no corpora"), ({"corpora": [{"path": "gone", "pairs_sha256": "0" * 64}]}, "gone: not a corpus")],
)
def test_where_it_is_not_known_what_the_live_version_was_trained_on_the_note_says_so(bench: Bench, tellmt: Tellmt, data: dict[str, Any], why: str) -> None:
    live = made_live(bench, "live", 2, data)
    code, _, err = published(bench, tellmt, "good", 1)
    assert code == 0 and f"it is not known whether the live version {live[:12]} was trained on some of these segments: {why}" in err, err


def test_the_best_version_is_not_pruned() -> None:
    from tell.registry.prune import unused_adapters
    from tell.registry.store import StoredAdapter

    held = {id: StoredAdapter(0.0, 1) for id in ("best", "other")}
    assert [u.id for u in unused_adapters(held, [], [], 1e9, 0, 0.0, frozenset({"best"}))] == ["other"]


def line_of(*verdicts: dict[str, Any] | None) -> str:
    """The best of versions v0, v1, ..., the last of which is live, by their verdicts."""
    cards = {f"v{i}": types.SimpleNamespace(verdict=v) for i, v in enumerate(verdicts)}
    live = f"v{len(verdicts) - 1}"
    return best_id(types.SimpleNamespace(card=cards.__getitem__), types.SimpleNamespace(id=live, card=cards[live]))  # type: ignore[arg-type]


def test_the_best_of_a_line_by_old_and_new_verdicts() -> None:
    def old(against: str, delta: float, p: float) -> dict[str, Any]:
        return {"against": against, "alpha": 0.05, "paired": {"adapter_vs_live": {"delta": delta, "p": p}}}

    assert line_of(None) == "v0"
    assert line_of({"against": None, "paired": {}}, old("v0", -0.5, 0.4), old("v1", 0.5, 0.4)) == "v0"
    assert line_of({"against": None, "paired": {}}, old("v0", 3.0, 0.001), old("v1", -1.0, 0.2)) == "v1"
    assert line_of(None, {"best": {"id": "v0", "beaten": True}}) == "v1" and line_of(None, {"best": {"id": "gone", "beaten": False}}) == "gone"
    # Two that name each other, as rollbacks and forced ones may leave them.
    assert line_of(old("v1", 0.1, 0.9), old("v0", 0.1, 0.9)) in ("v0", "v1")


def test_equal_outputs_do_not_differ() -> None:
    texts = ["one two three", "four five six"] * 6
    same = difference(texts, texts, texts)
    assert (same.delta, same.low, same.high, same.least, same.within, same.better) == (0, 0, 0, 0, True, False)


def test_the_simulation_of_the_gate() -> None:
    """With real outputs: of truly 2 chrF2 worse versions fewer than a tenth pass at 64 segments, of equal ones more than half, of better ones nine in ten."""
    import numpy as np

    from benchmarks.quality.gate_simulation import STATISTICS, chrf2, passed_before, passes, ratchet, shares
    from eval.scoring.metrics import metric

    with np.load(STATISTICS) as file:
        statistics = [file[name].astype(float) for name in file.files]
    assert all(abs(chrf2(s.sum(0)) - metric("chrf").of(s.sum(0))) < 1e-4 for s in statistics)
    found = shares(statistics, 64, 250, 1)
    assert found[-2.0][0] < 0.1 < 0.5 < found[0.0][0] and found[2.0][0] > 0.9 and found[-2.0][1] > 0.5, found
    ends = {rule: [ratchet(statistics, 64, -0.5, 10, np.random.default_rng(n), rule, rule is passes) for n in range(15)] for rule in (passes, passed_before)}
    assert np.mean(ends[passes]) > -1.5 and min(ends[passes]) >= -3 and np.mean(ends[passed_before]) < -3
