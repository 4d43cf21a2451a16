"""Held-out segments inside longer texts, and near-duplicates across splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tell.corpus.overlap import HeldStretches
from tell.corpus.rules import RULES
from tell.corpus.split import drawn
from tell.records import read_pairs
from tell.text.normalise import letters
from tests.conftest import Ran
from tests.support import corpora

LONG = "Fundurinn verður haldinn í ráðhúsinu á morgun klukkan tíu og allir eru velkomnir."
SHORT = "Hesturinn stendur bak við húsið"
NAME = "Jóhanna Sigurðardóttir forsætisráðherra"
CHINESE = "今天上午在北京举行的会议讨论了明年的经济计划。"


@pytest.mark.parametrize(
    ("text", "found"),
    [(f"Translate: {LONG} Thank you.", True), (LONG.upper(), True), ("Hann sagði: fundurinn verður haldinn í ráðhúsinu á morgun klukkan níu.", True),
     ("Fundurinn verður haldinn í ráðhúsinu í dag klukkan tíu.", False), (f"Translate „{SHORT}“ into English", True),
     ("Hesturinn stendur bak við girðinguna", False),
     (f"Þar var {NAME} líka", False), ("Já, takk fyrir.", False),
     (f"请翻译：{CHINESE}", True), ("今天上午在北京举行的比赛很精彩。", False), ("", False)],
)  # fmt: skip
def test_a_segment_in_a_longer_text(text: str, found: bool) -> None:
    held = HeldStretches()
    for segment in (LONG, SHORT, NAME, "Já, takk fyrir.", CHINESE):
        held.add(segment, "test")
    assert (held.find(text) == "test") is found


def test_near_duplicates_across_splits_are_counted_and_stay(here: Callable[..., Ran]) -> None:
    long = "the council decided on {} that the old harbour by the river will be closed for repairs until the end of the year"
    held = ["Hundurinn okkar svaf lengi undir borðinu", "Það rignir mikið á haustin í Reykjavík", "Skipið sigldi út úr höfninni um nóttina"]
    sources = [held[0].replace("okkar", "þeirra"), held[1].replace("mikið", "oft mikið"), *(a for a, _ in corpora.pairs(40, 2))]
    lines = [f"d{i % 9}\t{sources[i]}\tx{'abcdefghij'[i % 10]} {i * 'a'}y zz" for i in range(40)]
    lines += [f"test\t{text}\tthe target of {text.lower()[::-1]}" for text in held]
    lines += [f"test\tbæjarráð {'abc'[0]}\t{long.format('monday')}", f"d0\tráð bæjarins ákvað\tyesterday {long.format('friday')}"]
    Path("t.tsv").write_text("\n".join(["document\tis\ten", *lines]) + "\n", encoding="utf-8")
    options = ("corpus", "build", "t.tsv", "--pair", "is-en", "--off", *RULES, "-o", "c", "--json")
    seed = next(n for n in range(200) if min(["test", *(f"d{i}" for i in range(9))], key=lambda d: drawn(n, f"t.tsv/{d}")) == "test")
    done = here(*options, "--dev", 0, "--test", 4, "--seed", seed)
    near = done.json["near_duplicates"]
    assert near["test"]["near"] == 3 and near["test"]["segments"] == done.json["splits"]["test"]["pairs"] == 4
    assert ["t.tsv, line 42", "t.tsv, line 2"] in near["test"]["places"]
    assert "3 of 4 test segments are nearly a training pair (t.tsv, line 42 and t.tsv, line 2)" in done.err
    assert near["dev"] == {"segments": 0, "near": 0, "places": []}


def test_dev_and_test_share_no_source(here: Callable[..., Ran]) -> None:
    sentences = corpora.pairs(30)
    rows = [f"d{i}\t{a}\t{b}" for i in range(10) for a, b in [*sentences[3 * i : 3 * i + 3], (f"{sentences[0][0].upper()}", f"One way of {'saying' * i} it")]]
    Path("t.tsv").write_text("\n".join(["document\tis\ten", *rows]) + "\n", encoding="utf-8")
    off = ("--off", "near-duplicate", "language", "ratio")
    done = here("corpus", "build", "t.tsv", "--pair", "is-en", *off, "--dev", 6, "--test", 6, "-o", "c", "--json").json
    by_split: dict[str, set[str]] = {}
    for pair in read_pairs(Path("c/pairs.jsonl")):
        by_split.setdefault(pair.split, set()).add(letters(pair.source))
    assert by_split["dev"] & by_split["test"] == set() and done["splits"]["test"]["pairs"] >= 6 and done["dropped"]["in dev"] > 0
