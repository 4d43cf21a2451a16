"""Requests that call a language by another of its names go to the pair that is served."""

from __future__ import annotations

import pytest

from serve.translation.routing import reachable
from serve.translation.source_language import as_served, find_served_pair, pairs_into
from tell.text.language_id import Detected, detect, label

BOKMAAL = "Regjeringen la i dag fram forslaget til statsbudsjett for neste år, og det får følger for kommunene."


@pytest.mark.parametrize(
    ("served", "target", "pairs"),
    [("en-no", "nb", "en-no"), ("en-nb en-no", "nb", "en-nb"), ("en-nb en-no", "no", "en-no"), ("en-zh", "cmn-Hans", "en-zh"), ("en-et", "ekk_Latn", "en-et")],
)
def test_pairs_into_a_language(served: str, target: str, pairs: str) -> None:
    assert " ".join(map(str, pairs_into(served.split(), target))) == pairs


@pytest.mark.parametrize(("served", "pair"), [("no-en is-en", "no-en"), ("nb-en is-en", "nb-en"), ("nb-en no-en is-en", "nb-en")])
def test_a_detected_language_goes_to_its_equal(served: str, pair: str) -> None:
    assert str(find_served_pair(served.split(), "en", BOKMAAL).pair) == pair


def test_a_text_in_the_target_language_by_another_name_stays() -> None:
    assert find_served_pair(["en-nb"], "no", BOKMAAL).pair is None


@pytest.mark.parametrize(
    ("label", "served", "named"),
    [
        ("no", "nb-en", "nb"),
        ("no", "nb-en no-en", "no"),
        ("no", "nn-en", "no"),
        ("tl", "fil-en", "fil"),
        ("pt", "pt-BR:en", "pt"),
        ("gug", "gn-en", "gn"),
        ("und", "is-en", "und"),
    ],
)
def test_a_detected_language_has_the_name_that_is_served(label: str, served: str, named: str) -> None:
    assert as_served(Detected(label, 0.5), served.split()) == Detected(named, 0.5)


def test_no_pivot_leads_from_a_language_to_itself() -> None:
    assert reachable(["no-en", "en-nb", "en-is"], ["pivot"]) == ["en-is", "en-nb", "no-en", "no-is"]
    assert "nb-no" not in reachable(["no-en", "en-nb"], ["base"])


@pytest.mark.parametrize(
    ("tag", "known"),
    [("nb", "no"), ("nn", "nn"), ("nb-NO", "no"), ("cmn", "zh"), ("yue", "yue"), ("arb", "ar"), ("arz", "arz"), ("fil", "tl"), ("tl", "tl"), ("iw", "he"),
     ("ekk_Latn", "et"), ("quy", "qu"), ("gn", "gug"), ("kmr", "ku"), ("npi", "ne"), ("apc", None), ("xx", None)],
)  # fmt: skip
def test_labels_of_the_model(tag: str, known: str | None) -> None:
    assert label(tag) == known


def test_detection_among_equals_is_by_the_name_that_is_asked_for() -> None:
    assert detect(BOKMAAL, ["nb", "is"]).language == "nb" and detect(BOKMAAL, ["no", "is"]).language == "no"
