"""Corrections as scores and as training data: what users sent comes back out of the file, checked against test sets and the canary set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellmt.cli import main
from tests.support.fake_eval_engine import corpus_dir

A, B = "a" * 32, "b" * 32


def row(source: str, translation: str, correction: str, pair: str = "is-en", adapter: str = A) -> dict[str, Any]:
    return {
        "source": source,
        "target": correction,
        "translation": translation,
        "pair": pair,
        "adapter": adapter,
        "time": "2026-01-01T00:00:00+00:00",
        "key": None,
    }


@pytest.fixture
def tellmt(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    def run(*args: object) -> tuple[int, dict[str, Any], str]:
        code = main(["--json", *map(str, args)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {}, err

    return run


def kept(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    return path


def test_scores_by_version_and_pairs_to_train_on(tmp_path: Path, tellmt: Any) -> None:
    corpus = corpus_dir(tmp_path / "corpus", dev=120)
    assert tellmt("monitor", "freeze", "is-en", "--corpus", corpus, "--size", 100)[0] == 0
    canary = json.loads((Path.cwd() / "monitor" / "canary" / "is-en.json").read_text())["segments"][0]
    rows = [row(f"Þetta er setning númer {w}.", f"This is sentence number {w}.", f"This is sentence number {w}.") for w in ("eitt", "tvö", "þrjú", "fjögur")]
    rows += [row("Hún fór heim.", "Hann go home", "She went home."), row("Hún fór heim.", "Hann go home", "She went back home.", adapter=B)]
    rows += [row("Góðan daginn.", "", "Good day."), row(canary["source"], "x", "Something else."), row("Leynt próf hér.", "x", "A secret test here.")]
    rows += [row("Halló.", "Bonjour.", "Salut.", pair="is-fr"), {"source": "no correction"}, row("", "", "x"), row("a", "b", "c", pair="nowhere")]
    file, test = kept(tmp_path / "f.jsonl", rows), tmp_path / "test.en.txt"
    test.write_text("a secret test, here\n")
    code, report, message = tellmt("monitor", "feedback", file, "--pair", "is-en", "--against", test, "-o", tmp_path / "feedback.jsonl")
    assert code == 0 and report["corrections"] == 10 and report["strange"] == 3 and "3 lines are no corrections" in message
    by = {(v["pair"], v["version"]): v for v in report["versions"]}
    row_of_version = by["is-en", A]
    assert (row_of_version["segments"], row_of_version["without_output"], row_of_version["unchanged"]) == (7, 1, 4)
    assert set(row_of_version["scores"]) == {"bleu", "chrf", "ter"} and all("version:" in s["signature"] for s in row_of_version["scores"].values())
    assert 40 < row_of_version["scores"]["chrf"]["score"] < 100 and by["is-en", B]["scores"]["chrf"]["score"] < row_of_version["scores"]["chrf"]["score"]
    corpus_rows = [json.loads(line) for line in (tmp_path / "feedback.jsonl").read_text().split("\n") if line]
    assert (
        ("She went back home.", B) in {(r["target"], r["adapter"]) for r in corpus_rows}
        and len({r["doc"] for r in corpus_rows}) == 6
        and len(corpus_rows) == report["written"] == 6
    )
    assert report["left_out"] == {"of another pair": 1, "in the canary set": 1, "in test.en.txt": 1, "corrected again later": 1}
    assert "tellmt corpus build" in message
    assert tellmt("corpus", "build", tmp_path / "feedback.jsonl", "--pair", "is-en", "--dev", 1, "--test", 1, "-o", tmp_path / "new")[0] == 0
    # In the history, for the status page.
    assert {v["version"] for v in tellmt("monitor", "report", "is-en")[1]["feedback"]["is-en"]} == {A, B}


@pytest.mark.parametrize(
    ("rows", "args", "message"),
    [
        ([], (), "no corrections"),
        ([{"a": 1}], (), "found 1 lines that are none"),
        ([row("Hún fór.", "x", "She went.")], ("--pair", "is-fr", "-o", "out"), "no correction can be trained on; found 1 of another pair"),
        ([row("Hún fór.", "x", "She went.")], ("-o", "out"), "--pair, --against and -o go together"),
        (None, (), "line 1: not JSON"),
    ],
)
def test_what_is_refused(rows: list[Any] | None, args: tuple[str, ...], message: str, tmp_path: Path, tellmt: Any) -> None:
    file = tmp_path / "f"
    kept(file, rows) if rows is not None else file.write_text("{half\n")
    code, _, err = tellmt("monitor", "feedback", file, *args)
    assert code == 2 and message in err and not Path("out").exists()
