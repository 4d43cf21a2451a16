"""What a running service answers, as `Client` and `AsyncClient` return it: frozen records. Reads and writes nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Quality = Literal["fast", "best"]
Fallback = Literal["pivot", "base"]


class Record(BaseModel):
    # A newer service may send more fields; they are ignored.
    model_config = ConfigDict(frozen=True, extra="ignore")


class WordHint(Record):
    """A word of the text, or a term of several words, and the translations that stood behind it in the model's prompt, the likeliest first.

    `source` is its (start, end) in the text, in code points. `glossary` tells the request's own terms from the words of the adapter's lexicon.
    """

    source: tuple[int, int]
    text: str
    candidates: tuple[str, ...]
    glossary: bool


class Segment(Record):
    """A stretch of the text that was translated as one unit.

    `source` is its (start, end) in the text, `target` the (start, end) of its translation in the whole translation, in code points, as Python counts:
    `text[slice(*segment.source)]`. `hints` is filled where hints were requested.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    truncated: bool
    flags: tuple[str, ...]
    hints: tuple[WordHint, ...] = ()


class DetectedLanguage(Record):
    """The language that the service detected, with a confidence from 0 to 1. `language` is `und` where a text has no words."""

    language: str
    confidence: float


class Alternative(Record):
    """Another translation of the same text, with its flags."""

    text: str
    flags: tuple[str, ...] = ()


class GlossaryUse(Record):
    """What a request's glossary did. `applied`: the model was given the terms; otherwise the service only looked for them in the translations."""

    applied: bool


class RouteStep(Record):
    """One of the translations, one after the other, that lead to the target; `adapter` is None where the base translated without one."""

    pair: str
    adapter: str | None = None


class PivotText(Record):
    """The text between the two steps of a pivot, with its flags, which those of the translation include."""

    text: str
    flags: tuple[str, ...] = ()


class Translation(Record):
    """The translation of one text.

    `truncated` is true where a part was cut at the token limit. `flags` name what looks wrong with the translation, the worst first. `adapter` is the id of
    the adapter that translated; `Client.feedback` sends it back. `segments` is filled where they were requested, `detected` where the source was `auto`.
    `fallback` is pivot or base where the pair has no adapter; then `via` has the steps, and `pivot` the text between them. `quality` is fast also where best
    was requested while the service was busy. `glossary` is filled where one was requested.
    """

    text: str
    truncated: bool
    pair: str
    adapter: str
    base: str
    flags: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    detected: DetectedLanguage | None = None
    quality: Quality = "fast"
    fallback: Fallback | None = None
    alternatives: tuple[Alternative, ...] = ()
    glossary: GlossaryUse | None = None
    via: tuple[RouteStep, ...] = ()
    pivot: PivotText | None = None


class TranslationPart(Record):
    """A part of the translation of text number `index`. The parts of a text, joined, are its translation.

    A part has one segment or none, where segments were requested; `pair` and `detected` are filled where the source was `auto`.
    """

    index: int
    text: str
    truncated: bool
    flags: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    pair: str = ""
    detected: DetectedLanguage | None = None


class StreamEnd(Record):
    """The last event of a stream: the pair, the adapter and the base that translated; the rest as in a Translation."""

    pair: str
    adapter: str
    base: str
    glossary: GlossaryUse | None = None
    quality: Quality = "fast"
    fallback: Fallback | None = None
    via: tuple[RouteStep, ...] = ()


class DocumentProgress(Record):
    """Characters translated so far and in all; `seconds` until the document is done, where the service can estimate them."""

    done: int
    total: int
    seconds: int | None


class DocumentJob(Record):
    """The translation of one document. `error` says why it failed; `expires` is the time when the service deletes it; the rest as in a Translation.

    `notes`: what of the document stays untranslated, and what is odd about it, each with its place.
    """

    id: str
    state: Literal["queued", "translating", "done", "failed"]
    name: str
    pair: str
    progress: DocumentProgress
    adapters: tuple[str, ...]
    truncated: bool
    glossary: GlossaryUse | None = None
    error: str | None
    created: datetime
    expires: datetime | None
    quality: Quality = "fast"
    fallback: Fallback | None = None
    notes: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed")


class DocumentPart(Record):
    """Translated part number `index` of the `parts` of a document. All parts of a plain text, joined, are its translation."""

    index: int
    parts: int
    text: str
    truncated: bool
    flags: tuple[str, ...]
    progress: DocumentProgress
