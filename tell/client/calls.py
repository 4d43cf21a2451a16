"""Each request of the service's API and how its answer is read, once for `Client` and `AsyncClient`. Reads and writes nothing.

Codes of languages are BCP 47. What a service answers becomes a record of `tell.client.models`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from tell.client.errors import error_of_status
from tell.client.models import (
    AdapterStatus,
    DocumentJob,
    DocumentPart,
    Fallback,
    Quality,
    Record,
    ServedLanguage,
    ServiceInfo,
    StreamEnd,
    Translation,
    TranslationPart,
)
from tell.client.transport import ApiCall, StreamCall
from tell.errors import NotFound
from tell.languages import parse_pair

T = TypeVar("T")
Texts = str | list[str] | tuple[str, ...]


class StreamOptions(TypedDict, total=False):
    """What may be said beside the texts of a translation.

    `timeout`: seconds within which the answer must come. `cache`: whether the answer may come from the service's cache and stay in it (true by default).
    `segments`: whether the answer says which stretch of the translation belongs to which stretch of the text; `hints`: also which hints the model had for
    the words of each stretch. `base`: translate with the bare base, without the adapter. `glossary`: terms that the translation is to follow, as source and
    target terms, or the name or id of a glossary that the service keeps.
    """

    timeout: float | None
    cache: bool
    segments: bool
    hints: bool
    base: bool
    glossary: Mapping[str, str] | str | None


class TranslateOptions(StreamOptions, total=False):
    """StreamOptions, and what only a whole translation can have.

    `quality`: best takes the best of several candidates. `alternatives`: how many other translations the answer has. `fallback`: what may translate where the
    pair has no adapter, in order. `low`: whether the request gives way to all others.
    """

    quality: Quality
    alternatives: int
    fallback: Sequence[Fallback]
    low: bool


class _Status(Record):
    pairs: tuple[AdapterStatus, ...]


def translate(text: Texts, source: str, target: str, options: TranslateOptions) -> ApiCall[list[Translation]]:
    """One translation for each text, in order."""
    texts = [text] if isinstance(text, str) else text

    def read(response: httpx.Response) -> list[Translation]:
        answer = response.json()
        common = {name: answer[name] for name in ("pair", "adapter", "base")} | {name: answer.get(name) for name in ("quality", "fallback", "glossary")}
        translations = [Translation.model_validate({**_without_null(common), **_without_null(row)}) for row in answer["translations"]]
        if len(translations) != len(texts):
            raise ValueError("another number of translations than of texts")
        return translations

    fields: dict[str, Any] = {**options}
    # RFC 9218: the urgency of a request that nobody waits for.
    headers = {"Priority": "u=7"} if fields.pop("low", False) else None
    return ApiCall("POST", "api/v1/translate", read, {"json": _body(text, source, target, fields, TranslateOptions), "headers": headers})


def stream(text: Texts, source: str, target: str, options: StreamOptions) -> StreamCall[TranslationPart | StreamEnd]:
    """The parts of the translations as they come, in order; StreamEnd is the last."""
    return StreamCall("POST", "api/v1/translate/stream", _TranslationEvents, {"json": _body(text, source, target, {**options}, StreamOptions)})


def service() -> ApiCall[ServiceInfo]:
    return ApiCall("GET", "api/v1/service", _reader(ServiceInfo))


def languages() -> ApiCall[list[ServedLanguage]]:
    return ApiCall("GET", "languages", _reader(list[ServedLanguage]))


def adapters() -> ApiCall[list[AdapterStatus]]:
    return ApiCall("GET", "api/v1/adapters", lambda response: list(_Status.model_validate_json(response.content).pairs))


def submit(content: bytes, name: str, source: str, target: str, cache: bool, glossary: Mapping[str, str] | str | None = None) -> ApiCall[DocumentJob]:
    """The ending of `name` tells the format of the document."""
    form = {"source": source, "target": target, "cache": "true" if cache else "false"}
    if glossary:
        form["glossary"] = glossary if isinstance(glossary, str) else json.dumps(dict(glossary), ensure_ascii=False)
    return ApiCall("POST", "api/v1/jobs", _reader(DocumentJob), {"data": form, "files": {"file": (name, content)}})


def job(id: str) -> ApiCall[DocumentJob]:
    return ApiCall("GET", f"api/v1/jobs/{_path_segment(id)}", _reader(DocumentJob))


def result(id: str) -> ApiCall[bytes]:
    return ApiCall("GET", f"api/v1/jobs/{_path_segment(id)}/result", lambda response: response.content)


def delete(id: str) -> ApiCall[None]:
    return ApiCall("DELETE", f"api/v1/jobs/{_path_segment(id)}", _ignore)


def events(id: str, after: int = 0) -> StreamCall[DocumentJob | DocumentPart]:
    """The job when its state changes and each translated part in order, without the first `after` parts."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})}
    return StreamCall("GET", f"api/v1/jobs/{_path_segment(id)}/events", _DocumentEvents, {"headers": headers})


def feedback(text: str, correction: str, translation: Translation) -> ApiCall[None]:
    pair = parse_pair(translation.pair, "pair")
    body = {
        "source": pair.source.tag, "target": pair.target.tag, "text": text, "correction": correction, "translation": translation.text,
        "adapter": translation.adapter,
    }  # fmt: skip
    return ApiCall("POST", "api/v1/feedback", _ignore, {"json": body})


class _TranslationEvents:
    """JSON lines of a streamed translation."""

    def __init__(self, place: str):
        self.place, self.ended = place, False

    def read(self, line: str) -> TranslationPart | StreamEnd | None:
        event = _object(line)
        if "error" in event:
            raise error_of_status(int(event.get("status", 500)), str(event["error"]), self.place)
        if "done" not in event:
            return TranslationPart.model_validate(event)
        self.ended = True
        return StreamEnd.model_validate(event)


class _DocumentEvents:
    """Server-sent events of a document: `event: KIND`, then `data: JSON`."""

    def __init__(self, place: str):
        self.kind, self.ended = "", False

    def read(self, line: str) -> DocumentJob | DocumentPart | None:
        name, _, value = line.partition(": ")
        if name == "event":
            self.kind = value
        if name != "data":
            return None
        if self.kind == "gone":
            raise _no_document()
        if self.kind == "part":
            return DocumentPart.model_validate(_object(value))
        self.ended = self.kind in ("done", "failed")
        return DocumentJob.model_validate(_object(value))


def _reader(kind: type[T]) -> Callable[[httpx.Response], T]:
    adapter = TypeAdapter(kind)
    return lambda response: adapter.validate_json(response.content)


def _ignore(response: httpx.Response) -> None:
    return None


def _body(text: Texts, source: str, target: str, fields: dict[str, Any], options: type) -> dict[str, Any]:
    """The JSON of a translation request. What has its default value is left out, so that older services accept it too."""
    unknown = sorted(fields.keys() - options.__annotations__.keys())
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}")
    body: dict[str, Any] = {"source": source, "target": target, "text": text if isinstance(text, str) else list(text), "cache": fields.pop("cache", True)}
    fields["fallback"] = list(fields.get("fallback") or ())
    if isinstance(glossary := fields.get("glossary"), Mapping):
        fields["glossary"] = dict(glossary)
    return body | {name: value for name, value in fields.items() if value not in (None, "fast", 0, [])}


def _without_null(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _object(line: str) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _path_segment(id: str) -> str:
    """The id as one segment of a path, whatever characters it has. Raises NotFound for one that cannot be a segment."""
    if id.strip(".") == "":
        raise _no_document()
    return quote(id, safe="")


def _no_document() -> NotFound:
    return NotFound("no such document, or it is gone")
