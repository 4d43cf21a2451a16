"""The index of n-grams: what it finds, against what comparing with every text finds."""

from __future__ import annotations

import random

import pytest

from tell.retrieval.nearest import Nearest, grams

TEXTS = ["Save the file", "Save the document", "Open the file", "save  the FILE", "Close", "ファイルを保存する", "บันทึกไฟล์"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # Case, white space and the form of letters make no difference.
        ("SAVE THE\tFILE", [0, 3]),
        ("ファイルを保存", [5]),
        ("บันทึกไฟล์ใหม่", [6]),
        ("cafe\u0301", []),
        ("", []),
        (" \n ", []),
        ("x", []),
        ("q" * 10_000, []),
    ],
)
def test_what_is_near(text: str, found: list[int]) -> None:
    assert [number for number, _ in Nearest(TEXTS).find(text, 2, 0.6)] == found


def test_the_forms_of_letters() -> None:
    assert grams("Cafe\u0301") == grams("CAFÉ") == [" ca", "caf", "afé", "fé "]


def test_the_threshold_the_count_and_what_is_left_out() -> None:
    index = Nearest(TEXTS)
    every = index.find("Save the file", 8, 0.1)
    assert [number for number, _ in every[:2]] == [0, 3] and every[0][1] == every[1][1] == 1.0
    assert {1, 2} < {number for number, _ in every} and [score for _, score in every] == sorted((score for _, score in every), reverse=True)
    assert index.find("Save the file", 1, 1.0) == [(0, 1.0)] and index.find("Save the file", 1, 1.0, without=0) == [(3, 1.0)]
    (third, score) = every[2]
    assert index.find("Save the file", 8, score)[2] == (third, score)
    assert [number for number, _ in index.find("Save the file", 8, score + 1e-6)] == [0, 3]
    assert Nearest([]).find("Save", 1, 0.1) == []


@pytest.mark.parametrize("min_score", [0.1, 0.4, 0.7, 0.95])
def test_it_finds_what_comparing_with_every_text_finds(min_score: float) -> None:
    chance = random.Random(5)
    words = ["open", "save", "close", "file", "files", "folder", "window", "the", "a", "new", "all", "settings", "page", "3", "14", "before", "you"]
    texts = [" ".join(chance.choices(words, k=chance.randint(1, 9))) for _ in range(200)]
    index = Nearest(texts)
    owns = [dict.fromkeys(grams(text)) for text in texts]
    weights = {gram: index._weight(sum(gram in own for own in owns)) for own in owns for gram in own}
    for number, own in enumerate(owns[:20]):
        scores = []
        for other, its in enumerate(owns):
            both = sum(weights[g] for g in own if g in its)
            scores.append((-min(1.0, round(2 * both / (sum(weights[g] for g in own) + sum(weights[g] for g in its)), 6)), other))
        expected = [(other, -score) for score, other in sorted(scores) if other != number and -score >= min_score][:2]
        assert index.find(texts[number], 2, min_score, without=number) == expected
