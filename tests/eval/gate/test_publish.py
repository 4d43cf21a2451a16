"""`tellmt publish`: what the gate lets in, what it refuses and why, and what is written either way."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import CARD, MEMORY, WEIGHTS, open_adapter
from tell.files import read_lines
from tell.records import read_pairs
from tell.registry.registry import Registry
from tests.conftest import Ran, Tellmt
from tests.support.fake_eval_engine import Bench, corpus_dir, light_base, make_bench
from tests.support.memories import with_memory


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Bench:
    return make_bench(tmp_path, monkeypatch)


def live(pair: str = "is-en") -> str | None:
    return Registry().state(pair).live


def test_a_better_adapter_goes_live_with_its_scores_and_verdict(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    adapter = bench.adapter("good", 1)
    assert tellmt("score", adapter.path, "--corpus", bench.corpus, "-o", tmp_path / "scores")[0] == 0
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus, "--scores", tmp_path / "scores", "--why", "first")
    assert code == 0, err
    verdict = json.loads((tmp_path / "good.verdict.json").read_text())
    assert verdict == report["verdict"] and verdict["passed"] is True and verdict["reasons"] == []
    assert verdict["corpus"]["segments"] == 40
    paired = verdict["paired"]["adapter_vs_base"]
    assert paired["delta"] > 10 and paired["p"] < 0.001 and "seed:12345|" in paired["signature"] and "ar:10000|" in paired["signature"]
    assert verdict["metrics"]["adapter"]["chrf"]["signature"].startswith("nrefs:1|")

    published = Registry().adapter(report["id"])
    assert live() == published.id != adapter.id
    assert published.card.files == adapter.card.files and published.card.verdict == verdict
    (scores,) = published.card.scores
    assert scores["name"] == "corpus/test" and scores["systems"]["adapter"]["chrf"]["signature"]
    assert "seconds" not in scores and "seconds" not in scores["systems"]["base"]
    assert [e["event"] for e in Registry().log()] == ["add", "promote"]
    assert Registry().log()[-1]["why"].startswith("first; passed the gate: chrF2 +")
    # the directory that was trained is as it was
    assert open_adapter(adapter.path).id == adapter.id


def test_an_adapter_is_judged_with_its_nearest_pairs_and_told_without(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    adapter = with_memory(bench.adapter("good", 1))
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus, "--why", "first")
    assert code == 0, err
    verdict = report["verdict"]
    assert verdict["metrics"].keys() == {"base", "adapter", "adapter-without-retrieval"}
    assert verdict["paired"].keys() == {"adapter_vs_base", "adapter_vs_without_retrieval"}
    published = Registry().adapter(report["id"])
    assert published.card.retrieval == adapter.card.retrieval and published.card.files[MEMORY] == adapter.card.files[MEMORY]


def test_publishing_again_says_already_live_and_runs_nothing(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    adapter = bench.adapter("good", 1)
    assert tellmt("publish", adapter.path, "--corpus", bench.corpus)[0] == 0
    state, log, engines = Registry().state("is-en"), Registry().log(), len(bench.engines)
    for _ in range(2):
        code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
        assert code == 0 and report["already_live"] is True and "is already live" in err
        (tmp_path / "good.verdict.json").unlink(missing_ok=True)
    assert (Registry().state("is-en"), Registry().log(), len(bench.engines)) == (state, log, engines)

    # New evidence for the same weights is a new card, by the verdict that stands; still nothing is translated on the dev split.
    assert tellmt("score", adapter.path, "--corpus", bench.corpus, "-o", tmp_path / "scores")[0] == 0
    bench.calls.clear()
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus, "--scores", tmp_path / "scores" / "scores.json")
    assert code == 0 and report["already_live"] is False and bench.calls == [], err
    assert len(Registry().adapter(str(live())).card.scores) == 1
    assert tellmt("publish", adapter.path, "--corpus", bench.corpus, "--scores", tmp_path / "scores")[1]["already_live"] is True


@pytest.mark.parametrize(
    ("seed", "spoilt", "message"),
    [
        (3, 0.9, "not better than the bare base: chrF2"),
        (5, 0.69, "p = "),
        (6, 0.7, ""),
    ],
)
def test_an_adapter_that_is_not_better_is_refused_with_numbers(bench: Bench, tellmt: Tellmt, tmp_path: Path, seed: int, spoilt: float, message: str) -> None:
    bench.spoilt[seed] = spoilt
    adapter = bench.adapter("weak", seed)
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    assert code == 1 and live() is None and Registry().ids() == [] and Registry().log() == []
    assert "the gate refused this adapter" in err and message in err
    verdict = json.loads((tmp_path / "weak.verdict.json").read_text())
    assert (verdict["passed"], verdict["exit_code"]) == (False, 1) and verdict["reasons"] and all(r in err for r in verdict["reasons"])
    assert report == {"published": False, "passed": False, "verdict": verdict, "verdict_path": str(tmp_path / "weak.verdict.json")}
    paired = verdict["paired"]["adapter_vs_base"]
    assert paired["delta"] <= 0 or paired["p"] >= 0.05
    # asked again, the answer is the same and comes from the verdict
    bench.calls.clear()
    code, _, second_err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    assert code == 1 and verdict["reasons"][0] in second_err and bench.calls == []


def test_one_lucky_segment_does_not_pass(bench: Bench, tellmt: Tellmt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter repeats the base but for one perfect segment: better by every digit, and no evidence at all."""
    adapter = bench.adapter("lucky", 7)
    bench.spoilt[None] = bench.spoilt[7] = 1.0
    source, target = next((s, t) for s, t in bench.known.items() if " dev 3." in s)
    from tell.model.engine import Generation
    from tests.support.fake_eval_engine import FakeEngine

    plain = FakeEngine.generate

    async def generate(self: FakeEngine, prompts: Any, adapter_id: str | None) -> list[Generation]:
        generations = await plain(self, prompts, adapter_id)
        return [
            Generation(target, 1, "stop") if adapter_id and source in self.tokens.decode(list(p.ids)) else g for p, g in zip(prompts, generations, strict=True)
        ]

    monkeypatch.setattr(FakeEngine, "generate", generate)
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    paired = report["verdict"]["paired"]["adapter_vs_base"]
    assert code == 1 and paired["delta"] > 0 and paired["differing"] == 1 and paired["p"] == 1.0, err


def test_weights_that_do_not_act_are_named(bench: Bench, tellmt: Tellmt) -> None:
    adapter = bench.adapter("idle", 8)
    bench.spoilt[None] = bench.spoilt[8] = 0.0
    code, _, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    assert code == 1 and "output is the bare base's on all 40 dev segments" in err


def test_worse_than_what_is_live_is_refused_and_the_other_way_round_passes(bench: Bench, tellmt: Tellmt) -> None:
    middling, good = bench.adapter("middling", 2), bench.adapter("good", 1)
    assert tellmt("publish", middling.path, "--corpus", bench.corpus)[0] == 0
    first = live()
    bench.calls.clear()
    code, report, err = tellmt("publish", good.path, "--corpus", bench.corpus)
    assert code == 0, err
    # The calls of 16 and fewer choose golden sentences.
    assert {seed for seed, n in bench.calls if n > 16} == {1}, "the base's and the live version's side are in the cache"
    assert set(report["verdict"]["metrics"]) == {"base", "adapter", "live"} and report["verdict"]["against"] == first
    second = live()
    assert Registry().state("is-en").previous == first

    code, report, err = tellmt("publish", middling.path, "--corpus", bench.corpus)
    assert code == 1 and f"worse than the live version {str(second)[:12]}" in err and live() == second
    assert report["verdict"]["against"] == second

    # after a rollback it is not compared with itself
    assert tellmt("registry", "rollback", "is-en", "--why", "test")[0] == 0
    code, report, _ = tellmt("publish", middling.path, "--corpus", bench.corpus)
    assert code == 0 and report["already_live"] is True and live() == first


def test_a_live_version_on_another_base_or_damaged_does_not_block(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    assert tellmt("publish", bench.adapter("good", 1).path, "--corpus", bench.corpus)[0] == 0
    bench.base = light_base(bench.base.path.parent.parent, base_id="newer", revision="n" * 64)
    code, report, err = tellmt("publish", bench.adapter("middling", 2).path, "--corpus", bench.corpus)
    assert code == 0 and "is on another base (light) and was not compared with" in err and report["verdict"]["against"] is None
    weights = Registry().path(str(live())) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    code, _, err = tellmt("publish", bench.adapter("good2", 1).path, "--corpus", bench.corpus)
    assert code == 0 and "cannot be read and was not compared with" in err and "altered since its card was written" in err


def test_force_needs_a_reason_and_the_log_keeps_it(bench: Bench, tellmt: Tellmt) -> None:
    adapter = bench.adapter("bad", 3)
    for why in ([], ["--why", "  "]):
        code, _, err = tellmt("publish", adapter.path, "--corpus", bench.corpus, "--force", *why)
        assert code == 2 and "--force needs --why" in err and live() is None
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus, "--force", "--why", "the customer asked")
    assert code == 0 and report["forced"] is True and report["passed"] is False and live() == report["id"], err
    why = Registry().log()[-1]["why"]
    assert why.startswith("forced: the customer asked; the gate refused: not better than the bare base: chrF2")
    # --why alone changes nothing about the gate
    other = bench.adapter("bad2", 3, rank=2)
    assert tellmt("publish", other.path, "--corpus", bench.corpus, "--why", "please")[0] == 1


@pytest.mark.parametrize("dev", [0, 9])
def test_too_few_dev_segments(bench: Bench, tellmt: Tellmt, tmp_path: Path, dev: int) -> None:
    corpus = corpus_dir(tmp_path / "small", dev=dev)
    code, report, err = tellmt("publish", bench.adapter("good", 1).path, "--corpus", corpus, "-o", tmp_path / "v.json")
    assert code == 1 and f"has {dev} segments, too few" in err and "at least 10" in err
    assert bench.engines == [] and json.loads((tmp_path / "v.json").read_text()) == report["verdict"]


def test_dev_segments_that_were_trained_on(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    def entry(path: Path) -> dict[str, Any]:
        return {"path": str(path), "pairs_sha256": json.loads((path / "corpus.json").read_text())["pairs_sha256"], "pairs": 20}

    # its own corpus, and another that shares nothing: safe
    clean = corpus_dir(tmp_path / "clean", mark=" x")
    fine = bench.adapter("fine", 1, data={"corpora": [entry(bench.corpus), entry(clean)]})
    assert tellmt("publish", fine.path, "--corpus", bench.corpus)[0] == 0

    # another corpus whose train split holds two of the dev sources, differently spaced and cased
    dirty = corpus_dir(tmp_path / "dirty", mark=" y")
    rows = [json.loads(line) for line in (dirty / "pairs.jsonl").read_text().split("\n") if line]
    dev = [s for s in bench.known if " dev 3." in s or " dev 4." in s]
    for row, source in zip([r for r in rows if r["split"] == "train"], dev, strict=False):
        row["source"] = "  " + source.upper()
    from tell.files import sha256_file, write_jsonl

    write_jsonl(dirty / "pairs.jsonl", rows)
    report = json.loads((dirty / "corpus.json").read_text())
    (dirty / "corpus.json").write_text(json.dumps(report | {"pairs_sha256": sha256_file(dirty / "pairs.jsonl")}))
    leaky = bench.adapter("leaky", 1, rank=2, data={"corpora": [entry(dirty)]})
    engines = len(bench.engines)
    code, _, err = tellmt("publish", leaky.path, "--corpus", bench.corpus)
    assert code == 1 and "2 of 40 dev segments are in the data it was trained on" in err and len(bench.engines) == engines

    # unless it was mixed together with this corpus: `mix` then leaves out what this one holds back
    mixed = bench.adapter("mixed", 1, rank=5, data={"corpora": [entry(dirty), entry(bench.corpus)]})
    assert tellmt("publish", mixed.path, "--corpus", bench.corpus)[0] == 0

    # a corpus that is gone cannot be checked, and the verdict says so
    without_corpus = bench.adapter("gone", 1, rank=3, data={"corpora": [entry(clean)]})
    shutil.rmtree(clean)
    code, publish_report, err = tellmt("publish", without_corpus.path, "--corpus", bench.corpus)
    notes = [n for n in publish_report["verdict"]["notes"] if "difference from" not in n and "segments are few" not in n]
    assert code == 0 and "not checked whether the dev segments were trained on" in err and len(notes) == 1


def test_what_cannot_be_judged_at_all(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    half = bench.adapter("half", 1)
    (half.path / CARD).unlink()
    code, _, err = tellmt("publish", half.path, "--corpus", bench.corpus)
    assert code == 1 and "incomplete" in err and f"no {CARD}" in err

    good = bench.adapter("good", 1)
    other = corpus_dir(tmp_path / "other", pair="en-is")
    code, _, err = tellmt("publish", good.path, "--corpus", other)
    assert code == 2 and "found en-is; valid: is-en" in err

    light_base(bench.base.path.parent.parent, revision="z" * 64)
    code, _, err = tellmt("publish", good.path, "--corpus", bench.corpus)
    assert code == 1 and "adapter and base do not match" in err
    shutil.rmtree(bench.base.path)
    code, _, err = tellmt("publish", good.path, "--corpus", bench.corpus)
    assert code == 1 and "light" in err
    code, _, err = tellmt("publish", good.path, "--corpus", bench.corpus, "--alpha", "1")
    assert code == 2 and "--alpha" in err
    assert bench.engines == [] and live() is None


def test_scores_of_another_adapter_or_without_signatures(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    one, two = bench.adapter("one", 1), bench.adapter("two", 2)
    assert tellmt("score", two.path, "--corpus", bench.corpus, "-o", tmp_path / "s")[0] == 0
    code, _, err = tellmt("publish", one.path, "--corpus", bench.corpus, "--scores", tmp_path / "s")
    assert code == 2 and "scores of another adapter" in err
    code, _, err = tellmt("publish", one.path, "--corpus", bench.corpus, "--scores", tmp_path / "none.json")
    assert code == 2 and "no such scores" in err
    report = json.loads((tmp_path / "s" / "scores.json").read_text())
    report["systems"]["base"]["chrf"]["signature"] = ""
    for text in (json.dumps(report), "{", "[]", '{"adapter": 1}'):
        (tmp_path / "bad.json").write_text(text)
        code, _, err = tellmt("publish", two.path, "--corpus", bench.corpus, "--scores", tmp_path / "bad.json")
        assert code == 2 and "not the scores of a test set" in err
    assert live() is None


def test_a_version_that_went_live_meanwhile_is_not_overwritten(bench: Bench, tellmt: Tellmt, monkeypatch: pytest.MonkeyPatch) -> None:
    middling, good = bench.adapter("middling", 2), bench.adapter("good", 1)
    good_id = Registry().add(good.path, good.card)
    import eval.gate.publish

    judge = eval.gate.publish.judge

    def slow_judge(question: Any) -> dict[str, Any]:
        verdict = judge(question)
        other = threading.Thread(target=lambda: Registry().promote("is-en", good_id, "meanwhile"))
        other.start()
        other.join()
        return verdict

    monkeypatch.setattr("eval.gate.publish.judge", slow_judge)
    code, _, err = tellmt("publish", middling.path, "--corpus", bench.corpus)
    assert code == 1 and "another version went live meanwhile" in err and live() == good_id
    code, _, err = tellmt("publish", middling.path, "--corpus", bench.corpus)
    assert code == 1 and "worse than the live version" in err and live() == good_id


def test_an_unwritable_registry_names_the_variable(bench: Bench, tellmt: Tellmt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TELLMT_REGISTRY", str(tmp_path / "file" / "registry"))
    code, _, err = tellmt("publish", bench.adapter("good", 1).path, "--corpus", bench.corpus)
    assert code == 1 and "registry cannot be written" in err and "TELLMT_REGISTRY" in err
    assert bench.engines == [], "said before minutes of translating, not after"


def test_names_and_reasons_that_are_not_utf8(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    odd = "caf\udce9"  # how Python spells the byte E9 in a path or an argument
    adapter = bench.adapter(odd, 1)
    corpus = corpus_dir(tmp_path / f"corpus {odd}", dev=3)
    bench.known.update((p.source, p.target) for p in read_pairs(corpus / "pairs.jsonl"))
    code, report, err = tellmt("score", adapter.path, "--corpus", corpus, "-o", tmp_path / odd / "scores")
    assert code == 0 and report["name"] == "corpus caf\\udce9/test", err
    assert tellmt("score", adapter.path, "--corpus", corpus, "--name", odd, "-o", tmp_path / odd / "named")[1]["name"] == "caf\\udce9"
    code, _, err = tellmt("publish", adapter.path, "--corpus", corpus)
    assert code == 1 and "has 3 segments" in err
    code, _, err = tellmt("publish", adapter.path, "--corpus", corpus, "--scores", tmp_path / odd / "scores", "--force", "--why", odd)
    assert code == 0 and Registry().log()[-1]["why"].startswith(f"forced: {odd}"), err


@pytest.mark.slow
def test_publish_on_a_real_engine(cli: Callable[..., Ran], isolated: Path, tmp_path: Path) -> None:
    """The whole command on ctranslate2. A random adapter on a random base must not get past the gate; forced, it goes live."""
    pytest.importorskip("ctranslate2")
    from tests.support.tiny import make_tiny_adapter, make_tiny_base

    adapter = make_tiny_adapter(tmp_path / "adapter", make_tiny_base(isolated / "cache"))
    corpus = corpus_dir(tmp_path / "corpus", dev=12)
    args = ("--json", "publish", adapter.path, "--corpus", corpus, "--engine", "ct2", "--alpha", "0.0001")
    refused = cli(*args, ok=False)
    assert refused.code == 1 and "the gate refused this adapter" in refused.err
    verdict = refused.json["verdict"]
    assert verdict["metrics"]["base"]["chrf"]["signature"] and verdict["engine"]["version"]
    forced = cli(*args, "--force", "--why", "to see it live").json
    assert forced["state"]["live"] == forced["id"] and forced["verdict"] == verdict
    listed = cli("registry", "list").out
    assert forced["id"][:12] in listed and "forced" in listed
    assert [e["event"] for e in cli("--json", "registry", "log").json["log"]] == ["add", "promote"]
    assert cli(*args).json["already_live"] is True
    assert read_lines(isolated / "registry" / "log.jsonl")[1]
