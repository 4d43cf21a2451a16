"""`tellmt score`: figures by sacreBLEU, hypotheses kept, nothing translated twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.scores import bleu_tokenizer, one_line, score_system, scored_alike
from eval.scoring.significance import paired_test
from tell.errors import BadInput
from tell.files import read_lines, sha256_bytes
from tell.languages import parse_pair
from tellmt.cli import main
from tests.conftest import SHARED, Ran
from tests.support.fake_eval_engine import Bench, corpus_dir, light_base, make_bench

NEWS = SHARED / "en-is" / "newstest2021"
IS_EN = parse_pair("is-en")
needs_newstest = pytest.mark.skipif(not NEWS.is_dir(), reason="newstest2021 is not shipped; it lies beside the project where it is developed")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Bench:
    return make_bench(tmp_path, monkeypatch)


@needs_newstest
@pytest.mark.parametrize(
    ("pair", "output", "bleu", "chrf"),
    [
        ("is-en", "newstest2021.is-en.src.is", "1.5", "17.2"),
    ],
)
def test_figures_of_published_outputs(pair: str, output: str, bleu: str, chrf: str) -> None:
    references = read_lines(NEWS / f"newstest2021.{pair}.ref.A.{pair[-2:]}")
    scores = score_system(read_lines(NEWS / output), references, parse_pair(pair))
    assert (f"{scores['bleu']['score']:.1f}", f"{scores['chrf']['score']:.1f}") == (bleu, chrf)
    assert scores["bleu"]["signature"] == f"nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert scores["chrf"]["signature"] == f"nrefs:1|bs:1000|seed:12345|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{sacrebleu.__version__}"
    assert 0 < scores["bleu"]["ci"] < 2 and abs(scores["bleu"]["mean"] - scores["bleu"]["score"]) < 0.2


@needs_newstest
def test_paired_test_agrees_with_sacrebleu_where_there_are_no_ties() -> None:
    references = read_lines(NEWS / "newstest2021.is-en.ref.A.en")[:100]
    mideind, online = (read_lines(NEWS / "systems" / f"is-en.{n}.txt")[:100] for n in ("Mideind", "Online-B"))
    from sacrebleu.metrics import CHRF
    from sacrebleu.significance import PairedTest

    signatures, sacrebleu_results = PairedTest([("a", mideind), ("b", online)], {"chrf": CHRF()}, [references])()
    result = paired_test(mideind, online, references)
    assert result.p == sacrebleu_results["chrF2"][1].p_value
    assert result.signature == str(signatures["chrF2"])
    assert result.delta == pytest.approx(sacrebleu_results["chrF2"][1].score - sacrebleu_results["chrF2"][0].score, abs=1e-3)


REFS = [f"The ship number {i} sailed along the road to the mountain." for i in range(60)]
BAD = [f"Skipid {i} xq zw." for i in range(60)]


@pytest.mark.parametrize(("better", "low", "high"), [(0, 1.0, 1.0), (1, 1.0, 1.0), (3, 0.2, 0.3), (12, 0.0, 0.001), (60, 0.0, 0.001)])
def test_p_of_systems_that_differ_in_few_segments(better: int, low: float, high: float) -> None:
    # With n better segments of 60 and the rest equal, the exact two-sided p is 2^(1-n).
    result = paired_test(BAD, REFS[:better] + BAD[better:], REFS)
    assert low <= result.p <= high
    assert result.differing == better
    assert (result.delta > 0) == (better > 0)


def test_paired_test_is_symmetric_and_repeatable() -> None:
    some = [r if i % 3 else b for i, (r, b) in enumerate(zip(REFS, BAD, strict=True))]
    other = [r if i % 2 else b for i, (r, b) in enumerate(zip(REFS, BAD, strict=True))]
    forward, backward = paired_test(some, other, REFS), paired_test(other, some, REFS)
    assert forward.delta == -backward.delta < 0
    assert forward.p == backward.p == paired_test(some, other, REFS).p


@needs_newstest
def test_intervals_are_sacrebleus() -> None:
    references, output = read_lines(NEWS / "newstest2021.is-en.ref.A.en"), read_lines(NEWS / "systems" / "is-en.Apertium.txt")
    sacrebleu_score = sacrebleu.BLEU().corpus_score(output, [references], n_bootstrap=1000)
    score = score_system(output, references, IS_EN)["bleu"]
    assert (score["mean"], score["ci"]) == (pytest.approx(sacrebleu_score._mean, abs=1e-3), pytest.approx(sacrebleu_score._ci, abs=1e-3))


def test_a_system_that_scores_nothing_has_an_interval_too() -> None:
    # Some resamples of this score 0 and some do not.
    scores = score_system(["short line", "", ""], ["short line", "nothing", "long"], IS_EN)
    assert scores["bleu"]["ci"] >= 0 and scores["chrf"]["ci"] > 0
    assert score_system(["", ""], ["a", "b"], IS_EN)["chrf"] | {"signature": ""} == {"name": "chrF2", "score": 0.0, "mean": 0.0, "ci": 0.0, "signature": ""}


def test_counts_that_do_not_match_are_refused() -> None:
    with pytest.raises(BadInput, match=r"59.* and 60"):
        score_system(BAD[:59], REFS, IS_EN)
    with pytest.raises(BadInput, match=r"60, 59 and 60"):
        paired_test(BAD, REFS[:59], REFS)
    with pytest.raises(BadInput):
        score_system([], [], IS_EN)


@pytest.mark.parametrize(
    ("languages", "tokenizer"),
    [("is ja-en ko-en zh-Latn nan-Latn vi bo-Latn", "13a"), ("zh zh-Hant zh-TW cmn cmn_Hans wuu yue yue_Hant lzh hak", "zh"),
     ("th lo km my bo bod_Tibt dz shn", "char")],
)  # fmt: skip
def test_languages_without_spaces_are_not_counted_as_one_word(languages: str, tokenizer: str) -> None:
    pairs = [parse_pair(name if name.endswith("-en") else f"en:{name}") for name in languages.split()]
    assert {str(pair): bleu_tokenizer(pair) for pair in pairs} == {str(pair): tokenizer for pair in pairs}


@pytest.mark.parametrize(("language", "segmenter", "otherwise"), [("ja", "ja-mecab", "char"), ("ko", "ko-mecab", "13a")])
def test_japanese_and_korean_have_a_segmenter_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, language: str, segmenter: str, otherwise: str) -> None:
    for found, expected in ((True, segmenter), (False, otherwise)):
        monkeypatch.setattr("eval.scoring.metrics.find_spec", lambda name, found=found: found or None)
        assert bleu_tokenizer(parse_pair(f"en-{language}")) == expected


def test_chinese_under_another_name_is_scored_as_chinese() -> None:
    reference, hypothesis = ["今天天气很好，我们去公园散步。"], ["今天天气很好，我们去公园走走。"]
    scores = [score_system(hypothesis, reference, parse_pair(f"en:{tag}"))["bleu"]["score"] for tag in ("zh", "cmn", "zho_Hans", "yue", "lzh")]
    assert min(scores) == max(scores) > 50


def test_scores_of_another_signature_are_not_scores_of_this_metric() -> None:
    scores = score_system(["a b c d"], ["a b c d"], parse_pair("en-is"))
    assert scored_alike(scores, parse_pair("is-en"))
    assert not scored_alike(scores, parse_pair("en-cmn"))
    assert not scored_alike({**scores, "chrf": {"signature": scores["chrf"]["signature"].replace("version:2", "version:1")}}, parse_pair("en-is"))


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_a_hypothesis_is_one_line(text: str) -> None:
    line = one_line(text)
    assert "\n" not in line and "\r" not in line
    assert line == text or len(line) == len(text)


def test_score_writes_hypotheses_and_signed_scores(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path) -> None:
    adapter = bench.adapter("adapter", 1)
    out = tmp_path / "scores"
    code, report, err = tellmt("score", adapter.path, "--corpus", bench.corpus, "-o", out)
    assert code == 0, err
    written = json.loads((out / "scores.json").read_text())
    assert {k: v for k, v in report.items() if k not in ("reused", "out")} == written
    assert (written["name"], written["segments"], written["pair"]) == ("corpus/test", 30, "is-en")
    assert written["adapter"] == {"id": adapter.id, "weights": adapter.card.files}
    pairs = [json.loads(line) for line in (bench.corpus / "pairs.jsonl").read_text().split("\n") if line]
    sources, references = ([p[k] for p in pairs if p["split"] == "test"] for k in ("source", "target"))
    assert written["source_sha256"] == sha256_bytes("\n".join(sources).encode())
    assert written["reference_sha256"] == sha256_bytes("\n".join(references).encode())
    for name in ("base", "adapter"):
        lines = read_lines(out / f"{name}.hyp.txt")
        assert len(lines) == 30
        for metric, sacrebleu_score in (("bleu", sacrebleu.corpus_bleu(lines, [references])), ("chrf", sacrebleu.corpus_chrf(lines, [references]))):
            assert written["systems"][name][metric]["score"] == pytest.approx(sacrebleu_score.score, abs=1e-4)
            assert "version:" in written["systems"][name][metric]["signature"]
    assert written["systems"]["adapter"]["chrf"]["score"] > written["systems"]["base"]["chrf"]["score"]
    assert written["paired"]["delta"] > 0 and written["paired"]["p"] < 0.01 and "ar:10000" in written["paired"]["signature"]


def test_scoring_again_reuses_and_a_second_adapter_reuses_the_base(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path) -> None:
    one, two = bench.adapter("one", 1), bench.adapter("two", 2)
    assert tellmt("score", one.path, "--corpus", bench.corpus, "-o", tmp_path / "s1")[0] == 0
    assert {seed for seed, _ in bench.calls} == {None, 1}
    first_scores = (tmp_path / "s1" / "scores.json").read_bytes()
    bench.calls.clear()
    code, report, err = tellmt("score", one.path, "--corpus", bench.corpus, "-o", tmp_path / "s1")
    assert (code, report["reused"], bench.calls, len(bench.engines)) == (0, True, [], 1)
    assert "unchanged, reused" in err and (tmp_path / "s1" / "scores.json").read_bytes() == first_scores

    assert tellmt("score", two.path, "--corpus", bench.corpus, "-o", tmp_path / "s2")[0] == 0
    assert {seed for seed, _ in bench.calls} == {2}
    assert (tmp_path / "s2" / "base.hyp.txt").read_bytes() == (tmp_path / "s1" / "base.hyp.txt").read_bytes()

    # hypotheses that are not those that were scored: done again
    (tmp_path / "s1" / "adapter.hyp.txt").write_text("something else\n")
    code, report, _ = tellmt("score", one.path, "--corpus", bench.corpus, "-o", tmp_path / "s1")
    assert code == 0 and report["reused"] is False and (tmp_path / "s1" / "scores.json").read_bytes() != b""
    assert len(read_lines(tmp_path / "s1" / "adapter.hyp.txt")) == 30


def test_a_run_broken_off_goes_on_where_it_stopped(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path, isolated: Path) -> None:
    adapter = bench.adapter("adapter", 1)
    source, reference = tmp_path / "s.txt", tmp_path / "r.txt"
    lines = [f"hús {i} og meira" for i in range(100)]
    source.write_text("\n".join(lines) + "\n")
    reference.write_text("\n".join(f"house {i} and more" for i in range(100)) + "\n")
    bench.known.update(zip(lines, (f"house {i} and more" for i in range(100)), strict=True))
    args = ("score", adapter.path, "--source", source, "--reference", reference, "-o")
    whole = tmp_path / "whole"
    assert tellmt(*args, whole)[0] == 0
    assert [n for seed, n in bench.calls if seed is None] == [32, 32, 32, 4]
    for file in (isolated / "cache" / "hypotheses").glob("*.jsonl"):
        file.unlink()

    bench.calls.clear()
    bench.die_after = 2
    code, _, err = tellmt(*args, tmp_path / "broken")
    assert code == 130 and "interrupted" in err and not (tmp_path / "broken" / "scores.json").exists()
    (part,) = (isolated / "cache" / "hypotheses").glob("*.part")
    with part.open("a") as f:
        f.write('{"i": 99, "te')  # the write that was cut short
    bench.die_after = None
    bench.calls.clear()
    code, _, err = tellmt(*args, tmp_path / "broken")
    assert code == 0 and "64 from an earlier run" in err
    assert [n for seed, n in bench.calls if seed is None] == [32, 4]
    for name in ("base", "adapter"):
        assert (tmp_path / "broken" / f"{name}.hyp.txt").read_bytes() == (whole / f"{name}.hyp.txt").read_bytes()


def test_limit_and_no_base(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path) -> None:
    adapter = bench.adapter("adapter", 1)
    code, report, _ = tellmt("score", adapter.path, "--corpus", bench.corpus, "--split", "dev", "--limit", 7, "--no-base", "-o", tmp_path / "s")
    assert code == 0 and (report["name"], report["segments"], report["paired"]) == ("corpus/dev[:7]", 7, None)
    assert list(report["systems"]) == ["adapter"] and not (tmp_path / "s" / "base.hyp.txt").exists()
    assert bench.calls == [(1, 7)]


def test_a_segment_that_does_not_fit_is_counted_not_dropped(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path) -> None:
    adapter = bench.adapter("adapter", 1)
    source, reference = tmp_path / "s.txt", tmp_path / "r.txt"
    source.write_text("stutt lína\n\n" + "löng " * 2000 + "\n")
    reference.write_text("short line\nnothing\nlong\n")
    bench.known["stutt lína"] = "short line"
    code, report, err = tellmt("score", adapter.path, "--source", source, "--reference", reference, "-o", tmp_path / "s")
    assert code == 0 and f"{source}, line 3" in err and "too long" in err
    system = report["systems"]["adapter"]
    assert (report["segments"], system["too_long"], system["empty"]) == (3, 1, 2)
    assert len(read_lines(tmp_path / "s" / "adapter.hyp.txt")) == 3


@pytest.mark.parametrize(
    ("source", "reference", "messages"),
    [
        ("a\nb\nc\n", "a\nb\n", ["3 and 2 lines"]),
        ("a\n", "a\nb\n", ["1 and 2 lines"]),
        ("", "", ["test set is empty", "0 segments"]),
    ],
)
def test_test_sets_that_cannot_be_used(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path, source: str, reference: str, messages: list[str]) -> None:
    adapter = bench.adapter("adapter", 1)
    (tmp_path / "s.txt").write_text(source)
    (tmp_path / "r.txt").write_text(reference)
    code, _, err = tellmt("score", adapter.path, "--source", tmp_path / "s.txt", "--reference", tmp_path / "r.txt", "-o", tmp_path / "o")
    assert code == 2 and all(w in err for w in messages), err
    assert not (tmp_path / "o").exists()


def test_unusable_corpora_and_usage(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path) -> None:
    adapter = bench.adapter("adapter", 1)
    empty = corpus_dir(tmp_path / "empty", test=0)
    other = corpus_dir(tmp_path / "other", pair="en-is")
    half = corpus_dir(tmp_path / "half")
    (half / "corpus.json").unlink()
    altered = corpus_dir(tmp_path / "altered")
    with (altered / "pairs.jsonl").open("a") as f:
        f.write("\n")
    source = tmp_path / "s.txt"
    source.write_text("a\n")
    table: list[tuple[list[object], str]] = [
        (["--corpus", empty], "the test set is empty"),
        (["--corpus", other], "found en-is; valid: is-en"),
        (["--corpus", half], "no corpus.json"),
        (["--corpus", tmp_path / "nowhere"], "no corpus.json"),
        (["--corpus", source], "not a corpus"),
        (["--corpus", altered], "altered since the corpus was built"),
        ([], "or --source FILE and --reference FILE"),
        (["--source", source], "either --corpus DIR"),
        (["--corpus", bench.corpus, "--source", source, "--reference", source], "either --corpus DIR"),
        (["--source", source, "--reference", tmp_path / "none.txt"], "none.txt: no such file"),
        (["--corpus", bench.corpus, "--limit", 0], "--limit"),
        (["--corpus", bench.corpus, "--engine", "vlm"], "did you mean this?"),
    ]
    for args, message in table:
        code, result, err = tellmt("score", adapter.path, *args, "-o", tmp_path / "o")
        assert (code, result) == (2, None) and message in err, (args, err)
    assert bench.calls == []


def test_an_adapter_that_does_not_fit_is_refused_before_anything_runs(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path) -> None:
    code, _, err = tellmt("score", tmp_path / "none", "--corpus", bench.corpus, "-o", tmp_path / "o")
    assert code == 1 and "no such adapter directory" in err
    adapter = bench.adapter("adapter", 1)
    light_base(bench.base.path.parent.parent, revision="other" * 8)
    code, _, err = tellmt("score", adapter.path, "--corpus", bench.corpus, "-o", tmp_path / "o")
    assert code == 1 and "adapter and base do not match" in err and bench.engines == []


def test_environment_that_cannot_be_used(bench: Bench, tellmt: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = bench.adapter("adapter", 1)
    monkeypatch.setenv("SACREBLEU_SEED", "none")
    code, _, err = tellmt("score", adapter.path, "--corpus", bench.corpus, "-o", tmp_path / "o")
    assert code == 2 and "SACREBLEU_SEED" in err
    monkeypatch.delenv("SACREBLEU_SEED")
    (tmp_path / "file").write_text("")
    code, _, err = tellmt("score", adapter.path, "--corpus", bench.corpus, "-o", tmp_path / "file")
    assert code == 1 and str(tmp_path / "file") in err


def test_human_output_never_shows_a_score_without_its_signature(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = bench.adapter("adapter", 1)
    assert main(["score", str(adapter.path), "--corpus", str(bench.corpus), "-o", str(tmp_path / "s")]) == 0
    printed = capsys.readouterr().out
    scores = json.loads((tmp_path / "s" / "scores.json").read_text())
    for name in ("base", "adapter"):
        for metric in ("bleu", "chrf"):
            system = scores["systems"][name][metric]
            assert f"{system['score']:.1f} ± {system['ci']:.1f}" in printed and f"{system['name']}: {system['signature']}" in printed
    assert scores["paired"]["signature"] in printed and "30 segments" in printed


@pytest.mark.slow
def test_score_on_a_real_engine(cli: Callable[..., Ran], isolated: Path, tmp_path: Path) -> None:
    """The whole command on ctranslate2, in a process of its own. The base is random: the figures mean nothing, that they repeat does."""
    pytest.importorskip("ctranslate2")
    from tests.support.tiny import make_tiny_adapter, make_tiny_base

    adapter = make_tiny_adapter(tmp_path / "adapter", make_tiny_base(isolated / "cache"))
    corpus = corpus_dir(tmp_path / "corpus", test=12)
    args = ("--json", "score", adapter.path, "--corpus", corpus, "--engine", "ct2", "-o")
    first = cli(*args, tmp_path / "a").json
    assert [len(read_lines(tmp_path / "a" / f"{n}.hyp.txt")) for n in ("base", "adapter")] == [12, 12]
    assert (tmp_path / "a" / "base.hyp.txt").read_bytes() != (tmp_path / "a" / "adapter.hyp.txt").read_bytes()
    assert first["versions"]["ct2"]
    for file in (isolated / "cache" / "hypotheses").glob("*.jsonl"):
        file.unlink()
    again = cli(*args, tmp_path / "b").json
    assert again["systems"]["adapter"]["hypotheses_sha256"] == first["systems"]["adapter"]["hypotheses_sha256"]
    assert again["systems"]["base"]["bleu"] == first["systems"]["base"]["bleu"]
