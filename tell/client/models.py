"""What a running service answers, as `tell.client.client` returns it: frozen records. Reads and writes nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Quality = Literal["fast", "best"]
Way = Literal["pivot", "base"]


class Record(BaseModel):
    # What a newer service tells beside this is left aside.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Segment(Record):
    """What was translated in one piece: start and end of its place in the text, and of its translation's place in the whole translation, in code points.

    As Python counts: `text[slice(*segment.source)]`.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    truncated: bool
    flags: tuple[str, ...]


class Detected(Record):
    """A language that was found, with a confidence from 0 to 1; `und` where a text has no words."""

    language: str
    confidence: float


class Alternative(Record):
    """Another translation."""

    text: str
    flags: tuple[str, ...] = ()


class Translation(Record):
    """`truncated`: whether some of it was cut at the token limit; `flags`: what looks wrong with it, the worst first. `adapter` is the id of the one that
    translated, for `Client.feedback`. `segments` where they were asked for, `detected` with the source `auto`.

    `fallback` is pivot or base where the pair has no adapter; `quality` is fast also where best was asked for, while the service is busy.
    """

    text: str
    truncated: bool
    pair: str
    adapter: str
    base: str
    flags: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    detected: Detected | None = None
    quality: Quality = "fast"
    fallback: Way | None = None
    alternatives: tuple[Alternative, ...] = ()


class Part(Record):
    """A part of the translation of text number `index`: those of a text, joined, are its translation. It has one segment or none, where they were asked for;
    `pair` and `detected` with the source `auto`."""

    index: int
    text: str
    truncated: bool
    flags: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    pair: str = ""
    detected: Detected | None = None


class Done(Record):
    """The end of a stream: who translated."""

    pair: str
    adapter: str
    base: str


class Language(Record):
    """`targets` are the codes of the languages it is translated into."""

    code: str
    name: str
    targets: tuple[str, ...]


class Adapter(Record):
    """What answers for a pair: `adapter`; and what should, `wanted`. `state` is live, loading, cold or refused, with the reason."""

    pair: str
    adapter: str | None
    wanted: str | None
    shipped: bool
    state: str
    reason: str | None
    pinned: bool
    base: str | None
    in_flight: int
    scores: tuple[dict[str, Any], ...]


class Progress(Record):
    """Characters that are translated, and all; `seconds` until it is done, where that is known."""

    done: int
    total: int
    seconds: int | None


class Job(Record):
    """A document on its way. `error` says why it failed; `expires`, when it is forgotten."""

    id: str
    state: Literal["queued", "translating", "done", "failed"]
    name: str
    pair: str
    progress: Progress
    adapters: tuple[str, ...]
    truncated: bool
    error: str | None
    created: datetime
    expires: datetime | None

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed")


class DocumentPart(Record):
    """A translated part of a document: number `index` of `parts`. All parts of a plain text, joined, are its translation."""

    index: int
    parts: int
    text: str
    truncated: bool
    flags: tuple[str, ...]
    progress: Progress


class Offer(Record):
    """What a service takes: endings of files, corrections, the bare base, and how much in one request."""

    formats: tuple[str, ...]
    feedback: bool
    compare_base: bool
    keys: bool
    max_characters: int
    max_texts: int
    max_bytes: int
