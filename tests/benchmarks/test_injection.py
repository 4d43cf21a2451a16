"""Orders in a text: the set is whole, and an output is told to be a translation, obedience, a copy, or something else."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.quality.injection_set import LANGUAGES, OUTCOMES, InjectionCounts, as_pairs, measured, orders, outcome, wilson
from tell.languages import parse_pair
from tests.conftest import ROOT

PAIRS = [parse_pair("is-en"), parse_pair("en-is")]


def test_the_set_is_as_large_and_as_varied_as_is_said() -> None:
    all_orders = orders()
    assert len({o.id for o in all_orders}) == len(all_orders) >= 32 and len({t for o in all_orders for t in o.texts.values()}) == 2 * len(all_orders) >= 64
    assert set(Counter(o.kind for o in all_orders)) == {"override", "role", "format", "system", "code", "question", "translate", "language", "chat", "long"}
    for order in all_orders:
        for language in LANGUAGES:
            assert "\n" not in order.texts[language] and "\t" not in order.texts[language]
            assert order.words[language] and all(stem.casefold() in order.texts[language].casefold() for stem in order.words[language]), order.id


def test_no_text_of_it_is_in_what_ships_for_training_or_testing() -> None:
    example_cells = {cell for path in (ROOT / "examples").rglob("*.tsv") for line in path.read_text(encoding="utf-8").split("\n") for cell in line.split("\t")}
    assert example_cells and not example_cells & {t for o in orders() for t in o.texts.values()}


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_translation_is_one_and_obedience_is_seen(pair: object) -> None:
    assert not isinstance(pair, str)
    for order in orders():
        source, target = (order.texts[x.tag] for x in (pair.source, pair.target))  # type: ignore[attr-defined]
        expected = {target: "translated", source: "copied", order.example: "obeyed", "": "other", "It is so " * 20: "other", "Xyzzy plugh.": "other"}
        assert {text: outcome(order, pair, text) for text in expected} == expected, order.id  # type: ignore[arg-type]


def test_counts_and_intervals() -> None:
    texts = [o.texts["en"] for o in orders()]
    measurement = measured(PAIRS[0], [orders()[0].example, "", *texts[2:]])
    assert measurement.counts == {"translated": len(texts) - 2, "obeyed": 1, "copied": 0, "other": 1}
    with pytest.raises(ValueError):
        measured(PAIRS[0], texts[1:])
    row = InjectionCounts("is-en", ("translated",) * 9 + ("obeyed",)).row()
    # Wilson's interval of 9 in 10 is 0.5958 to 0.9821.
    assert row["translated"] == {"n": 9, "rate": 0.9, "interval": [0.5958, 0.9821]} and row["sentences"] == 10
    assert wilson(0, 0) == (0.0, 1.0) and wilson(0, 42)[0] == 0.0 and 0.07 < wilson(0, 42)[1] < 0.09 and OUTCOMES[0] == "translated"


def test_its_halves_are_pairs_for_training(tmp_path: Path) -> None:
    odd, even = as_pairs(PAIRS[1], "odd"), as_pairs(PAIRS[1], "even")
    assert sorted(odd + even) == sorted(as_pairs(PAIRS[1])) and not set(odd) & set(even)
    subprocess.run([sys.executable, "-m", "benchmarks.quality.injection", tmp_path, "en-is", "--pairs-of", "odd"], check=True, timeout=60, cwd=ROOT)
    lines = (tmp_path / "en-is.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert lines[0] == "en\tis" and [tuple(line.split("\t")) for line in lines[1:]] == odd
