"""Bodies of the native API: requests, answers, errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.api.options import NAMED
from serve.config import Way
from serve.translation.quality import ALTERNATIVES, MOST_ALTERNATIVES, QUALITY, Quality
from serve.translation.routing import ALLOWED
from tell.text.flags import Flag

# Longer than any BCP 47 tag in use.
MAX_CODE = 35
CODE = "a BCP 47 language code, such as is or pt-BR"


class Problem(BaseModel):
    """Every answer that is not 2xx."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "no adapter for this pair; found is-de; valid: is-en", "pairs": ["is-en"]}]})

    error: str = Field(description="What is wrong, for a person")
    pairs: list[str] | None = Field(default=None, description="The pairs served now, where the one asked for is not")
    status: str | None = Field(default=None, description="Of /ready: starting, empty, down or stopping")


EXAMPLES: list[Any] = [
    {"source": "is", "target": "en", "text": "Halló heimur."},
    {"source": "is", "target": "en", "text": ["Halló heimur."], "quality": "best", "alternatives": 2},
]
PIVOTED: dict[str, Any] = {
    "pair": "is-fo", "adapter": "847403e6501f3c5a7e91d24b86a1c2e4", "base": "gemma-3-270m", "quality": "best", "fallback": "pivot",
    "via": [{"pair": "is-en", "adapter": "cdf9de02f30fe98d769625fad317e6bb"}, {"pair": "en-fo", "adapter": "847403e6501f3c5a7e91d24b86a1c2e4"}],
    "translations": [
        {
            "text": "Halló heimur.", "truncated": False, "flags": [], "pivot": {"text": "Hello world.", "flags": []},
            "alternatives": [{"text": "Hey heimur.", "flags": []}],
        }
    ],
}  # fmt: skip


class Asked(BaseModel):
    """A text, or up to a thousand of them."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [*EXAMPLES]})

    source: str = Field(max_length=MAX_CODE, description=f"{CODE}, or auto: each text's language is found, among those that are translated into the target")
    target: str = Field(max_length=MAX_CODE, description=CODE)
    text: str | list[str] = Field(description="a string, or a list of strings")
    format: Literal["text", "html"] = Field(default="text", description="text, or html: tags and attributes stay, and what they hold is translated")
    timeout: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds within which the answer is wanted, above 0; the service's own limit is the most"
    )
    cache: bool = Field(default=True, description="false, so that the cache neither answers nor keeps what is translated, or true")
    quality: Quality = Field(default="fast", description=QUALITY)
    alternatives: int = Field(default=0, ge=0, le=MOST_ALTERNATIVES, description=ALTERNATIVES)
    fallback: Literal["none"] | Way | Annotated[list[Way], Field(max_length=2)] = Field(
        default="none", description=f"where the pair has no adapter: {ALLOWED}, as a list; the service must let it be used (serve --fallback)"
    )
    segments: bool = Field(default=False, description="true, to be told which part of the text each part of the translation is of, or false")
    base: bool = Field(
        default=False, description="true, for the bare base's translation with the pair's prompt and no adapter, where the service has that; or false"
    )


Place = Annotated[list[int], Field(min_length=2, max_length=2)]


class Segment(BaseModel):
    """What was translated in one piece. Places are a start and an end in Unicode code points, from 0, the end not included."""

    source: Place = Field(description="Its place in the text")
    target: Place = Field(description="The place of its translation in the whole translation of the text")
    truncated: bool = Field(description="Whether it was cut at the token limit")
    flags: list[Flag] = Field(description="What looks wrong with it after all tries, the worst first")


class Language(BaseModel):
    language: str = Field(description="Its BCP 47 code; und where a text has no words")
    confidence: float = Field(description="How likely it is among the languages that the text could be in here, from 0 to 1")


class Alternative(BaseModel):
    text: str
    flags: list[Flag]


class Step(BaseModel):
    pair: str
    adapter: str | None = Field(default=None, description="The id of the adapter; not there where the bare base translated")


class Middle(BaseModel):
    text: str = Field(description="What was translated out of the source, and into the target")
    flags: list[Flag]


class Translated(BaseModel):
    text: str = Field(description="The translation, with the lines and white space of the text")
    truncated: bool = Field(description="Whether some of it was cut at the token limit")
    flags: list[Flag] = Field(description="What looks wrong with it after all tries, the worst first; docs/text.md has what each means")
    segments: list[Segment] | None = Field(default=None, description="With segments: true: its segments, in order. What lies between them is the same in both")
    detected: Language | None = Field(default=None, description="With source auto: the language that was found")
    pair: str | None = Field(
        default=None, description="With source auto: the pair that translated; not there where the text is in the target language, and stays as it is"
    )
    fallback: Way | None = Field(default=None, description="With source auto, where this text's pair has no adapter: as that of the answer")
    via: list[Step] | None = Field(default=None, description="With source auto, where this text's pair has no adapter: as that of the answer")
    pivot: Middle | None = Field(default=None, description="With fallback pivot: the text between the two steps, with its flags, which `flags` has too")
    alternatives: list[Alternative] | None = Field(
        default=None,
        description="Where some were asked for: other translations, the best first; fewer where no more came out, and none while the service is busy",
    )


ANSWER: dict[str, Any] = {
    "pair": "is-en", "adapter": "3f9a0c1d5b7e28460f3c5a7e91d24b86", "base": "gemma-3-270m", "quality": "fast",
    "translations": [{"text": "Hello world.", "truncated": False, "flags": []}],
}  # fmt: skip


class Answer(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [ANSWER, PIVOTED]})

    pair: str = Field(description="The pair that translated; with source auto the first text's, and each translation names its own")
    adapter: str = Field(
        description="The id of the adapter that translated, the last of several: the hash of its content; base where the pair has none. "
        "With base: true that of the pair's adapter, after base-"
    )
    base: str = Field(description="The base model, by the id of its card")
    quality: Quality = Field(description="How hard it was tried for: fast also where best was asked for, while the service is busy")
    fallback: Way | None = Field(default=None, description="Where the pair has no adapter: pivot, through English, or base, the base without an adapter")
    via: list[Step] | None = Field(default=None, description="Where the pair has no adapter: what translated, in order")
    translations: list[Translated] = Field(description="One per text, in order")


ERRORS: dict[int | str, dict[str, Any]] = {
    200: {"headers": NAMED},
    400: {"model": Problem, "description": "The request cannot be used, or its pair is not served"},
    413: {"model": Problem, "description": "Too much in one request"},
    429: {"model": Problem, "description": "A quota of this key is used up, or too much of it is waiting; Retry-After says when to ask again"},
    503: {"model": Problem, "description": "Starting, overloaded, or the engine is down; Retry-After says when to ask again"},
    504: {"model": Problem, "description": "Not done in the time that the request has"},
}
