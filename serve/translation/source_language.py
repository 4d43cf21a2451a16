"""`source: auto`: chooses, by the language of each text, the served pair into the target language. Reads texts and pairs, writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from serve.threads import TEXTS
from tell.errors import NotServed, RequestError
from tell.languages import LanguagePair, distance, language, parse_pair, same_variety
from tell.text.language_id import Detected, detect, label

# Confidence from which a text counts as being in the target language already, or in one without a pair; below it the likeliest source is taken.
SURE = 0.9
# Letters that such a text must have at least.
LETTERS = 12
# Characters whose language is detected where they are; more go to a thread.
IN_PLACE = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class TextPair:
    """A text's language, and the pair that translates it; None where the text stays as it is: in the target language already, or, among other texts, with
    the `refusal` that it gets alone."""

    detected: Detected
    pair: LanguagePair | None
    refusal: NotServed | RequestError | None = None


def pairs_into(served: Sequence[str], target: str) -> list[LanguagePair]:
    """The served pairs into a language, as near to its region as there are. Raises LanguageError for a code that is none, and NotServed where there is none."""
    target_language = language(target, "target")
    distances = {pair: pair_distance for pair in map(parse_pair, served) if (pair_distance := distance(target_language, pair.target)) is not None}
    nearest = [pair for pair, pair_distance in distances.items() if pair_distance == min(distances.values())]
    if not nearest:
        raise NotServed("no adapter translates into this language", found=target_language.tag, valid=", ".join(served) or "no pair is served now")
    return nearest


def find_text_pair(pairs: Sequence[LanguagePair], text: str, place: str = "source") -> TextPair:
    """The pair for a text, among pairs into one language. Raises RequestError where its language is uncertain, and NotServed for a language with no pair."""
    target_tag = pairs[0].target.tag
    # Of two pairs from one language under two names the first answers.
    sources: dict[str, LanguagePair] = {}
    for pair in pairs:
        if not any(same_variety(pair.source, other.source) for other in sources.values()):
            sources[pair.source.tag] = pair
    any_language, letters = detect(text), sum(map(str.isalpha, text[:4000]))
    if not letters or any_language.language == "und":
        # Nothing in it is translated: any pair will do.
        return TextPair(any_language, pairs[0])
    served = {label(tag) for tag in (target_tag, *sources)}
    if any_language.language not in served and any_language.confidence >= SURE and letters > LETTERS and None not in served:
        valid = ", ".join(map(str, pairs))
        raise NotServed("no adapter translates this text's language", place=place, found=any_language.language, valid=valid)
    detected = detect(text, [*sources, target_tag])
    unknown_sources = [tag for tag in sources if label(tag) is None]
    sure = detected.language == target_tag and detected.confidence >= SURE
    if sure and (any_language.language == label(target_tag) or (letters > LETTERS and not unknown_sources)):
        return TextPair(detected, None)
    if unknown_sources and any_language.language not in served:
        detected = Detected(unknown_sources[0], 0.0) if len(unknown_sources) == 1 else Detected("und", 0.0)
    elif detected.language == target_tag:
        detected = detect(text, sources)
    if detected.language not in sources or (len(sources) > 1 and detected.confidence < 1.5 / (len(sources) + 1) and not unknown_sources):
        raise RequestError("the source language cannot be told", place=place, found="auto", valid=f"its code: served are {', '.join(map(str, pairs))}")
    return TextPair(detected, sources[detected.language])


def as_served(detected: Detected, served: Sequence[str]) -> Detected:
    """A detected language under the name that the served pairs have for it: `nb` where they have no `no`, which is what the model calls it."""
    tags = sorted({side.tag: side for pair in map(parse_pair, served) for side in (pair.source, pair.target)}.items())
    if detected.language == "und" or detected.language in dict(tags):
        return detected
    known = language(detected.language)
    return next((Detected(tag, detected.confidence) for tag, side in tags if same_variety(known, side)), detected)


def find_served_pair(served: Sequence[str], target: str, text: str, place: str = "source") -> TextPair:
    """The pair for one text, among the served pairs into a language. Raises what `pairs_into` and `find` do."""
    return find_text_pair(pairs_into(served, target), text, place)


async def find_text_pairs(pairs: Sequence[LanguagePair], texts: Sequence[str]) -> list[TextPair]:
    """`find_text_pair` for each text, in order. Of several texts, those that no pair translates have a refusal; raises it where there is no other text."""

    def find_each() -> list[TextPair]:
        if len(texts) == 1:
            return [find_text_pair(pairs, texts[0])]
        text_pairs = [_pair_or_refusal(pairs, text, f"text {i}") for i, text in enumerate(texts)]
        refusals = [t.refusal for t in text_pairs if t.refusal]
        if refusals and len(refusals) == len(text_pairs):
            raise refusals[0]
        return text_pairs

    return await TEXTS.run(find_each) if sum(map(len, texts)) > IN_PLACE else find_each()


def _pair_or_refusal(pairs: Sequence[LanguagePair], text: str, place: str) -> TextPair:
    try:
        return find_text_pair(pairs, text, place)
    except (NotServed, RequestError) as e:
        return TextPair(detect(text), None, e)
