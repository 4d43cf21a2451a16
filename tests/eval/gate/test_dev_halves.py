"""What the dev split chooses is judged on the half that had no part in the choice, and small dev splits choose nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eval.scoring.significance import paired, paired_test
from tell.adapter.card import open_adapter, write_card
from tell.corpus import dev_halves
from tell.corpus.dev_halves import DevPart, choosing_part, judging_part
from tell.files import sha256_bytes
from tell.records import Pair, read_pairs
from tell.registry.registry import Registry
from tests.conftest import Tellmt
from tests.support.fake_eval_engine import Bench, corpus_dir, make_bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Bench:
    # 10,000 trials take a second, and nothing here is near a limit.
    monkeypatch.setattr("eval.gate.decoding.paired", partial(paired, trials=300))
    monkeypatch.setattr("eval.gate.gate.paired_test", partial(paired_test, trials=300))
    return make_bench(tmp_path, monkeypatch, dev=240)


def smaller(bench: Bench, dev: int) -> Path:
    corpus = corpus_dir(bench.root / f"corpus-{dev}", dev=dev)
    bench.known.update({p.source: p.target for p in read_pairs(corpus / "pairs.jsonl")})
    return corpus


def without_halves(patch: pytest.MonkeyPatch) -> None:
    """As versions did before there were halves."""

    def whole(dev: list[Pair]) -> DevPart:
        return DevPart("whole", list(dev), len(dev))

    patch.setattr("eval.gate.decoding.choosing_part", whole), patch.setattr("eval.gate.gate.judging_part", whole)


def changed_card(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    card = open_adapter(path).card
    fields = card.model_dump()
    change(fields)
    write_card(path, type(card).model_validate(fields))


def test_one_half_chooses_and_the_other_judges(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    bench.loops.update({1.0: 0.5})
    adapter = bench.adapter("a", 1)
    code, chosen, err = tellmt("decoding", adapter.path, "--corpus", bench.corpus)
    assert code == 0 and chosen["chosen"] == 1.1, err
    dev = read_pairs(bench.corpus / "pairs.jsonl", "dev")
    choosing, judging = choosing_part(dev), judging_part(dev)
    assert chosen["part"] == {"part": "choosing", "segments": len(choosing.pairs), "of": 240, "by": "documents"} and chosen["segments"] < 200
    assert sum(n for _, n in bench.calls) == 2 * len(choosing.pairs)
    assert open_adapter(adapter.path).card.training["decoding"] == {"repetition_penalty": 1.1, **chosen["part"]}
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    assert code == 0, err
    verdict = report["verdict"]
    assert verdict["passed"] and verdict["notes"] == []
    assert verdict["judged_on"] == {"part": "judging", "segments": len(judging.pairs), "of": 240, "by": "documents"}
    assert verdict["chosen_on"] == {"repetition_penalty": chosen["part"]} and verdict["corpus"]["segments"] == len(judging.pairs)
    assert verdict["dev"]["source_sha256"] == sha256_bytes("\n".join(p.source for p in judging.pairs).encode())
    assert len(choosing.pairs) + len(judging.pairs) == 240 and not {p.source for p in choosing.pairs} & {p.source for p in judging.pairs}
    # A second time nothing is chosen, judged or published.
    bench.calls.clear()
    assert tellmt("decoding", adapter.path, "--corpus", bench.corpus)[1]["reused"] is True
    assert tellmt("publish", adapter.path, "--corpus", bench.corpus)[1]["already_live"] is True and bench.calls == []


@pytest.mark.parametrize(("recipe", "chosen"), [({}, 1.0), ({"decoding": {"repetition_penalty": 1.15}}, 1.15)])
def test_a_small_dev_split_chooses_nothing(bench: Bench, tellmt: Tellmt, recipe: dict[str, Any], chosen: float) -> None:
    bench.loops.update({1.0: 0.5})
    corpus, adapter = smaller(bench, 99), bench.adapter("a", 1)
    changed_card(adapter.path, lambda card: card.update(recipe=recipe))
    # What was chosen before, on a larger split, goes too.
    changed_card(adapter.path, lambda card: card["decoding"].update(repetition_penalty=1.3))
    code, report, err = tellmt("decoding", adapter.path, "--corpus", corpus)
    assert code == 0 and "nothing is chosen, since the dev split has 99 segments, fewer than 100" in err, err
    assert (report["chosen"], report["tried"], report["part"]) == (chosen, [], {"part": "whole", "segments": 99, "of": 99}) and bench.calls == []
    card = open_adapter(adapter.path).card
    assert card.decoding.repetition_penalty == chosen and card.training == {}
    assert tellmt("decoding", adapter.path, "--corpus", corpus)[1]["reused"] is True


def test_a_dev_split_too_small_for_halves_chooses_and_judges_and_the_verdict_says_so(bench: Bench, tellmt: Tellmt) -> None:
    bench.loops.update({1.0: 0.5})
    corpus, adapter = smaller(bench, 150), bench.adapter("a", 1)
    assert tellmt("decoding", adapter.path, "--corpus", corpus)[1]["chosen"] == 1.1
    code, report, err = tellmt("publish", adapter.path, "--corpus", corpus)
    part = {"part": "whole", "segments": 150, "of": 150}
    assert code == 0 and (report["verdict"]["judged_on"], report["verdict"]["chosen_on"]) == (part, {"repetition_penalty": part}), err
    said = "its penalty on repetition: chosen on the whole split of 150 segments, fewer than 200: what judges was among what chose"
    assert report["verdict"]["notes"] == [said] and f"note: {said}" in err


def test_a_card_made_before_halves_is_published_and_the_verdict_says_on_what_it_was_chosen(bench: Bench, tellmt: Tellmt) -> None:
    adapter = bench.adapter("a", 1)
    changed_card(adapter.path, lambda card: (card["decoding"].update(repetition_penalty=1.2), card["training"].update(dev={"best_step": 3})))
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    verdict = report["verdict"]
    assert code == 0 and verdict["judged_on"]["part"] == "judging", err
    assert verdict["chosen_on"] == {"weights": {"part": "whole"}, "repetition_penalty": {"part": "whole"}}
    assert len(verdict["notes"]) == 2 and all("by a version without halves" in n for n in verdict["notes"])


def test_what_was_chosen_and_published_before_halves_stays_as_it_is(bench: Bench, tellmt: Tellmt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bench.loops.update({1.0: 0.5})
    adapter = bench.adapter("a", 1)
    with monkeypatch.context() as patch:
        without_halves(patch)
        assert tellmt("decoding", adapter.path, "--corpus", bench.corpus)[1]["chosen"] == 1.1
        changed_card(adapter.path, lambda card: card["training"].pop("decoding"))
        result = json.loads((tmp_path / "a.decoding.json").read_bytes())
        (tmp_path / "a.decoding.json").write_text(json.dumps({k: v for k, v in result.items() if k != "part"}))
        id = open_adapter(adapter.path).id
        published = tellmt("publish", adapter.path, "--corpus", bench.corpus)[1]
        assert published["verdict"]["corpus"]["segments"] == 240
    bench.calls.clear()
    again = tellmt("decoding", adapter.path, "--corpus", bench.corpus)[1]
    assert (again["reused"], again["id"]) == (True, id)
    code, report, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    assert code == 0 and report["already_live"] and Registry().state("is-en").live == published["id"] == report["id"] and bench.calls == [], err
    # Chosen again, it is chosen on a half.
    assert tellmt("decoding", adapter.path, "--corpus", bench.corpus, "--force")[1]["part"]["part"] == "choosing"


def test_a_half_of_another_kind_is_noted(bench: Bench, tellmt: Tellmt) -> None:
    adapter = bench.adapter("a", 1)
    changed_card(adapter.path, lambda card: card["training"].update(dev={"part": {"part": "choosing", "segments": 100, "of": 210, "by": "segments"}}))
    verdict = tellmt("publish", adapter.path, "--corpus", bench.corpus)[1]["verdict"]
    assert ["on a half by segments, and the split is now halved by documents" in n for n in verdict["notes"]] == [True]


def test_leaks_are_looked_for_in_both_halves(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    choosing = choosing_part(read_pairs(bench.corpus / "pairs.jsonl", "dev")).pairs
    for name, side in (("set.is", "source"), ("set.en", "target")):
        (tmp_path / name).write_text("".join(f"{getattr(p, side)}\n" for p in choosing[:3]))
    assert tellmt("testset", "add", "set", "--source", tmp_path / "set.is", "--target", tmp_path / "set.en", "--pair", "is-en")[0] == 0
    code, _, err = tellmt("publish", bench.adapter("a", 1).path, "--corpus", bench.corpus)
    assert code == 1 and "3 segments of the test set set are in the dev split" in err


def test_the_plan_of_a_pair_counts_what_is_asked() -> None:
    assert [dev_halves.expected_sizes(n) for n in (0, 99, 100, 199, 200, 241)] == [(0, 0), (0, 99), (100, 100), (199, 199), (100, 100), (120, 121)]
