"""A client of a running service, typed, with nothing but the core of tellmt installed. Reads and writes over HTTP.

    from tell.client import Client

    with Client("http://127.0.0.1:8080") as client:
        made = client.translate("Halló heimur.", "is", "en")
        print(made.text, made.adapter)

What the service refuses is raised as `tell.errors` has it, with the service's own words; nothing is tried again by itself, but an error that passes has
`retry_after`, the seconds after which to ask again. Codes of languages are BCP 47.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tell.errors import (
    BadInput,
    KeyRefused,
    NotFound,
    NotReady,
    NotServed,
    Overloaded,
    OverShare,
    RequestError,
    ScopeRefused,
    TellmtError,
    TimedOut,
    TooLarge,
    TooSlow,
)

T = TypeVar("T")

# Seconds for an answer: a text may take the service its whole --timeout. And for a connection.
ANSWER, CONNECT = 330.0, 10.0
# Seconds between two looks at a document.
LOOK = 0.5

_KINDS: dict[int, type[TellmtError]] = {
    400: RequestError, 401: KeyRefused, 403: ScopeRefused, 404: NotFound, 408: TooSlow, 409: NotReady, 413: TooLarge, 504: TimedOut,
}  # fmt: skip


class NoAnswer(TellmtError):
    """There is no service at this address, it went away, or it took too long."""

    status = 503


class _Record(BaseModel):
    # What a newer service tells beside this is left aside.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Translation(_Record):
    """`truncated`: whether some of it was cut at the token limit. `adapter` is the id of the one that translated, for `Client.feedback`.
    `flags` are what looks wrong with it, the worst first."""

    text: str
    truncated: bool
    flags: tuple[str, ...] = ()
    pair: str
    adapter: str
    base: str


class Language(_Record):
    """`targets` are the codes of the languages it is translated into."""

    code: str
    name: str
    targets: tuple[str, ...]


class Adapter(_Record):
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


class Progress(_Record):
    """Characters that are translated, and all; `seconds` until it is done, where that is known."""

    done: int
    total: int
    seconds: int | None


class Job(_Record):
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


class _Status(_Record):
    pairs: tuple[Adapter, ...]


def _error(response: httpx.Response, place: str) -> TellmtError:
    """What the service refused with, as the exception of its status; with the service's words."""
    try:
        body = response.json()
        said, pairs = str(body["error"]), body.get("pairs")
    except (ValueError, KeyError, TypeError, AttributeError):
        said, pairs = f"HTTP status {response.status_code}", None
    after = response.headers.get("Retry-After", "")
    if response.status_code in (429, 503):
        kind = OverShare if response.status_code == 429 else Overloaded
        return kind(said, place=place, retry_after=int(after) if after.isdigit() else 2)
    if response.status_code == 400 and pairs is not None:
        return NotServed(said, place=place)
    error = _KINDS.get(response.status_code, TellmtError)(said, place=place)
    error.status = response.status_code
    return error


class Client:
    """One connection pool to a service; to be closed, or used in a `with`. May be shared by threads.

    Every method raises NoAnswer, KeyRefused and ScopeRefused for the API key, OverShare for its quotas and Overloaded, beside what is said of it.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = ANSWER):
        """`key` is that of TELLMT_API_KEY unless given; `timeout` is in seconds, for one answer. Raises BadInput when `url` is no address."""
        key = os.environ.get("TELLMT_API_KEY") if key is None else key
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as e:
            raise BadInput("not an address", place="url", found=f"{url} ({e})", valid="http://HOST:PORT") from None
        if address.scheme not in ("http", "https") or not address.host:
            raise BadInput("not an address", place="url", found=url, valid="http://HOST:PORT")
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=f"{self.url}/", headers=headers, timeout=httpx.Timeout(timeout, connect=CONNECT))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **more)
        except httpx.TransportError as e:
            raise NoAnswer("no answer", place=self.url, found=str(e) or type(e).__name__, valid="a running tellmt serve") from None
        if not response.is_success:
            raise _error(response, self.url)
        return response

    def _read(self, kind: type[T], response: httpx.Response) -> T:
        try:
            return TypeAdapter(kind).validate_json(response.content)
        except ValidationError:
            raise self._unreadable() from None

    def _unreadable(self) -> TellmtError:
        return TellmtError("the service's answer cannot be read", place=self.url, valid="the address of a tellmt serve of this version")

    @overload
    def translate(self, text: str, source: str, target: str, *, timeout: float | None = None, cache: bool = True, low: bool = False) -> Translation: ...
    @overload
    def translate(
        self, text: list[str] | tuple[str, ...], source: str, target: str, *, timeout: float | None = None, cache: bool = True, low: bool = False
    ) -> list[Translation]: ...
    def translate(
        self, text: str | list[str] | tuple[str, ...], source: str, target: str, *, timeout: float | None = None, cache: bool = True, low: bool = False
    ) -> Translation | list[Translation]:
        """A translation of a text, or one for each of several, in order. `timeout`: seconds within which the answer is wanted; `cache`: whether
        it may come from, and stay in, the service's memory; `low`: whether it gives way to everybody else's.

        Raises NotServed for a pair without an adapter, RequestError for what cannot be used, TooLarge, and TimedOut.
        """
        body: dict[str, Any] = {"source": source, "target": target, "text": text if isinstance(text, str) else list(text), "cache": cache}
        if timeout is not None:
            body["timeout"] = timeout
        # RFC 9218: the urgency of what nobody waits for.
        response = self._ask("POST", "api/v1/translate", json=body, headers={"Priority": "u=7"} if low else None)
        try:
            answer = response.json()
            common = {name: answer[name] for name in ("pair", "adapter", "base")}
            made = [Translation.model_validate({**one, **common}) for one in answer["translations"]]
        except (ValueError, KeyError, TypeError):
            raise self._unreadable() from None
        if len(made) != (1 if isinstance(text, str) else len(text)):
            raise self._unreadable()
        return made[0] if isinstance(text, str) else made

    def languages(self) -> list[Language]:
        return self._read(list[Language], self._ask("GET", "languages"))

    def adapters(self) -> list[Adapter]:
        """What answers for each pair that the service follows."""
        return list(self._read(_Status, self._ask("GET", "api/v1/adapters")).pairs)

    def submit(self, document: Path | bytes, source: str, target: str, *, name: str | None = None, cache: bool = True) -> Job:
        """Have a file translated: a path, or its bytes and a name whose ending tells the format.

        Raises OSError when the path cannot be read, and what `translate` does but TimedOut.
        """
        if isinstance(document, Path):
            raw, name = document.read_bytes(), name or document.name
        else:
            raw = document
        data = {"source": source, "target": target, "cache": "true" if cache else "false"}
        return self._read(Job, self._ask("POST", "api/v1/jobs", data=data, files={"file": (name or "document.txt", raw)}))

    def job(self, id: str) -> Job:
        """Raises NotFound when there is none of this key, or none any more."""
        return self._read(Job, self._ask("GET", f"api/v1/jobs/{_segment(id)}"))

    def wait(self, id: str, seconds: float = 3600.0) -> Job:
        """The job once it has ended, well or not. Raises TimedOut when it has not in so many seconds; it goes on. Raises NotFound."""
        end = time.monotonic() + seconds
        while not (job := self.job(id)).ended:
            if time.monotonic() > end:
                raise TimedOut(f"the document was not done in {seconds:g} s", place=self.url, found=f"{job.progress.done} of {job.progress.total} characters")
            time.sleep(LOOK)
        return job

    def result(self, id: str) -> bytes:
        """The translated file. Raises NotReady while it is not done, and when it failed; NotFound."""
        return self._ask("GET", f"api/v1/jobs/{_segment(id)}/result").content

    def delete(self, id: str) -> None:
        """Stop a document that is under way, and forget it. Raises NotFound."""
        self._ask("DELETE", f"api/v1/jobs/{_segment(id)}")

    def feedback(self, text: str, correction: str, made: Translation) -> None:
        """Say what the translation of a text should have been. Raises NotFound where the service keeps no feedback, RequestError, TooLarge."""
        from tell.languages import parse_pair

        pair = parse_pair(made.pair, "pair")
        body = {"source": pair.source.tag, "target": pair.target.tag, "text": text, "correction": correction, "translation": made.text, "adapter": made.adapter}
        self._ask("POST", "api/v1/feedback", json=body)


def _segment(id: str) -> str:
    """The id as one part of an address, whatever it holds. Raises NotFound for one that cannot be a part."""
    from urllib.parse import quote

    if id.strip(".") == "":
        raise NotFound("no such document, or it is gone")
    return quote(id, safe="")
