"""Each request of the service's API and how its answer is read, once for `Client` and `AsyncClient`. Reads and writes nothing.

Codes of languages are BCP 47. What a service answers becomes a record of `tell.client.models`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from tell.client.errors import error_of_status
from tell.client.models import DocumentJob, DocumentPart, Fallback, Quality, StreamEnd, Translation, TranslationPart
from tell.client.service_models import AdapterStatus, MonitorReport, Readiness, RegistryPair, ServedLanguage, ServiceInfo, ServiceLoad, ServiceStatus
from tell.client.transport import ApiCall, StreamCall
from tell.errors import LanguageError, NotFound, RequestError
from tell.languages import PAIR_HEADER, pair_header, parse_pair

T = TypeVar("T")
Texts = str | list[str] | tuple[str, ...]


class StreamOptions(TypedDict, total=False):
    """What may be said beside the texts of a translation.

    `timeout`: seconds within which the answer must come. `cache`: whether the answer may come from the service's cache and stay in it (true by default).
    `segments`: whether the answer says which stretch of the translation belongs to which stretch of the text; `hints`: also which hints the model had for
    the words of each stretch. `base`: translate with the bare base, without the adapter. `glossary`: terms that the translation is to follow, as source and
    target terms, or the name or id of a glossary that the service keeps. `quality`: best takes the best of several candidates. `fallback`: what may translate
    where the pair has no adapter, in order. `low`: whether the request gives way to all others.
    """

    timeout: float | None
    cache: bool
    segments: bool
    hints: bool
    base: bool
    glossary: Mapping[str, str] | str | None
    quality: Quality
    fallback: Sequence[Fallback]
    low: bool


class TranslateOptions(StreamOptions, total=False):
    """StreamOptions, and what only a whole translation can have.

    `alternatives`: how many other translations the answer has. `format`: html keeps tags and attributes, and translates the text between tags.
    """

    alternatives: int
    format: Literal["text", "html"]


def translate(text: Texts, source: str, target: str, options: TranslateOptions) -> ApiCall[list[Translation]]:
    """One translation for each text, in order."""
    texts = [text] if isinstance(text, str) else list(text)

    def read(response: httpx.Response) -> list[Translation]:
        answer = response.json()
        common = {name: answer[name] for name in ("pair", "adapter", "base")} | {name: answer.get(name) for name in ("quality", "fallback", "glossary", "via")}
        translations = [Translation.model_validate({**_without_null(common), **_without_null(row)}) for row in answer["translations"]]
        if len(translations) != len(texts):
            raise ValueError("another number of translations than of texts")
        return translations

    return ApiCall("POST", "api/v1/translate", read, _translation(text if isinstance(text, str) else texts, source, target, {**options}, TranslateOptions))


def stream(text: Texts, source: str, target: str, options: StreamOptions) -> StreamCall[TranslationPart | StreamEnd]:
    """The parts of the translations as they come, in order; StreamEnd is the last."""
    return StreamCall("POST", "api/v1/translate/stream", _TranslationEvents, _translation(text, source, target, {**options}, StreamOptions))


def service() -> ApiCall[ServiceInfo]:
    return ApiCall("GET", "api/v1/service", _reader(ServiceInfo))


def languages() -> ApiCall[list[ServedLanguage]]:
    return ApiCall("GET", "languages", _reader(list[ServedLanguage]))


def status() -> ApiCall[ServiceStatus]:
    return ApiCall("GET", "api/v1/adapters", _reader(ServiceStatus))


def adapters() -> ApiCall[list[AdapterStatus]]:
    return ApiCall("GET", "api/v1/adapters", lambda response: list(ServiceStatus.model_validate_json(response.content).pairs))


def load() -> ApiCall[ServiceLoad]:
    return ApiCall("GET", "api/v1/load", _reader(ServiceLoad))


def monitor() -> ApiCall[MonitorReport]:
    return ApiCall("GET", "api/v1/monitor", _reader(MonitorReport))


def ready() -> ApiCall[Readiness]:
    return ApiCall("GET", "ready", _reader(Readiness))


def metrics() -> ApiCall[str]:
    def read(response: httpx.Response) -> str:
        text = response.content.decode()
        if "tellmt_" not in text or not response.headers.get("Content-Type", "").startswith("text/plain"):
            raise ValueError("not the metrics of a service")
        return text

    return ApiCall("GET", "metrics", read)


def change(what: Literal["promote", "rollback", "pin", "unpin"], pair: str, why: str, adapter: str | None = None) -> ApiCall[RegistryPair]:
    """A change to the registry, for keys of the scope admin. `adapter` belongs to promote."""
    body = {"pair": pair, "why": why} | ({} if adapter is None else {"adapter": adapter})
    return ApiCall("POST", f"api/v1/admin/{what}", _reader(RegistryPair), {"json": _spelled(body)})


def registry_log() -> ApiCall[list[dict[str, Any]]]:
    return ApiCall("GET", "api/v1/admin/log", lambda response: TypeAdapter(list[dict[str, Any]]).validate_python(response.json()["log"]))


def submit(
    content: bytes, name: str, source: str, target: str, cache: bool, glossary: Mapping[str, str] | str | None = None, quality: Quality = "fast"
) -> ApiCall[DocumentJob]:
    """The ending of `name` tells the format of the document."""
    # As `_translation`: what has its default value is left out, so that older services accept the form too.
    form = {"source": source, "target": target, "cache": "true" if cache else "false"} | ({} if quality == "fast" else {"quality": quality})
    if glossary:
        form["glossary"] = glossary if isinstance(glossary, str) else json.dumps(dict(glossary), ensure_ascii=False)
    return ApiCall("POST", "api/v1/jobs", _reader(DocumentJob), {"data": _spelled(form), "files": {"file": (_spelled(name), content)}})


def job(id: str) -> ApiCall[DocumentJob]:
    return ApiCall("GET", f"api/v1/jobs/{_path_segment(id)}", _reader(DocumentJob))


def result(id: str) -> ApiCall[bytes]:
    return ApiCall("GET", f"api/v1/jobs/{_path_segment(id)}/result", _file)


def delete(id: str) -> ApiCall[None]:
    return ApiCall("DELETE", f"api/v1/jobs/{_path_segment(id)}", _nothing)


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
    return ApiCall("POST", "api/v1/feedback", _nothing, {"json": _spelled(body)})


# What the service takes a field for that is not there.
_DEFAULTS: dict[str, Any] = {
    "timeout": None, "segments": False, "hints": False, "base": False, "glossary": None, "quality": "fast", "fallback": [], "alternatives": 0, "format": "text",
}  # fmt: skip


class _TranslationEvents:
    """JSON lines of a streamed translation."""

    def __init__(self, place: str):
        self.place, self.ended = place, False

    def read(self, line: str) -> TranslationPart | StreamEnd | None:
        event = _object(line)
        if "error" in event:
            status = event.get("status")
            raise error_of_status(status if isinstance(status, int) and 400 <= status < 600 else 500, str(event["error"]), self.place)
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


def _nothing(response: httpx.Response) -> None:
    # The page of a proxy is an answer too, and would look as if the service had done what it was asked for.
    if response.status_code != 204:
        raise ValueError("not the answer of a service that has nothing to say")


def _file(response: httpx.Response) -> bytes:
    # As above: the service names every file that it sends.
    if not response.headers.get("Content-Disposition", "").startswith("attachment"):
        raise ValueError("not a file of a service")
    return response.content


def _spelled(value: Any) -> Any:
    """The strings of a body as UTF-8 can spell them: halves of a UTF-16 pair that stand alone become U+FFFD, as they do in the service."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    return {_spelled(name): _spelled(item) for name, item in value.items()} if isinstance(value, dict) else value


def _translation(text: Texts, source: str, target: str, fields: dict[str, Any], options: type) -> dict[str, Any]:
    """The JSON and the headers of a translation request. What has its default value is left out, so that older services accept it too."""
    unknown = sorted(fields.keys() - options.__annotations__.keys())
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}")
    # RFC 9218: the urgency of a request that nobody waits for.
    headers = {"Priority": "u=7"} if fields.pop("low", False) else {}
    with contextlib.suppress(LanguageError):
        # The service refuses a code that is none, in its own words.
        headers[PAIR_HEADER] = pair_header(source, target)
    body: dict[str, Any] = {"source": source, "target": target, "text": text if isinstance(text, str) else list(text), "cache": fields.pop("cache", True)}
    fields["fallback"] = list(fields.get("fallback") or ())
    if isinstance(glossary := fields.get("glossary"), Mapping):
        fields["glossary"] = dict(glossary)
    if isinstance(seconds := fields.get("timeout"), float) and not math.isfinite(seconds):
        if seconds != math.inf:
            raise RequestError("not a time", place="timeout", valid="seconds, above 0")
        # As long as the service allows.
        fields["timeout"] = None
    given = {name: value for name, value in fields.items() if value is not None and value != _DEFAULTS[name]}
    return {"json": _spelled(body | given), "headers": headers}


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
    return quote(_spelled(id), safe="")


def _no_document() -> NotFound:
    return NotFound("no such document, or it is gone")
