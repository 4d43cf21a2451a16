"""Bodies of the native API: requests, responses, errors; and headers of all APIs that translate.

X-Request-Timeout: SECONDS    the client waits so long for the response; the service's own limit is the maximum. As `timeout` in a native body.
Priority: u=7                 the request gives way to all others (RFC 9218: the urgency of work in the background).
Tellmt-Pair: is-en            the pair of the body, for balancers, which then need not read bodies; auto-en where the source is auto.
Cache-Control: no-store       the cache neither answers this request nor stores its translations. As `cache: false` in a native body.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.config import Fallback
from serve.translation.decoder import MOST_ALTERNATIVES, Quality
from serve.translation.routing import ALLOWED_FALLBACKS
from tell.languages import PAIR_HEADER
from tell.text.flags import Flag

# Longer than any BCP 47 tag in use.
MAX_CODE = 35
# Characters of the name of a glossary.
MAX_GLOSSARY_NAME = 1024
CODE = "a BCP 47 language code, such as is or pt-BR"
GLOSSARY = "terms that the translations are to follow, as source and target terms; or the name or id of a glossary that is kept for the key"
FLAGS = "What looks wrong with the translation after all tries, the worst first; docs/text.md explains each flag"
TRUNCATED = "Whether the token limit cut part of the translation"
QUALITY = "fast, or best: each segment is decoded several times, and the candidate that agrees most with the others is taken; it costs as many times as much"
ALTERNATIVES = f"a number of other translations of each text, 0 to {MOST_ALTERNATIVES}; each costs as much as the first"

TIMEOUT = "X-Request-Timeout"
PRIORITY = "Priority"
PARAMETERS = [
    {"name": TIMEOUT, "in": "header", "required": False, "description": "Seconds that the client waits for the response", "schema": {"type": "string"}},
    {
        "name": PRIORITY, "in": "header", "required": False,
        "description": "With u=7 the service translates everything else that waits first", "schema": {"type": "string"},
    },
    {
        "name": PAIR_HEADER, "in": "header", "required": False, "example": "is-en",
        "description": "The pair of the body, by which a balancer finds the replica that has it loaded: `is-en`, `pt-BR:en`, or `auto-en` with the source "
        "auto. 400 where it is another than the body's",
        "schema": {"type": "string"},
    },
    {"name": "Cache-Control", "in": "header", "required": False, "description": "no-store has the effect of `cache: false`", "schema": {"type": "string"}},
]  # fmt: skip
# The headers of a response that name the translator.
TRANSLATOR_HEADERS: dict[str, Any] = {
    "X-Tellmt-Pair": {"description": "The pair that translated", "schema": {"type": "string"}},
    "X-Tellmt-Adapter": {"description": "The id of the adapter that translated", "schema": {"type": "string"}},
    "X-Tellmt-Generation": {
        "description": "The registry's number of the change by which this adapter is live for its pair; the higher the newer. Not where the base translates",
        "required": False, "schema": {"type": "string"},
    },
    "X-Tellmt-Base": {"description": "The base of the adapter, percent-encoded where it is not plain ASCII", "schema": {"type": "string"}},
    "X-Tellmt-Quality": {"description": "fast or best: how each segment was decoded", "schema": {"type": "string"}},
    "X-Tellmt-Glossary": {
        "description": "Where the request has a glossary: applied, or checked where the adapter cannot be given terms", "required": False,
        "schema": {"type": "string"},
    },
    "X-Tellmt-Via": {
        "description": "Where the pair has no adapter: `pivot is-en=ID, en-fo=ID`, or `base`", "required": False, "schema": {"type": "string"}
    },
}  # fmt: skip


class Error(BaseModel):
    """The body of every response that is not 2xx."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "no adapter for this pair; found is-de; valid: is-en", "pairs": ["is-en"]}]})

    error: str = Field(description="What is wrong, for a person to read")
    pairs: list[str] | None = Field(default=None, description="The pairs that are served now, where the requested one is not")
    status: str | None = Field(default=None, description="From /ready only: starting, empty, down or stopping")


EXAMPLES: list[Any] = [
    {"source": "is", "target": "en", "text": "Halló heimur."},
    {"source": "is", "target": "en", "text": ["Halló heimur."], "quality": "best", "alternatives": 2},
    {"source": "is", "target": "en", "text": "Vista skrána", "glossary": {"vista": "store", "skrána": "document"}},
    {"source": "is", "target": "en", "text": "Vista skrána", "glossary": {"skrána": "document"}, "hints": True},
]
PIVOT_EXAMPLE: dict[str, Any] = {
    "pair": "is-fo", "adapter": "847403e6501f3c5a7e91d24b86a1c2e4", "base": "gemma-3-270m", "quality": "best", "fallback": "pivot",
    "via": [{"pair": "is-en", "adapter": "cdf9de02f30fe98d769625fad317e6bb"}, {"pair": "en-fo", "adapter": "847403e6501f3c5a7e91d24b86a1c2e4"}],
    "translations": [
        {
            "text": "Halló heimur.", "truncated": False, "flags": [], "pivot": {"text": "Hello world.", "flags": []},
            "alternatives": [{"text": "Hey heimur.", "flags": []}],
        }
    ],
}  # fmt: skip


class TranslateRequest(BaseModel):
    """One text, or up to a thousand texts."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [*EXAMPLES]})

    source: str = Field(
        max_length=MAX_CODE, description=f"{CODE}, or auto: the service detects each text's language, among those that it translates into the target"
    )
    target: str = Field(max_length=MAX_CODE, description=CODE)
    text: str | list[str] = Field(description="a string, or a list of strings")
    format: Literal["text", "html"] = Field(
        default="text", description="text, or html: the service keeps tags and attributes, and translates the text between tags"
    )
    timeout: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds that the client waits for the response, above 0; the service's own limit is the maximum"
    )
    cache: bool = Field(default=True, description="true, or false: the service neither answers from its cache nor stores the translations there")
    quality: Quality = Field(default="fast", description=QUALITY)
    alternatives: int = Field(default=0, ge=0, le=MOST_ALTERNATIVES, description=ALTERNATIVES)
    fallback: Literal["none"] | Fallback | Annotated[list[Fallback], Field(max_length=2)] = Field(
        default="none", description=f"how to translate a pair without an adapter: {ALLOWED_FALLBACKS}, as a list; the operator must allow it (serve --fallback)"
    )
    segments: bool = Field(default=False, description="true: the response says which part of the text each part of the translation comes from; or false")
    hints: bool = Field(
        default=False, description="true: the response says which hints the model had for the words of each segment, and has `segments`; or false"
    )
    glossary: dict[str, str] | Annotated[str, Field(max_length=MAX_GLOSSARY_NAME)] | None = Field(default=None, description=GLOSSARY)
    base: bool = Field(
        default=False, description="true: the base translates with the pair's prompt and without its adapter, where the operator allows it; or false"
    )


class GlossaryUse(BaseModel):
    """What the request's glossary did. A translation without one of its terms has the flag `glossary` either way."""

    applied: bool = Field(
        description="Whether the model was given the terms; false where an adapter was trained without hints, or the base translated, or a pivot: then the "
        "service only looks for the terms in the translations"
    )


SegmentRange = Annotated[list[int], Field(min_length=2, max_length=2)]


class WordHint(BaseModel):
    """A word of a segment, and the translations that stood behind it in the model's prompt."""

    source: SegmentRange = Field(description="The range of the word in the text; of several words, where a term of a glossary has several")
    text: str = Field(description="The word")
    candidates: list[str] = Field(description="The translations, the likeliest first")
    glossary: bool = Field(description="Whether this is a term of the request's glossary; otherwise the adapter's own lexicon has it")


class Segment(BaseModel):
    """A part of a text that the model translated in one piece. A range is a start and an end in Unicode code points, from 0, without the end itself."""

    source: SegmentRange = Field(description="The range of the segment in the text")
    target: SegmentRange = Field(description="The range of its translation in the whole translation of the text")
    truncated: bool = Field(description=TRUNCATED)
    flags: list[Flag] = Field(description=FLAGS)
    hints: list[WordHint] | None = Field(
        default=None,
        description="With hints: true: the hints in the prompt of the segment's first decode, in order; empty where the adapter was trained without hints",
    )


class DetectedLanguage(BaseModel):
    language: str = Field(description="A BCP 47 code; und where a text has no words")
    confidence: float = Field(description="How likely this language is, among those that the text could be in here, from 0 to 1")


class Alternative(BaseModel):
    text: str
    flags: list[Flag] = Field(description=FLAGS)


class RouteStep(BaseModel):
    """One of the translations, one after the other, that lead from the source to the target."""

    pair: str
    adapter: str | None = Field(default=None, description="The id of the adapter; absent where the base translated without an adapter")


class PivotText(BaseModel):
    """The text between the two steps of a pivot."""

    text: str = Field(description="The translation of the source, which the second step translated into the target")
    flags: list[Flag] = Field(description=FLAGS)


class TranslatedText(BaseModel):
    text: str = Field(description="The translation, with the line breaks and white space of the text")
    truncated: bool = Field(description=TRUNCATED)
    flags: list[Flag] = Field(description=FLAGS)
    segments: list[Segment] | None = Field(
        default=None,
        description="With segments: true or hints: true: the segments, in order. What lies between them is the same in the text and the translation",
    )
    detected: DetectedLanguage | None = Field(default=None, description="With source auto: the language of the text")
    pair: str | None = Field(
        default=None, description="With source auto: the pair that translated; absent where the text is in the target language and was not translated"
    )
    fallback: Fallback | None = Field(default=None, description="With source auto, where this text's pair has no adapter: as `fallback` of the response")
    via: list[RouteStep] | None = Field(default=None, description="With source auto, where this text's pair has no adapter: as `via` of the response")
    pivot: PivotText | None = Field(
        default=None, description="With fallback pivot: the text between the two steps, with its flags, which `flags` of the translation includes"
    )
    alternatives: list[Alternative] | None = Field(
        default=None,
        description="Where the request asks for them: other translations, the best first; fewer where the model made fewer, none while the service is busy",
    )


EXAMPLE: dict[str, Any] = {
    "pair": "is-en", "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "base": "gemma-3-270m", "quality": "fast",
    "translations": [{"text": "Hello world.", "truncated": False, "flags": []}],
}  # fmt: skip
HINTED_EXAMPLE: dict[str, Any] = {
    **EXAMPLE, "glossary": {"applied": True},
    "translations": [
        {
            "text": "Save the document", "truncated": False, "flags": [],
            "segments": [
                {
                    "source": [0, 12], "target": [0, 17], "truncated": False, "flags": [],
                    "hints": [
                        {"source": [0, 5], "text": "Vista", "candidates": ["save"], "glossary": False},
                        {"source": [6, 12], "text": "skrána", "candidates": ["document"], "glossary": True},
                    ],
                }
            ],
        }
    ],
}  # fmt: skip


class TranslateResponse(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE, PIVOT_EXAMPLE, HINTED_EXAMPLE]})

    pair: str = Field(description="The pair that translated; with source auto the first text's, and each translation names its own")
    adapter: str = Field(
        description="The id of the adapter that translated, a hash of its content; the last one where there are several; base where the pair has none. "
        "With base: true, base- and the id of the pair's adapter"
    )
    base: str = Field(description="The base model, by the id on its card")
    quality: Quality = Field(description="How each segment was decoded: fast also where the request asks for best, while the service is busy")
    fallback: Fallback | None = Field(
        default=None,
        description="Where the pair has no adapter: pivot, two adapters translated through English, or base, the base translated without an adapter",
    )
    via: list[RouteStep] | None = Field(default=None, description="Where the pair has no adapter: the steps that translated, in order")
    glossary: GlossaryUse | None = Field(default=None, description="Where the request has a glossary: whether it could be applied")
    translations: list[TranslatedText] = Field(description="One per text, in order")


ERRORS: dict[int | str, dict[str, Any]] = {
    200: {"headers": TRANSLATOR_HEADERS},
    400: {"model": Error, "description": "The request is not valid, or the service does not serve its pair"},
    413: {"model": Error, "description": "The request has too much text"},
    429: {"model": Error, "description": "The key has used up a quota, or its share of the queue; Retry-After says when to try again"},
    503: {"model": Error, "description": "The service is starting or overloaded, or its engine is down; Retry-After says when to try again"},
    504: {"model": Error, "description": "The translation took longer than the request allows"},
}
GLOSSARY_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Error, "description": "The key has no glossary of this name for the two languages"}}
