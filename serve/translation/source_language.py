"""`source: auto`: which of the served pairs into a target each text is for, told by its language. Reads texts and pairs, writes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from tell.errors import NotServed, RequestError
from tell.languages import LanguagePair, distance, language, parse_pair
from tell.text.language_id import Detected, detect, label

# How sure it must be that a text is in the target language already, or in one that nobody translates: else the likeliest source is taken.
SURE = 0.9
# Letters that such a text must have.
LETTERS = 12
# Characters that are looked at where they are; more go to a thread.
IN_PLACE = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A text's language, and the pair that is to translate it; None where it is in the target language already, and stays as it is."""

    detected: Detected
    pair: LanguagePair | None


def pairs_into(served: Sequence[str], target: str) -> list[LanguagePair]:
    """The served pairs into a language, as near to its region as there are. Raises LanguageError for a code that is none, and NotServed where there is none."""
    into = language(target, "target")
    far = {pair: away for pair in map(parse_pair, served) if (away := distance(into, pair.target)) is not None}
    found = [pair for pair, away in far.items() if away == min(far.values())]
    if not found:
        raise NotServed("no adapter translates into this language", found=into.tag, valid=", ".join(served) or "no pair is served now")
    return found


def find(pairs: Sequence[LanguagePair], text: str, place: str = "source") -> Found:
    """Of pairs into one language, the one for a text. Raises RequestError where it cannot be told, and NotServed for a language with no pair."""
    into = pairs[0].target.tag
    sources = {pair.source.tag: pair for pair in pairs}
    anyone, letters = detect(text), sum(map(str.isalpha, text[:4000]))
    if not letters or anyone.language == "und":
        # Nothing in it is translated: any pair will do.
        return Found(anyone, pairs[0])
    served = {label(tag) for tag in (into, *sources)}
    if anyone.language not in served and anyone.confidence >= SURE and letters > LETTERS and None not in served:
        valid = ", ".join(map(str, pairs))
        raise NotServed("no adapter translates this text's language", place=place, found=anyone.language, valid=valid)
    found = detect(text, [*sources, into])
    strangers = [tag for tag in sources if label(tag) is None]
    if found.language == into and found.confidence >= SURE and (anyone.language == label(into) or (letters > LETTERS and not strangers)):
        return Found(found, None)
    if strangers and anyone.language not in served:
        found = Detected(strangers[0], 0.0) if len(strangers) == 1 else Detected("und", 0.0)
    elif found.language == into:
        found = detect(text, sources)
    if found.language not in sources or (len(sources) > 1 and found.confidence < 1.5 / (len(sources) + 1) and not strangers):
        raise RequestError("the source language cannot be told", place=place, found="auto", valid=f"its code: served are {', '.join(map(str, pairs))}")
    return Found(found, sources[found.language])


def find_pair(served: Sequence[str], target: str, text: str, place: str = "source") -> Found:
    """The pair for one text, among the served pairs into a language. Raises what `pairs_into` and `find` do."""
    return find(pairs_into(served, target), text, place)


async def find_all(pairs: Sequence[LanguagePair], texts: Sequence[str]) -> list[Found]:
    """`find` for each text, in order."""

    def work() -> list[Found]:
        many = len(texts) > 1
        return [find(pairs, text, f"text {i}" if many else "source") for i, text in enumerate(texts)]

    return await asyncio.to_thread(work) if sum(map(len, texts)) > IN_PLACE else work()
