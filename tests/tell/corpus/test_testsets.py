"""`tellmt testset`, and what it keeps out: corpora that are built, and adapters that were trained on a test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tell import paths
from tell.corpus.overlap import HeldOutSet, Leaks, words_of
from tell.files import sha256_file, write_jsonl
from tell.registry.registry import Registry
from tell.text.normalise import letters
from tests.conftest import SHARED, Tellmt
from tests.support.fake_eval_engine import Bench, corpus_dir, make_bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Bench:
    return make_bench(tmp_path, monkeypatch)


SOURCES = [f"Skipið sigldi í nótt fram hjá {i} eyjum og kom í höfn um morguninn." for i in range(6)]
TARGETS = [f"The ship passed {w} islands in the night and reached the harbour in the morning." for w in ["no", "one", "two", "three", "four", "five"]]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def register(tellmt: Tellmt, root: Path, name: str = "ships") -> tuple[int, Any, str]:
    both = "--source", write(root / "t.is", SOURCES), "--target", write(root / "t.en", TARGETS)
    return tellmt("testset", "add", name, *both, "--pair", "is-en")


@pytest.mark.parametrize("text", ["", "Hello, world!", "ÞAÐ er 3. júní—já", "e\u0301t\u0117", "一二三。四 ABC", "İI straße", "a\u2028b", "नमस्ते दुनिया"])
def test_words_put_together_are_the_letters(text: str) -> None:
    assert "".join(words_of(text)) == letters(text)


def test_what_is_told_of_data() -> None:
    sets = [
        HeldOutSet("a", list(zip(SOURCES, TARGETS, strict=True))),
        HeldOutSet("short", [("Já.", "Yes!")]),
        HeldOutSet("zh", [("我们昨天晚上在城里吃了很多好吃的东西", "x")]),
    ]
    leaks = Leaks(sets)
    retold = [
        "skipið  SIGLDI í nótt fram hjá 4 eyjum, og kom í höfn um morguninn",  # all six sources are one but for the number
        "And then: the ship passed three islands in the night and reached the harbour in the dark",
        "yes",
        "昨天晚上在城里吃了很多好吃的东西了",
        "nothing of the kind",
    ]
    for line, text in enumerate(retold, 1):
        leaks.look(text, "data.txt", line)
    ships, short, zh = leaks.report()
    assert ships["leaked"] == 6 and ships["leaked_segments"][0] == {"segment": 1, "place": "data.txt, line 1"}
    assert (short["leaked"], short["short"]) == (0, 1)
    assert (zh["near"], zh["leaked"]) == (1, 0) and 0.5 < zh["near_segments"][0]["share"] < 1
    again = Leaks([HeldOutSet("a", [("x", t) for t in TARGETS])])
    again.look(retold[1], "data.txt", 2)
    (overlap,) = again.report()
    assert (overlap["leaked"], overlap["touched"]) == (0, 6) and overlap["near_segments"][0]["segment"] == 4
    assert overlap["near_segments"][0]["share"] > 0.6


def test_add_list_remove(tellmt: Tellmt, tmp_path: Path) -> None:
    assert tellmt("testset", "list")[1]["testsets"] == [] and paths.testsets_dir() == paths.registry_dir() / "testsets"
    code, registered, err = register(tellmt, tmp_path)
    assert code == 0 and (registered["segments"], registered["pair"], registered["already"]) == (6, "is-en", False) and "6 segments" in err
    assert register(tellmt, tmp_path)[1]["already"] is True
    write(tmp_path / "u.is", [*SOURCES, SOURCES[0], ""])
    write(tmp_path / "u.en", [*TARGETS, TARGETS[0], ""])
    both = "--source", tmp_path / "u.is", "--target", tmp_path / "u.en", "--pair", "is-en"
    code, _, err = tellmt("testset", "add", "ships", *both)
    assert code == 2 and "another test set has this name" in err
    code, registered, err = tellmt("testset", "add", "more", *both)
    assert code == 0 and (registered["repeated"], registered["blank"]) == (1, 1) and "1 repeat an earlier one" in err
    assert [s["name"] for s in tellmt("testset", "list")[1]["testsets"]] == ["more", "ships"]
    assert tellmt("testset", "remove", "more")[0] == 0 and tellmt("testset", "remove", "more")[0] == 1
    for args, message in (
        (("../x", *both), "not a name"),
        (("y", "--source", tmp_path / "u.is", "--target", tmp_path / "t.en", "--pair", "is-en"), "8 and 6 lines"),
        (("y", "--source", write(tmp_path / "e", []), "--target", tmp_path / "e", "--pair", "is-en"), "empty"),
        (("y", "--source", tmp_path, "--target", tmp_path / "t.en", "--pair", "is-en"), "directory"),
    ):
        code, _, err = tellmt("testset", "add", *args)
        assert code == 2 and message in err, err
    # A set that was altered is not passed over in silence.
    (paths.testsets_dir() / "ships" / "ships.is.txt").write_text("x\n")
    code, _, err = tellmt("testset", "check", tmp_path / "t.en")
    assert code == 2 and "altered since this test set was registered" in err
    (paths.testsets_dir() / "ships" / "testset.json").write_text("{")
    code, _, err = tellmt("testset", "list")
    assert code == 2 and "cannot be read" in err and tellmt("testset", "remove", "ships")[0] == 0


def test_check_reads_what_training_reads(tellmt: Tellmt, tmp_path: Path) -> None:
    code, _, err = tellmt("testset", "check", write(tmp_path / "x", ["x"]))
    assert code == 2 and "no test set is registered" in err
    register(tellmt, tmp_path)
    corpus = corpus_dir(tmp_path / "corpus")
    (tmp_path / "g.jsonl").write_text(json.dumps({"prompt": f"Translate:\n{SOURCES[1]}", "completion": TARGETS[2].upper()}) + "\n")
    write(tmp_path / "p.tsv", ["is\ten", f"eitthvað\t{TARGETS[5]}"])
    code, check, _ = tellmt("testset", "check", corpus, tmp_path / "g.jsonl", tmp_path / "p.tsv")
    (ships,) = check["testsets"]
    places = {s["segment"]: s["place"] for s in ships["leaked_segments"]}
    # The sources differ in their number alone.
    assert code == 1 and places[3] == f"{tmp_path / 'g.jsonl'}, line 1" and places[6].endswith("line 1") and ships["leaked"] == 6
    code, check, _ = tellmt("testset", "check", corpus)
    assert code == 0 and check["testsets"][0]["leaked"] == 0
    code, _, err = tellmt("testset", "check", tmp_path)
    assert code == 2 and "this is a directory" in err


def test_a_corpus_is_built_without_registered_test_sets(tellmt: Tellmt, tmp_path: Path) -> None:
    lines = [(f"Setning númer {w} um veðrið", f"Sentence {w} of the weather") for w in "abcdefghijklmnopqrstuvwxyzþæö"]
    source = write(tmp_path / "c.is", [s for s, _ in lines] + [SOURCES[0].upper(), "eitthvað allt annað um skip og eyjar úti fyrir landi"])
    target = write(tmp_path / "c.en", [t for _, t in lines] + ["something else of ships and of islands off the coast", "  " + TARGETS[4]])
    args = ("corpus", "build", source, target, "--pair", "is-en", "--dev", 5, "--test", 5, "-o", tmp_path / "corpus")
    assert tellmt(*args)[1]["dropped"] == {}
    register(tellmt, tmp_path)
    code, report, err = tellmt(*args)
    assert code == 0 and sum(report["dropped"].values()) == 2 and set(report["dropped"]) == {"in ships.is.txt", "in ships.en.txt"}, (report, err)
    assert tellmt(*args)[2].startswith(f"{tmp_path / 'corpus'}: unchanged")
    # Of other languages, nothing is looked for.
    both = ("--source", tmp_path / "t.is", "--target", tmp_path / "t.en", "--pair", "fo-da")
    assert tellmt("testset", "remove", "ships")[0] == 0 and tellmt("testset", "add", "other", *both)[0] == 0
    assert tellmt(*args)[1]["dropped"] == {}


def with_train(path: Path, pairs: list[tuple[str, str]]) -> Path:
    """A finished corpus whose first training pairs are these."""
    corpus_dir(path, mark=" z")
    rows = [json.loads(line) for line in (path / "pairs.jsonl").read_text().split("\n") if line]
    for row, (source, target) in zip([r for r in rows if r["split"] == "train"], pairs, strict=False):
        row |= {"source": source, "target": target}
    write_jsonl(path / "pairs.jsonl", rows)
    report = json.loads((path / "corpus.json").read_text())
    (path / "corpus.json").write_text(json.dumps(report | {"pairs_sha256": sha256_file(path / "pairs.jsonl")}))
    return path


def test_an_adapter_that_was_trained_on_a_test_set_is_refused(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    dirty = with_train(tmp_path / "dirty", [(SOURCES[2], "x"), ("y", TARGETS[3].upper())])
    general = tmp_path / "general.jsonl"
    general.write_text(json.dumps({"prompt": "Say it:\n" + TARGETS[0], "completion": "ok"}) + "\n")
    data = {
        "corpora": [{"path": str(dirty), "pairs_sha256": json.loads((dirty / "corpus.json").read_text())["pairs_sha256"]}],
        "general_sources": [{"path": str(general), "sha256": sha256_file(general)}],
    }
    adapter = bench.adapter("leaky", 1, data=data)
    assert tellmt("publish", adapter.path, "--corpus", bench.corpus)[0] == 0, "nothing is registered yet"
    register(tellmt, tmp_path)
    code, published, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    # Registering a test set asks the question anew, of what is live too.
    (report,) = published["verdict"]["testsets"]
    segments = {s["segment"] for s in report["leaked_segments"]}
    assert code == 1 and {1, 3, 4} <= segments and "segments of the test set ships are in the data it was trained on" in err, err
    assert "build the corpus again" in err and published["verdict"]["metrics"] == {} and published["verdict"]["exit_code"] == 1
    code, published, _ = tellmt("publish", adapter.path, "--corpus", bench.corpus, "--force", "--why", "the test set is retired")
    assert code == 0 and published["forced"] is True
    assert "the test set is retired; the gate refused" in Registry().log()[-1]["why"] and "test set ships" in Registry().log()[-1]["why"]

    # Data that is gone cannot be looked at, and the verdict says so.
    general.write_text("{}\n")
    later = bench.adapter("later", 1, rank=2, data={"corpora": [], "general_sources": data["general_sources"]})
    code, published, err = tellmt("publish", later.path, "--corpus", bench.corpus)
    assert code == 0 and "the registered test sets were trained on through another general data" in err, err


def test_a_test_set_never_decides(bench: Bench, tellmt: Tellmt, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (bench.corpus / "pairs.jsonl").read_text().split("\n") if line]
    dev = [r for r in rows if r["split"] == "dev"][:4]
    both = "--source", write(tmp_path / "d.is", [r["source"] for r in dev]), "--target", write(tmp_path / "d.en", [r["target"] for r in dev])
    assert tellmt("testset", "add", "mine", *both, "--pair", "is-en")[0] == 0
    code, _, err = tellmt("publish", bench.adapter("good", 1).path, "--corpus", bench.corpus)
    assert code == 1 and "4 segments of the test set mine are in the dev split" in err and bench.engines == []


def test_outputs_that_are_wrong_by_themselves_are_refused(bench: Bench, tellmt: Tellmt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far better than the base by chrF2, and silent on a fifth of the segments."""
    from tell.model.engine import Generation
    from tests.support.fake_eval_engine import FakeEngine

    plain = FakeEngine.generate

    async def generate(self: FakeEngine, prompts: Any, adapter_id: str | None) -> list[Generation]:
        out = await plain(self, prompts, adapter_id)
        return [Generation("", 1, "stop") if adapter_id and any(f" dev {k}" in g.text for k in range(10, 18)) else g for g in out]

    monkeypatch.setattr(FakeEngine, "generate", generate)
    bench.spoilt[1] = 0.0
    adapter = bench.adapter("silent", 1)
    code, published, err = tellmt("publish", adapter.path, "--corpus", bench.corpus)
    assert code == 1 and published["verdict"]["paired"]["adapter_vs_base"]["delta"] > 0, err
    assert "8 segments have the flag empty (2% of 40 allowed, the bare base has 0)" in err and published["verdict"]["limits"]["empty"] == 0.02
    assert published["verdict"]["metrics"]["adapter"]["diagnostics"]["flags"]["empty"] == 8
    for text, wanted in (("emty=0.3", "empty (did you mean this?)"), ("empty=30", "a share of the segments"), ("empty", "a share of the segments")):
        code, _, err = tellmt("publish", adapter.path, "--corpus", bench.corpus, "--allow", text)
        assert code == 2 and wanted in err, err
    code, published, err = tellmt("publish", adapter.path, "--corpus", bench.corpus, "--allow", "empty=0.3", "length=0.3")
    assert code == 0 and published["passed"] is True, err


@pytest.mark.skipif(not SHARED.is_dir(), reason="newstest2021 and the TELL authors' data are not shipped; they lie beside the project where it is developed")
def test_real_data_that_leaks(tellmt: Tellmt) -> None:
    """The TELL authors' dev documents are meant to be apart from newstest2021; two lines are in both."""
    news = SHARED / "en-is" / "newstest2021"
    sides = "--source", news / "newstest2021.is-en.src.is", "--target", news / "newstest2021.is-en.ref.A.en"
    assert tellmt("testset", "add", "newstest2021", *sides, "--pair", "is-en")[0] == 0
    code, found, _ = tellmt("testset", "check", SHARED / "en-is" / "tell-paper" / "dev-is-en.jsonl")
    assert code == 1 and [s["segment"] for s in found["testsets"][0]["leaked_segments"]] == [398, 399]
    code, found, _ = tellmt("testset", "check", SHARED / "en-is" / "tatoeba" / "tatoeba.en-is.tsv")
    assert code == 0 and found["testsets"][0]["segments"] == 1000


def test_the_limits_in_the_page_are_those_of_the_gate() -> None:
    import re

    from eval.gate.flag_limits import LIMITS
    from tests.conftest import ROOT

    text = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
    assert {flag: int(share) / 100 for flag, share in re.findall(r"\| `([a-z]+)` \| (\d+)% ", text)} == LIMITS


@pytest.mark.parametrize(
    ("n", "segments", "share", "surely"),
    [
        (6, 40, 0.1, False),
        (8, 40, 0.1, True),
        (18, 64, 0.08, True),
        (3, 1000, 0.02, False),
        (0, 10, 0.0, False),
        (3, 10, 0.0, True),
        (560, 5000, 0.1, True),
        (510, 5000, 0.1, False),
        (9, 10, 1.0, False),
    ],
)
def test_a_share_that_chance_explains_is_no_limit_passed(n: int, segments: int, share: float, surely: bool) -> None:
    from eval.gate.flag_limits import _surely_above

    assert _surely_above(n, segments, share) is surely
