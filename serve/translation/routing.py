"""Pairs without an adapter: through English by two adapters, or by the base alone, where the operator lets it (`--fallback`) and a request asks for it.

Reads what is served, writes nothing. Whoever is answered so is told: the way is in the answer, with the versions that took part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import get_args

from serve.adapters.versions import Versions
from serve.config import Way
from tell.errors import BadInput, NotServed, RequestError, TellmtError
from tell.languages import LanguagePair, language, parse_pair

WAYS: tuple[Way, ...] = get_args(Way)
# What a pivot goes through.
MIDDLE = "en"
ALLOWED = "none, or pivot, base, or both in the order in which they are to be tried"


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """The pairs that translate one after the other. `way` is None where the pair has an adapter of its own; in a `base` route no adapter takes part.

    With `bare` the base does what the adapters would do, with their prompts: for who compares.
    """

    pair: str
    steps: tuple[str, ...]
    way: Way | None = None
    bare: bool = False


def parse_ways(text: str) -> tuple[Way, ...]:
    """`none`, `pivot`, `base` or `pivot,base`. Raises BadInput."""
    words = [word.strip() for word in text.split(",")]
    found = tuple(way for word in words for way in WAYS if way == word)
    if words in (["none"], [""]):
        return ()
    if len(found) != len(words) or len(set(found)) != len(found):
        raise BadInput(
            "not a way to translate without an adapter", place="--fallback", found=text, valid="none, pivot, base, or pivot,base in the order to try"
        )
    return found


def asked_ways(allowed: Sequence[Way], asked: str | Sequence[str]) -> tuple[Way, ...]:
    """What a request names, in its order. Raises RequestError for what the operator does not let be used."""
    names = [] if asked == "none" else [asked] if isinstance(asked, str) else list(dict.fromkeys(asked))
    for name in names:
        if name not in allowed:
            raise RequestError("the service does not translate so (serve --fallback)", place="fallback", found=name, valid=", ".join(allowed) or "none")
    return tuple(way for name in names for way in WAYS if way == name)


def route(versions: Versions, source: str, target: str, ways: Sequence[Way], allowed: Sequence[Way] = ()) -> Route:
    """How a pair is translated: by its adapter, or else by the first of `ways` that leads there.

    Raises LanguageError, RequestError, and NotServed; its message names the ways that are `allowed`, lead there and were not asked for.
    """
    try:
        pair = versions.find_pair(source, target)
        return Route(pair, (pair,))
    except NotServed as e:
        if source == "auto":
            raise
        pairs = LanguagePair(language(source, "source"), language(target, "target"))
        for way in ways:
            if (steps := _steps(versions, pairs, way)) is not None:
                return Route(str(pairs), steps, way)
        if open_ways := [way for way in allowed if _steps(versions, pairs, way) is not None]:
            raise NotServed(e.thing, place=e.place, found=e.found, valid=f"{e.valid}; or fallback: {' or '.join(open_ways)}") from None
        raise


def _steps(versions: Versions, pair: LanguagePair, way: Way) -> tuple[str, ...] | None:
    if way == "base":
        return (str(pair),)
    try:
        return versions.find_pair(pair.source.tag, MIDDLE), versions.find_pair(MIDDLE, pair.target.tag)
    except TellmtError:
        # One of the two is not served, or is English itself.
        return None


def reachable(served: Sequence[str], ways: Sequence[Way]) -> list[str]:
    """The pairs that are served, and those that these ways add between the languages of served ones."""
    pairs = [parse_pair(pair) for pair in served]
    found = set(served)
    english = {p.source.tag for p in pairs if _is_middle(p.source.tag)} | {p.target.tag for p in pairs if _is_middle(p.target.tag)}
    if "pivot" in ways:
        into = [p.source for p in pairs if p.target.tag in english and p.source.tag not in english]
        out_of = [p.target for p in pairs if p.source.tag in english and p.target.tag not in english]
        found |= {str(LanguagePair(a, b)) for a in into for b in out_of if a != b}
    if "base" in ways:
        known = {side for p in pairs for side in (p.source, p.target)}
        found |= {str(LanguagePair(a, b)) for a in known for b in known if a != b}
    return sorted(found)


def _is_middle(tag: str) -> bool:
    return tag.partition("-")[0] == MIDDLE
