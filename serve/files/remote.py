"""Translates through a running server, over its native API.

A batch that the server refuses for its texts is divided until the line at fault stands alone; a server that is busy or away for a moment is asked again;
anything else stops the run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from serve.files.local import NONE_LIVE
from serve.files.segment_store import SegmentResult
from serve.translation.quality import Quality
from tell.console import say
from tell.errors import BadInput, EngineError, LanguageError, NotServed, TellmtError
from tell.languages import LanguagePair, language

# Seconds before each retry: a minute and a half in all, enough for a restart or for a queue to drain.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
# At the first contact a server that is not there is more likely a wrong address than a restart.
FIRST_WAITS = (0.5, 1.0)
# The longest a server's Retry-After is followed.
LONGEST_WAIT = 60.0
BUSY = {429, 502, 503, 504}
# Statuses for something wrong with the texts sent rather than with the request as a whole.
REFUSED = {400, 413, 422}
# A batch of long lines takes a CPU some minutes.
READ_TIMEOUT = 900.0


def _error_of(response: Any) -> str:
    """The server's own words for an error, or its status."""
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        error = None
    return error if isinstance(error, str) and error else f"HTTP status {response.status_code}"


class _Server:
    def __init__(self, client: Any, url: str):
        self.client, self.url = client, url

    async def request(self, method: str, path: str, waits: Sequence[float] | None = None, **more: Any) -> Any:
        """The response, whatever its status but a busy one. Raises EngineError when the server stays busy or away."""
        import httpx

        waits = WAITS if waits is None else waits
        for wait in (*waits, None):
            pause = wait
            try:
                response = await self.client.request(method, path, **more)
                if response.status_code not in BUSY:
                    return response
                problem = _error_of(response)
                retry_after = response.headers.get("Retry-After", "")
                if wait is not None and retry_after.isdigit():
                    pause = min(max(wait, float(retry_after)), LONGEST_WAIT)
            except httpx.TransportError as e:
                problem = f"no answer ({str(e) or type(e).__name__})"
            if pause is None:
                break
            say(f"{self.url}: {problem}; trying again in {pause:g} s")
            await asyncio.sleep(pause)
        valid = "a running server (tellmt serve), or no --server; the same command goes on from here"
        raise EngineError(f"gave up after {len(waits) + 1} tries", place=self.url, found=problem, valid=valid)

    async def pairs(self) -> list[str]:
        """The pairs the server offers now."""
        response = await self.request("GET", "languages", FIRST_WAITS)
        try:
            rows = [(language(row["code"]), language(target)) for row in response.json() for target in row["targets"]]
        except (ValueError, KeyError, TypeError, AttributeError, LanguageError):
            raise BadInput("no tellmt server answers here", place=self.url, found=f"{_error_of(response)} for /languages") from None
        return sorted({str(LanguagePair(a, b)) for a, b in rows if a != b})


class RemoteBackend:
    """A Backend on a server. Several requests are under way at once, so that its engine always has a batch that waits."""

    lines = 32
    characters = 20_000
    parallel = 4

    def __init__(self, server: _Server, pair: LanguagePair, quality: Quality = "fast"):
        self.server, self.pair, self.quality = server, pair, quality
        self.adapters: list[str] = []
        # The user was told that the server translated some segments with a lower quality than asked for.
        self.lower_quality_told = False

    async def check_pair(self) -> None:
        """Raises NotServed with the pairs the server does offer. A pair can be withdrawn while a file is being translated."""
        offered = await self.server.pairs()
        if str(self.pair) not in offered:
            raise NotServed("no adapter is live for this pair", place=self.server.url, found=str(self.pair), valid=", ".join(offered) or NONE_LIVE)

    async def translate(self, texts: Sequence[str]) -> list[SegmentResult]:
        body = {"source": self.pair.source.tag, "target": self.pair.target.tag, "text": list(texts)}
        if self.quality != "fast":
            body["quality"] = self.quality
        response = await self.server.request("POST", "api/v1/translate", json=body)
        if response.status_code in REFUSED:
            if len(texts) == 1:
                await self.check_pair()
                return [SegmentResult("", failed=_error_of(response))]
            middle = len(texts) // 2
            return await self.translate(texts[:middle]) + await self.translate(texts[middle:])
        if response.status_code in (401, 403):
            raise BadInput("the server wants another API key", place=self.server.url, found=_error_of(response), valid="a key in TELLMT_API_KEY")
        if response.status_code != 200:
            raise TellmtError("the server refused", place=self.server.url, found=_error_of(response))
        try:
            answer = response.json()
            if self.quality == "best" and answer.get("quality") != "best" and not self.lower_quality_told:
                say(f"{self.server.url}: busy, so some segments are translated with quality fast")
                self.lower_quality_told = True
            results = [
                SegmentResult(str(t["text"]), tuple(map(str, t.get("flags") or (["truncated"] if t["truncated"] else [])))) for t in answer["translations"]
            ]
            adapter = str(answer["adapter"])
        except (ValueError, KeyError, TypeError):
            raise TellmtError("the server's answer cannot be read", place=self.server.url, found=response.text[:80]) from None
        if len(results) != len(texts):
            raise TellmtError("not one translation per text in the server's answer", place=self.server.url, found=len(results), valid=str(len(texts)))
        if adapter not in self.adapters:
            self.adapters.append(adapter)
        return results


def check_url(url: str) -> str:
    """The server's address, ending in a slash. Raises BadInput when it is none."""
    import httpx

    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as e:
        raise BadInput("not an address", place="--server", found=f"{url} ({e})", valid="http://HOST:PORT") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise BadInput("not an address", place="--server", found=url, valid="http://HOST:PORT")
    return url.rstrip("/") + "/"


@asynccontextmanager
async def _connect(url: str) -> AsyncIterator[_Server]:
    import httpx

    address = check_url(url)
    # From the environment alone: a command line is there for every user of the machine to read.
    key = os.environ.get("TELLMT_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=httpx.Timeout(READ_TIMEOUT, connect=10.0), follow_redirects=True) as client:
        yield _Server(client, address.rstrip("/"))


def offered_by(url: str) -> list[str]:
    """The pairs that the server at `url` offers now."""

    async def pairs() -> list[str]:
        async with _connect(url) as server:
            return await server.pairs()

    return asyncio.run(pairs())


@asynccontextmanager
async def open_remote(url: str, pair: LanguagePair, quality: Quality = "fast") -> AsyncIterator[RemoteBackend]:
    """A server that offers the pair. Raises NotServed with the pairs it does offer, EngineError when there is none."""
    async with _connect(url) as server:
        backend = RemoteBackend(server, pair, quality)
        await backend.check_pair()
        yield backend
