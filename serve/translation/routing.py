"""Fallbacks for pairs without an adapter: a pivot through English by two adapters, or the base alone, where the operator allows it (`--fallback`) and the
request asks for it.

Reads which pairs are served, writes nothing. The answer tells clients which fallback was used, and the versions that took part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import get_args

from serve.adapters.versions import Versions
from serve.config import Fallback
from serve.translation.source_language import find_text_pairs, pairs_into
from tell.errors import BadInput, NotServed, RequestError, TellmtError
from tell.languages import LanguagePair, language, parse_pair, same_variety
from tell.text.flags import Flag
from tell.text.language_id import Detected

FALLBACKS: tuple[Fallback, ...] = get_args(Fallback)
# The language that a pivot goes through.
PIVOT_LANGUAGE = "en"
ALLOWED_FALLBACKS = "none, or pivot, base, or both in the order in which they are to be tried"


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """The pairs that translate one after the other. `fallback` is None where the pair has an adapter of its own; in a `base` route no adapter takes part.

    With `bare` the base translates with the adapters' prompts, so that clients can compare the two.
    """

    pair: str
    steps: tuple[str, ...]
    fallback: Fallback | None = None
    bare: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class TextRoute:
    """How one text is translated. `detected` is its language where the source is auto; `route` is None where that is the target language already, or, with a
    flag, one that no adapter translates."""

    route: Route | None
    detected: Detected | None = None
    flags: tuple[Flag, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class TextRoutes:
    """The routes of a request's texts, in order. The answer names `default` where no text needs a translation."""

    texts: tuple[TextRoute, ...]
    default: Route

    def groups(self) -> dict[Route, list[int]]:
        """The numbers of the texts of each route, in the order of the first texts; the default route without texts where nothing is to be translated."""
        groups: dict[Route, list[int]] = {}
        for number, text in enumerate(self.texts):
            if text.route is not None:
                groups.setdefault(text.route, []).append(number)
        return groups or {self.default: []}

    def runs(self) -> list[tuple[Route | None, range]]:
        """Neighbouring texts of one route, in order, by their numbers."""
        runs: list[tuple[Route | None, range]] = []
        for number, text in enumerate(self.texts):
            if runs and runs[-1][0] == text.route:
                runs[-1] = (text.route, range(runs[-1][1].start, number + 1))
            else:
                runs.append((text.route, range(number, number + 1)))
        return runs


def parse_fallbacks(text: str) -> tuple[Fallback, ...]:
    """`none`, `pivot`, `base` or `pivot,base`. Raises BadInput."""
    words = [word.strip() for word in text.split(",")]
    fallbacks = tuple(fallback for word in words for fallback in FALLBACKS if fallback == word)
    if words in (["none"], [""]):
        return ()
    if len(fallbacks) != len(words) or len(set(fallbacks)) != len(fallbacks):
        raise BadInput("not a fallback", place="--fallback", found=text, valid="none, pivot, base, or pivot,base in the order to try")
    return fallbacks


def requested_fallbacks(allowed: Sequence[Fallback], requested: str | Sequence[str]) -> tuple[Fallback, ...]:
    """The fallbacks that a request names, in its order. Raises RequestError for one that the operator does not allow."""
    names = [] if requested == "none" else [requested] if isinstance(requested, str) else list(dict.fromkeys(requested))
    for name in names:
        if name not in allowed:
            raise RequestError("the service does not offer this fallback (serve --fallback)", place="fallback", found=name, valid=", ".join(allowed) or "none")
    return tuple(fallback for name in names for fallback in FALLBACKS if fallback == name)


def route(versions: Versions, source: str, target: str, fallbacks: Sequence[Fallback], allowed: Sequence[Fallback] = ()) -> Route:
    """The route of a pair: its adapter, or else the first of `fallbacks` that leads to the target language.

    Raises LanguageError, RequestError, and NotServed; its message names the allowed fallbacks that lead there and were not asked for.
    """
    try:
        pair = versions.find_pair(source, target)
        return Route(pair, (pair,))
    except NotServed as e:
        if source == "auto":
            raise
        pairs = LanguagePair(language(source, "source"), language(target, "target"))
        for fallback in fallbacks:
            if (steps := _steps(versions, pairs, fallback)) is not None:
                return Route(str(pairs), steps, fallback)
        if leading_there := [fallback for fallback in allowed if _steps(versions, pairs, fallback) is not None]:
            raise NotServed(e.thing, place=e.place, found=e.found, valid=f"{e.valid}; or fallback: {' or '.join(leading_there)}") from None
        raise


async def route_texts(served: Sequence[str], find_route: Callable[[str, str], Route], source: str, target: str, texts: Sequence[str]) -> TextRoutes:
    """The route of each text: for all the pair that is named, or with `source` auto for each the pair of its own language, among those `served`.

    `find_route` gives the route between two languages. Raises what it does, and what `pairs_into` and `find_text_pairs` do.
    """
    if source != "auto":
        pair_route = find_route(source, target)
        return TextRoutes((TextRoute(pair_route),) * len(texts), pair_route)
    pairs = pairs_into(served, target)
    text_pairs = await find_text_pairs(pairs, texts)
    needed = [t.pair for t in text_pairs if t.pair] or [pairs[0]]
    routes = {pair: find_route(pair.source.tag, pair.target.tag) for pair in dict.fromkeys(needed)}
    return TextRoutes(
        tuple(TextRoute(routes[t.pair] if t.pair else None, t.detected, ("untranslated",) if t.refusal else ()) for t in text_pairs), routes[needed[0]]
    )


def _steps(versions: Versions, pair: LanguagePair, fallback: Fallback) -> tuple[str, ...] | None:
    if fallback == "base":
        return (str(pair),)
    try:
        return versions.find_pair(pair.source.tag, PIVOT_LANGUAGE), versions.find_pair(PIVOT_LANGUAGE, pair.target.tag)
    except TellmtError:
        # One of the two is not served, or is English itself.
        return None


def reachable(served: Sequence[str], fallbacks: Sequence[Fallback]) -> list[str]:
    """The pairs that are served, and those that the fallbacks add between the languages of served pairs."""
    pairs = [parse_pair(pair) for pair in served]
    reached = set(served)
    english_tags = {p.source.tag for p in pairs if _is_pivot_language(p.source.tag)} | {p.target.tag for p in pairs if _is_pivot_language(p.target.tag)}
    if "pivot" in fallbacks:
        into_english = [p.source for p in pairs if p.target.tag in english_tags and p.source.tag not in english_tags]
        out_of_english = [p.target for p in pairs if p.source.tag in english_tags and p.target.tag not in english_tags]
        reached |= {str(LanguagePair(a, b)) for a in into_english for b in out_of_english if not same_variety(a, b)}
    if "base" in fallbacks:
        languages = {side for p in pairs for side in (p.source, p.target)}
        reached |= {str(LanguagePair(a, b)) for a in languages for b in languages if not same_variety(a, b)}
    return sorted(reached)


def _is_pivot_language(tag: str) -> bool:
    return tag.partition("-")[0] == PIVOT_LANGUAGE
