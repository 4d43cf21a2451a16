"""What a profile calls usual: the divergence that 19 of 20 windows of the same kind of text stay below, by simulation with fixed seeds."""

from __future__ import annotations

import math
import random

import pytest

from eval.monitor import drift

WINDOW = 1500
LETTERS = "aábdðeéfghiíjklmnoóprstuúvxyýþæö"


def speaker(draw: random.Random) -> list[str]:
    return ["".join(draw.choices(LETTERS, k=draw.randint(2, 9))) for _ in range(300)]


def sentences(words: list[str], windows: float, draw: random.Random) -> list[str]:
    """Some windows of text, of which every tenth sentence or so is on a subject of its own words."""
    texts: list[str] = []
    size = 0
    while size < windows * WINDOW:
        subject = draw.sample(words, 30)
        for _ in range(draw.randint(2, 6)):
            texts.append(" ".join(draw.choice(subject if draw.random() < 0.1 else words[: 1 + int(300 * draw.random() ** 2)]) for _ in range(8)))
            size += len(texts[-1]) - 2
    return texts


# What five windows say varies much from corpus to corpus; it was above a third.
@pytest.mark.parametrize(("windows", "most"), [(6, 0.1), (12, 0.07), (30, 0.07)])
def test_one_window_in_twenty_is_above_what_is_usual(windows: int, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "WINDOW", WINDOW)
    draw, above, seen = random.Random(windows), 0, 0
    for _ in range(40):
        words = speaker(draw)
        profile = drift.profile_of(sentences(words, windows, draw))
        assert profile.usual is not None
        new = sentences(words, 20, draw)
        for first, end in drift._windows(new):
            above += drift.divergence(drift.trigrams(new[first:end]), profile.counts) > profile.usual
            seen += 1
    assert seen > 700 and 0.03 <= above / seen <= most, above / seen


def test_the_quantile_of_few_and_of_many() -> None:
    assert drift.nineteen_of_twenty([float(i) for i in range(1, 20)]) == 19.0
    assert drift.nineteen_of_twenty([float(i) for i in range(1, 100)]) == 95.0
    # Student's quantile for 3 degrees of freedom is 2.353.
    assert drift.nineteen_of_twenty([math.exp(v) for v in (1.0, 2.0, 3.0, 4.0)]) == pytest.approx(math.exp(2.5 + 2.353 * (5 / 3 * 1.25) ** 0.5), rel=0.15)


def test_the_windows_lie_all_over_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "WINDOW", 10)
    spread = drift._windows(["abcdefghijkl"] * 1000)
    assert len(spread) == drift.MOST_WINDOWS and spread[0] == (0, 1) and spread[-1][0] >= 980
