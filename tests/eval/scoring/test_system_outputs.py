"""`tellmt score --hypotheses`: scores of outputs that are there already, metrics that packages bring, and spBLEU where its model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from eval.scoring.metrics import GROUP, metric
from tell.errors import BadInput
from tests.conftest import Tellmt
from tests.eval.compare.test_compare import FAR, NEAR, REFERENCES, SOURCES


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, lines in (("ref.en", REFERENCES), ("src.is", SOURCES), ("near.txt", NEAR), ("far.txt", FAR)):
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_outputs_of_anybody_are_scored_and_kept(tellmt: Tellmt, files: Path) -> None:
    code, report, err = tellmt("score", "--hypotheses", "near.txt", "far.txt", "--reference", "ref.en", "--source", "src.is", "-o", "out")
    assert code == 0 and "taken for is-en" in err, err
    near = report["systems"]["near"]
    for key, sacrebleu_score in (
        ("bleu", sacrebleu.corpus_bleu(NEAR, [REFERENCES])),
        ("chrf", sacrebleu.corpus_chrf(NEAR, [REFERENCES])),
        ("chrf++", sacrebleu.corpus_chrf(NEAR, [REFERENCES], word_order=2)),
        ("ter", sacrebleu.corpus_ter(NEAR, [REFERENCES])),
    ):
        assert near[key]["score"] == pytest.approx(sacrebleu_score.score, abs=1e-4) and "bs:1000|seed:12345|" in near[key]["signature"] and near[key]["ci"] > 0
    assert near["diagnostics"]["segments"] == 60 and report["pair"] == "is-en"
    # What was written is enough to compute everything again, and to compare.
    rows = [json.loads(line) for line in (files / "out" / "segments.jsonl").read_text().split("\n") if line]
    assert rows[3] == {"reference": REFERENCES[3], "source": SOURCES[3], "hypotheses": {"near": NEAR[3], "far": FAR[3]}}
    code, rescored, _ = tellmt(
        "score", "--hypotheses", "out", "--reference", "ref.en", "--source", "src.is", "--pair", "is-en", "--limit", 20, "--metric", "chrf"
    )
    assert code == 0 and (rescored["segments"], rescored["name"], list(rescored["systems"])) == (20, "ref.en[:20]", ["out/far", "out/near"])
    assert tellmt("compare", "out", "--metric", "chrf", "--trials", 100)[1]["order"] == ["out/near", "out/far"]


def test_registered_test_sets_are_scored_on_in_both_directions(tellmt: Tellmt, files: Path) -> None:
    assert tellmt("testset", "add", "ships", "--source", "src.is", "--target", "ref.en", "--pair", "is-en")[0] == 0
    code, report, err = tellmt("score", "--hypotheses", "near.txt", "--testset", "ships", "--metric", "chrf")
    assert code == 0 and (report["name"], report["pair"]) == ("ships", "is-en") and report["systems"]["near"]["chrf"]["score"] > 30, err
    code, report, err = tellmt("score", "--hypotheses", "src.is", "--testset", "ships", "--metric", "chrf", "--pair", "en-is")
    assert code == 0 and report["systems"]["src.is"]["chrf"]["score"] == 100, err
    code, _, err = tellmt("score", "--hypotheses", "near.txt", "--testset", "shops")
    assert code == 1 and "ships (did you mean this?)" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "either ADAPTER, or --hypotheses"),
        (("adapter", "--hypotheses", "near.txt", "--reference", "ref.en"), "either ADAPTER, or --hypotheses"),
        (("--hypotheses", "near.txt"), "--testset NAME"),
        (("--hypotheses", "near.txt", "--reference", "ref.en", "--testset", "x"), "--testset NAME"),
        (("--hypotheses", "near.txt", "--reference", "one.txt"), "60 hypotheses and 1 references"),
        (("--hypotheses", ".", "--reference", "ref.en"), "this is a directory"),
        (("--hypotheses", "near.txt", "--reference", "empty.txt"), "the file is empty"),
        (("--hypotheses", "near.txt", "--reference", "ref.en", "--metric", "chfr"), "chrf (did you mean this?)"),
        (("adapter", "--pair", "is-en", "--reference", "ref.en"), "--pair goes with --hypotheses"),
        (("adapter", "--testset", "x"), "-o DIR"),
    ],
)
def test_what_cannot_be_scored(tellmt: Tellmt, files: Path, args: tuple[str, ...], message: str) -> None:
    Path("one.txt").write_text("x\n")
    Path("empty.txt").write_text("")
    code, result, err = tellmt("score", *args)
    assert (code, result) == (2, None) and message in err, err


DUMMY = """
class Length:
    name, signature, higher_is_better, needs_sources = "SameLength", "same-length|version:1", True, True
    def segments(self, sources, hypotheses, references):
        return [100.0 - abs(len(h) - len(r)) for h, r in zip(hypotheses, references)]
class Short(Length):
    needs_sources = False
    def segments(self, sources, hypotheses, references):
        return [1.0]
def broken():
    raise RuntimeError("no model here")
"""


@pytest.fixture
def dummy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution, as far as entry points can tell."""
    site = tmp_path / "site"
    (site / "dummy_metrics-1.0.dist-info").mkdir(parents=True)
    (site / "dummy_metrics-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: dummy-metrics\nVersion: 1.0\n")
    points = "same-length = dummy_metrics:Length\nshort = dummy_metrics:Short\nbroken = dummy_metrics:broken\nbleu = dummy_metrics:broken\n"
    (site / "dummy_metrics-1.0.dist-info" / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    (site / "dummy_metrics.py").write_text(DUMMY)
    monkeypatch.syspath_prepend(site)


def test_a_package_brings_a_metric(dummy: None, tellmt: Tellmt, files: Path) -> None:
    both = ("--reference", "ref.en", "--source", "src.is")
    code, report, err = tellmt("score", "--hypotheses", "near.txt", *both, "--metric", "same-length", "bleu")
    assert code == 0 and "tok:13a" in report["systems"]["near"]["bleu"]["signature"], "what is built in cannot be replaced"
    same_length = report["systems"]["near"]["same-length"]
    expected = sum(100 - abs(len(h) - len(r)) for h, r in zip(NEAR, REFERENCES, strict=True)) / 60
    assert same_length["score"] == pytest.approx(expected, abs=1e-3) and same_length["name"] == "SameLength", err
    assert same_length["signature"] == "same-length|version:1|bs:1000|seed:12345"
    code, report, _ = tellmt("compare", "near.txt", "far.txt", *both, "--metric", "same-length", "--trials", 200)
    (c,) = report["comparisons"]
    assert code == 0 and c["delta"] < 0 and c["better"] is False and c["randomisation"]["signature"] == "same-length|version:1|seed:12345|ar:200"
    for args, text in (
        (("--metric", "same-length"), "reads the sources too"),
        (("--metric", "short"), "another number of scores"),
        (("--metric", "broken"), "RuntimeError: no model here"),
        (("--metric", "same-lenght"), "same-length (did you mean this?)"),
    ):
        code, _, err = tellmt("score", "--hypotheses", "near.txt", "--reference", "ref.en", *args)
        assert code == 2 and text in err, err


def test_spbleu_by_a_model_of_ones_own(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(REFERENCES), model_prefix="pieces", vocab_size=48, minloglevel=2)
    with pytest.raises(BadInput, match="never fetched"):
        metric("spbleu")
    monkeypatch.setenv("TELLMT_SPBLEU_MODEL", "pieces.model")
    spbleu = metric("spbleu")
    processor = sentencepiece.SentencePieceProcessor(model_file="pieces.model")
    cut = [[" ".join(processor.encode(t, out_type=str)) for t in side] for side in (NEAR, REFERENCES)]
    sacrebleu_score = sacrebleu.corpus_bleu(cut[0], [cut[1]], tokenize="none", force=True).score
    assert spbleu.of(spbleu.statistics(NEAR, REFERENCES).sum(0)) == pytest.approx(sacrebleu_score, abs=1e-6)
    assert "tok:spm-" in spbleu.signature()
    Path("pieces.model").write_text("no model")
    with pytest.raises(BadInput, match="not a SentencePiece model"):
        metric("spbleu")


def test_comet_is_asked_as_its_package_wants(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a stand-in for the package: what is given to it, and what is made of its answer."""
    import sys
    import types

    predictions: list[Any] = []

    class Model:
        def predict(self, rows: list[dict[str, str]], **options: Any) -> Any:
            predictions.append((rows, options))
            return types.SimpleNamespace(scores=[0.25, 0.75])

    fake = types.ModuleType("comet")
    fake.load_from_checkpoint = lambda path: Model()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comet", fake)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.2.7")
    monkeypatch.setenv("TELLMT_COMET", "model.ckpt")
    with pytest.raises(BadInput, match="TELLMT_COMET"):
        metric("comet")
    Path("model.ckpt").write_text("")
    comet = metric("comet")
    assert comet.of(comet.statistics(["a", "b"], ["c", "d"], ["e", "f"]).sum(0)) == 0.5
    assert predictions[0][0] == [{"src": "e", "mt": "a", "ref": "c"}, {"src": "f", "mt": "b", "ref": "d"}] and predictions[0][1]["progress_bar"] is False
    assert comet.signature(bs=40) == "model:model.ckpt|version:comet-2.2.7|bs:40"
