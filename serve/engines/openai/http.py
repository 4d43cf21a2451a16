"""The client of a `vllm serve` elsewhere: its routes, and what its responses mean.

Speaks HTTP; reads and writes no file. Whatever comes back that is not what vLLM sends (a proxy's page, another service's JSON, nothing) is an
EngineError. Messages never hold the key, and never what a server says about a prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from typing import Any
from urllib.parse import urlsplit

from tell.errors import BadInput, EngineError, Overloaded

KEY = "TELLMT_ENGINE_KEY"
# Seconds to get a connection. The time of a response is not bounded here: the queue may be long, and health checks are separate.
CONNECT = 5.0
# vLLM's server ends a connection that was idle for 5 s; one that is reused just then fails.
KEEP_ALIVE = 4.0
# Seconds for a request that needs no model.
REQUEST_SECONDS = 10.0
# An adapter is read from a disk that may be far away, between two steps of the engine.
LOAD = 300.0


def parse_url(url: str) -> str:
    """The server's address without a trailing slash or /v1. Raises BadInput when it is none."""
    valid_url = "the address of a vLLM server, such as http://gpu-host:8000"
    place = "--engine-url"
    if not url:
        raise BadInput("the engine openai needs the address of its server", place=place, valid=valid_url)
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise BadInput("not an address", place=place, valid=valid_url) from None
    if parts.username is not None or parts.password is not None:
        # Not shown: it holds a password.
        raise BadInput("an address with a name or password in it", place=place, valid=f"a plain address, and the key in {KEY}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or not port_is_valid:
        raise BadInput("not an address", place=place, found=url, valid=valid_url)
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def read_key() -> str:
    """The key from TELLMT_ENGINE_KEY, empty when there is none. Raises BadInput, without showing it, when no HTTP header can hold it."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise BadInput("the key holds characters that no HTTP header can carry", place=KEY, valid="printable ASCII")
    return key


@dataclasses.dataclass(frozen=True, slots=True)
class ServerResponse:
    """A response of the server: its status, and its JSON object; `body` is empty when it sent none."""

    status: int
    body: dict[str, Any]

    @property
    def message(self) -> str:
        """The server's error message: its last line."""
        error = self.body.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        lines = [line for line in message.split("\n") if line.strip()] if isinstance(message, str) else []
        return f"HTTP {self.status}: {lines[-1].strip()}" if lines else f"HTTP {self.status}"


class VllmServer:
    """One vLLM server. At most `connections` requests are in flight at once; others wait their turn here."""

    def __init__(self, url: str, key: str, connections: int):
        import httpx

        self.url = url
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE)
        self._key = key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, limits=limits, timeout=httpx.Timeout(None, connect=CONNECT, write=60.0), follow_redirects=False
        )
        # A client of its own: a health check must not wait behind the requests that the server works on.
        self._probe = httpx.AsyncClient(base_url=url, timeout=REQUEST_SECONDS, limits=httpx.Limits(max_connections=4, keepalive_expiry=KEEP_ALIVE))

    async def close(self) -> None:
        await self._client.aclose()
        await self._probe.aclose()

    async def alive(self, seconds: float) -> bool | None:
        """Whether the server says that its engine runs; None when it does not answer in time, as a busy one may not."""
        import httpx

        try:
            async with asyncio.timeout(seconds):
                return bool((await self._probe.get("/health")).status_code == 200)
        except (TimeoutError, httpx.TimeoutException):
            return None
        except httpx.HTTPError:
            return False

    async def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, seconds: float | None = REQUEST_SECONDS, retry: bool = False
    ) -> ServerResponse:
        """What the server answers, errors included. `retry` asks once more where the connection broke: for what may safely be done twice.

        Raises EngineError when there is no answer, or none that can be read; Overloaded when the server asks to be left alone for a while.
        """
        import httpx

        for last_try in (False, True) if retry else (True,):
            try:
                async with asyncio.timeout(seconds):
                    response = await self._client.request(method, path, json=body)
                break
            except (TimeoutError, httpx.TimeoutException) as e:
                reason = "no connection" if isinstance(e, httpx.ConnectTimeout) else f"no answer to {path} in {seconds:g} s" if seconds else "no answer"
                raise EngineError("the vLLM server does not answer", place=self.url, found=reason) from None
            except httpx.HTTPError as e:
                if last_try or not isinstance(e, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError):
                    raise EngineError("the vLLM server cannot be reached", place=self.url, found=self._without_key(str(e)) or type(e).__name__) from None
        if response.status_code == 401 or response.status_code == 403:
            raise EngineError("the vLLM server refuses the key", place=self.url, found=f"HTTP {response.status_code}", valid=f"the server's key in {KEY}")
        if response.status_code == 429:
            raise Overloaded("the vLLM server has too much to do; try again in a while", place=self.url)
        return ServerResponse(response.status_code, self._json_object(response))

    def _json_object(self, response: Any) -> dict[str, Any]:
        with contextlib.suppress(ValueError, RecursionError):
            body = response.json()
            if isinstance(body, dict):
                if isinstance(error := body.get("error"), dict) and isinstance(error.get("message"), str):
                    error["message"] = self._without_key(error["message"])
                return body
        return {}

    def _without_key(self, text: str) -> str:
        """`text` without the key, which a server may have quoted."""
        return text.replace(self._key, "...") if self._key else text

    async def models(self) -> list[dict[str, Any]]:
        """What the server serves: base models, and adapters with their `parent`."""
        response = await self.request("GET", "/v1/models", retry=True)
        rows = response.body.get("data")
        if response.status != 200 or not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
            raise EngineError("no vLLM server answers here", place=self.url, found=f"{response.message} for /v1/models", valid="vllm serve")
        return rows

    async def complete(self, body: dict[str, Any]) -> ServerResponse | list[int]:
        """The token ids of a completion, the one that stopped it included; the answer as it is when its status is 404: no such model.

        A broken connection is tried once more: what is greedy, or has a seed, comes out the same again, and nothing is changed. What the server says about the
        request stays out of messages, since it may quote it.
        """
        response = await self.request("POST", "/v1/completions", body, seconds=None, retry=True)
        if response.status == 404 and "error" in response.body:
            return response
        if response.status != 200:
            raise EngineError("the vLLM server failed on a request", place=self.url, found=f"HTTP {response.status}")
        try:
            ids = response.body["choices"][0]["token_ids"]
        except (KeyError, IndexError, TypeError):
            ids = None
        if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
            raise EngineError("the server's answer holds no token ids", place=self.url, valid="vllm serve 0.11 or newer")
        if response.body.get("model") != body["model"]:
            # vLLM can be told to answer for any name, with the bare base.
            model = self._without_key(str(response.body.get("model")))
            raise EngineError("the vLLM server answered with another model", place=self.url, found=model, valid=str(body["model"]))
        return ids
