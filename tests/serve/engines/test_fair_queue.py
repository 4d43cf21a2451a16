"""The fair queue: every branch of every level gets its turn, by what it was given."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

from serve.engines.fair_queue import FairQueue

LinePath = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Piece:
    name: str
    cost: int = 1


def served(queue: FairQueue[LinePath, Piece]) -> list[str]:
    """The names of everything that waits, in the order of turns."""
    names = []
    while turn := queue.take():
        names.append(turn[1].name)
    assert not len(queue) and queue.take() is None and list(queue.items()) == []
    return names


def filled(quantum: int, *lines: tuple[LinePath, int, int]) -> FairQueue[LinePath, Piece]:
    """A queue with lines of (path, number of pieces, cost of each)."""
    queue: FairQueue[LinePath, Piece] = FairQueue(quantum)
    for path, number, cost in lines:
        for i in range(number):
            queue.add(path, Piece(f"{path[0]}{path[1]}{i}", cost))
    return queue


def test_branches_take_turns_on_every_level() -> None:
    queue = filled(1, (("a", "x"), 3, 1), (("a", "y"), 1, 1), (("b", "z"), 2, 1))
    assert served(queue) == ["ax0", "bz0", "ay0", "bz1", "ax1", "ax2"]


def test_a_turn_is_as_long_as_the_quantum() -> None:
    queue = filled(20, (("a", "x"), 8, 5), (("b", "y"), 4, 20))
    assert served(queue) == ["ax0", "ax1", "ax2", "ax3", "by0", "ax4", "ax5", "ax6", "ax7", "by1", "by2", "by3"]


def test_what_took_more_than_its_turn_waits_until_it_is_paid() -> None:
    queue = filled(10, (("a", "x"), 2, 40), (("b", "y"), 6, 10))
    assert served(queue) == ["ax0", "by0", "by1", "by2", "by3", "ax1", "by4", "by5"]


def test_what_is_new_is_served_in_the_round_in_which_it_comes() -> None:
    queue = filled(1, (("a", "x"), 9, 1), (("b", "y"), 9, 1))
    for _ in range(3):
        queue.take()
    queue.add(("c", "z"), Piece("new"))
    assert served(queue)[:3] == ["by1", "ax2", "new"]


def test_an_item_in_several_places_is_served_once_at_the_first_of_its_turns() -> None:
    queue = filled(1, (("a", "x"), 4, 1))
    shared = Piece("shared")
    queue.add(("a", "x"), shared)
    queue.add(("b", "y"), shared)
    queue.add(("b", "y"), shared)
    assert len(queue) == 5 and [path for path, item in queue.items() if item == shared] == [("a", "x"), ("b", "y")]
    queue.discard(("a", "nowhere"), shared)
    assert served(queue) == ["ax0", "shared", "ax1", "ax2", "ax3"]


def test_what_is_put_back_comes_first_again() -> None:
    queue = filled(1, (("a", "x"), 2, 1), (("b", "y"), 2, 1))
    first, second = queue.take(), queue.take()
    assert first is not None and second is not None
    queue.put_back([second, first])
    assert queue.oldest() == second[1]
    assert served(queue) == ["by0", "ax0", "by1", "ax1"]


def test_only_what_is_allowed_is_taken() -> None:
    queue = filled(1, (("a", "x"), 2, 1), (("b", "y"), 1, 1))
    assert queue.take(lambda key: key == "c") is None
    turn = queue.take(lambda key: key == "b")
    assert turn is not None and turn[0] == ("b", "y") and queue.outermost() == ["a"]


def test_what_runs_along_is_paid_by_its_own_branch() -> None:
    queue = filled(10, (("a", "x"), 4, 10), (("b", "y"), 4, 10))
    turn = queue.take()
    assert turn is not None
    for path, item in list(queue.items(("b",)))[:3]:
        queue.take_item(path, item)
    assert queue.cost(("a", "x")) == 30 and queue.cost(("b",)) == 10 and queue.cost(("c",)) == 0
    assert served(queue) == ["ax1", "ax2", "ax3", "by3"]


def test_what_is_ahead_of_something_new_is_what_is_served_before_it_is_done() -> None:
    """Whatever the shares, the estimate is off by a round of each of the others at most."""
    for seed in range(20):
        rng = random.Random(seed)
        lines = [((rng.choice("ab"), rng.choice("xyz")), rng.randint(1, 9), rng.randint(1, 30)) for _ in range(5)]
        queue = filled(30, *{path: (path, number, cost) for path, number, cost in lines}.values())
        new = Piece("new", 60)
        ahead = queue.ahead(("a",), new.cost)
        queue.add(("a", "new"), new)
        before = 0
        while (turn := queue.take()) and turn[1] != new:
            before += turn[1].cost
        assert before <= ahead + 30 * 6, seed


def test_counts_are_exact_whatever_comes_and_goes() -> None:
    rng = random.Random(5)
    queue: FairQueue[LinePath, Piece] = FairQueue(8)
    waiting: dict[tuple[LinePath, Piece], None] = {}
    for i in range(2000):
        path = (rng.choice("abc"), rng.choice("xyz"))
        if rng.random() < 0.5:
            piece = Piece(str(i), rng.randint(1, 20))
            for place in {path, (rng.choice("abc"), "w")}:
                queue.add(place, piece)
                waiting[place, piece] = None
        elif rng.random() < 0.3 and waiting:
            place, piece = rng.choice(list(waiting))
            queue.discard(place, piece)
            del waiting[place, piece]
        elif turn := queue.take():
            assert turn in waiting
            waiting = {entry: None for entry in waiting if entry[1] != turn[1]}
        assert Counter(queue.items()) == Counter(list(waiting)) and len(queue) == len({piece for _, piece in waiting})
        assert queue.cost(()) == sum(piece.cost for _, piece in waiting)
        assert queue.cost(("a", "x")) == sum(piece.cost for place, piece in waiting if place == ("a", "x"))
    assert {piece for _, piece in waiting} == set(queue.clear()) and not len(queue)
