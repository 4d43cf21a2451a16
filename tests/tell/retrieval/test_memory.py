"""Translation memories as files: what comes back, what is refused, and what is left out of one that is too large."""

from __future__ import annotations

import pytest

from tell.errors import BadInput
from tell.languages import parse_pair
from tell.retrieval.memory import Memory, collect

PAIR = parse_pair("is-en")
ROWS = [("Vista\tskrána", "Save the\nfile"), ("Opna", "Open"), ("Vista skrána", "Save file"), ("【Loka】", "【Close】")]


def test_a_memory_comes_back_as_it_was() -> None:
    memory, left_out = collect(PAIR, ROWS)
    assert memory.pairs == (("Vista skrána", "Save the file"), ("Opna", "Open"), ("【Loka】", "【Close】")) and left_out == 1
    assert Memory.parse(memory.dump()) == memory and Memory.parse(memory.dump()).dump() == memory.dump()
    empty, _ = collect(PAIR, [])
    assert Memory.parse(empty.dump()) == empty


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"Open", b"Shut", "damaged or was altered"),
        (b"# tellmt memory", b"# tellmt lexicon", "this is not a memory"),
        (b'"format": 1', b'"format": 2', "another format"),
        (b'"format"', b"format", "this is not a memory"),
    ],
)
def test_what_is_no_memory_is_refused(old: bytes, new: bytes, said: str) -> None:
    data = collect(PAIR, ROWS)[0].dump()
    assert old in data
    with pytest.raises(BadInput, match=said):
        Memory.parse(data.replace(old, new))


@pytest.mark.parametrize("most_bytes", [700, 1200, 5000])
def test_the_longest_pairs_go_where_there_is_no_room(most_bytes: int) -> None:
    rows = [(f"{n:03}" + "á" * (n * 37 % 90), "b" + "b" * (n * 53 % 80)) for n in range(100)]
    memory, left_out = collect(PAIR, rows, most_bytes)
    assert len(memory.dump()) <= most_bytes and left_out + len(memory.pairs) == 100 and memory.pairs
    sizes = {row: len("\t".join(row).encode()) for row in rows}
    longest = max(sizes[row] for row in memory.pairs)
    assert list(memory.pairs) == [row for row in rows if row in memory.pairs]
    assert all(sizes[row] >= longest for row in rows if row not in memory.pairs)
