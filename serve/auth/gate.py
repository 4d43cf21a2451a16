"""Access control: finds the caller of every request by its key, refuses what the key's scopes do not allow, and counts against the key's quotas.

Paths are `scope["path"]`, which the router uses too. A path that is not listed here as open needs the scope `translate`, so a new route is closed until
somebody opens it. The key comes in `X-API-Key`, in `Authorization` as `Bearer` or `DeepL-Auth-Key`, or, for some paths, in the body: such a route calls
`identify` with it, and until it does, `charge` refuses the work.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.auth.keys import ANONYMOUS, KEY, STRANGER, Caller, Key, digest, read_keys
from serve.auth.quota import Kind, Meter, Quota
from serve.http.middleware import send_error
from tell.errors import KeyRefused, Overloaded, QuotaUsed, ScopeRefused, TellmtError
from tell.paths import keys_file

logger = logging.getLogger(__name__)

# Paths that need no key, besides the page's files. The language list is open because LibreTranslate's clients read it before they have a key.
OPEN = frozenset({"/health", "/ready", "/languages", "/frontend/settings", "/openapi.json", "/spec", "/api/v1/service"})
# A link to a translated file is its own key: 256 random bits, for one file and an hour. LibreTranslate's clients open it without another key.
LINKS = "/download_file/"
# Paths whose body may hold the key, as in LibreTranslate's API.
KEY_IN_BODY = frozenset({"/translate", "/translate_file", "/detect", "/suggest"})
ADMIN = "/api/v1/admin/"
SCHEMES = (b"bearer", b"deepl-auth-key")
# Statuses of a request that the service refused to work on: it costs no quota. With any other error it costs what was translated, and counts as a request.
REFUSED = frozenset({429, 503})
# Seconds between two looks at the keys file: a revoked key works no longer than that. An unknown key may be new: the file is then read at once.
LOOK = 0.5
# The hash that an unknown id is compared with, so that the comparison takes as long.
NO_KEY = "0" * 64


def is_open(path: str) -> bool:
    return path in OPEN or path.startswith(LINKS)


def scopes_for(path: str) -> frozenset[str]:
    """The scopes for a path; a key must have at least one of them."""
    if path.startswith(ADMIN):
        return frozenset({"admin"})
    if path in ("/metrics", "/api/v1/monitor"):
        return frozenset({"metrics", "admin"})
    if path in ("/api/v1/adapters", "/api/v1/load"):
        return frozenset({"translate", "admin"})
    return frozenset({"translate"})


def key_in_headers(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in a request's headers. Several keys are joined into one that nobody has, since the client may mean either. A field without a value holds
    none: some clients send the fields of all keys that they know of."""
    x_api_key, authorization = [], []
    for name, value in headers:
        if name == b"x-api-key" and (key := value.strip()):
            x_api_key.append(key)
        elif name == b"authorization":
            scheme, _, credentials = value.strip().partition(b" ")
            if scheme.lower() in SCHEMES and (key := credentials.strip()):
                authorization.append(key)
    # X-API-Key first: Authorization may be meant for a proxy.
    keys = x_api_key or authorization
    return b",".join(keys).decode("latin-1") if keys else None


def _check_scope(caller: Caller, path: str) -> None:
    """Raises ScopeRefused."""
    scopes = scopes_for(path)
    if not scopes & caller.scopes:
        raise ScopeRefused("this needs a key of another scope", valid=" or ".join(sorted(scopes)))


class Keys:
    """The keys file as the running service sees it: read again on use, at most every half second.

    When the file cannot be read, the keys that were read last stay in force, and the log says so once. The same holds for a file that is removed:
    removing it opens nothing.
    """

    def __init__(self, path: Path | None = None, always: bool = False):
        """With `always`, callers need a key even where there is no file yet. Raises TellmtError when there is a file that cannot be used."""
        self.path = path or keys_file()
        self._always = always
        self._keys: dict[str, Key] | None = None
        self._stat: tuple[int, int, int, int] | None = None
        self._read_at = 0.0
        self._problem: str | None = None
        self._read(strict=True)

    def _read(self, strict: bool = False) -> None:
        self._read_at = time.monotonic()
        try:
            info = self.path.stat()
            file_stat = (info.st_ino, info.st_mtime_ns, info.st_size, info.st_mode)
            if file_stat == self._stat:
                return
            keys = read_keys(self.path)
            if keys is None:
                raise FileNotFoundError
        except FileNotFoundError:
            self._stat = None
            if self._keys is not None:
                self._log_once(f"{self.path}: the keys file is gone")
            return
        except (TellmtError, OSError) as e:
            if strict:
                raise
            self._stat = None
            self._log_once(str(e))
            return
        if self._problem is not None:
            logger.info(f"{self.path}: readable again")
        self._keys, self._stat, self._problem = {k.id: k for k in keys}, file_stat, None

    def _log_once(self, problem: str) -> None:
        if problem != self._problem:
            logger.error(f"{problem}; the keys that were read last stay in force" if self._keys is not None else problem)
        self._problem = problem

    def _fresh(self, seconds: float = LOOK) -> dict[str, Key] | None:
        if time.monotonic() - self._read_at > seconds:
            self._read()
        return self._keys

    @property
    def required(self) -> bool:
        """Whether a caller needs a key. With a file whose keys are all revoked it needs one, which nobody has."""
        return self._fresh() is not None or self._always

    def usable(self) -> bool:
        """Whether there is an active key."""
        now = datetime.now(UTC)
        return any(k.state(now) == "active" for k in (self._fresh() or {}).values())

    def find(self, key: str) -> Caller | None:
        """The caller of this key; None when the key is unknown, revoked or expired, without saying which."""
        match = KEY.fullmatch(key[:100])
        id = match[1] if match else ""
        record = (self._fresh() or {}).get(id) or (self._fresh(0) or {}).get(id)
        has_secret = hmac.compare_digest(digest(key[:100]), record.sha256 if record else NO_KEY)
        return record.caller() if record and has_secret and record.state(datetime.now(UTC)) == "active" else None


def keys_for(address: str, path: Path | None = None) -> Keys:
    """The keys of a service that listens on `address`. Raises TellmtError when other machines can reach it and there is no active key."""
    import ipaddress

    local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    keys = Keys(path, always=not local)
    if not local and not keys.usable():
        raise TellmtError("without keys it serves this machine alone", place="--host", found=address, valid="127.0.0.1, or run: tellmt keys add NAME")
    return keys


class Gate:
    """The layer before the routes that admits requests. `pages` are the open paths of the page's files."""

    def __init__(self, app: ASGIApp, keys: Keys, quota: Quota, pages: frozenset[str] = frozenset()):
        self.app, self.keys, self.quota, self.pages = app, keys, quota, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        spent: list[tuple[Kind, int]] = []
        scope["tellmt.gate"], scope["tellmt.spent"], scope["tellmt.meter"], scope["tellmt.unfinished"] = self, spent, Meter(), True
        try:
            await self._admit(scope)
        except TellmtError as e:
            return await send_error(self._with_quota(scope, send), e.status, str(e), headers_of(e), close=False)
        try:
            await self.app(scope, receive, self._with_quota(scope, send))
        finally:
            # Shielded: a client that has left cancels the request, and what it did not get is to be given back all the same.
            if spent and scope["tellmt.unfinished"]:
                await asyncio.shield(self._give_back(scope))

    async def _admit(self, scope: Scope) -> None:
        path = scope["path"]
        if not self.keys.required:
            scope["tellmt.caller"] = ANONYMOUS
            if not scopes_for(path) & ANONYMOUS.scopes:
                raise KeyRefused("this needs a key, and the service has none", valid="tellmt keys add NAME --scope admin")
            return
        scope["tellmt.caller"] = STRANGER
        if is_open(path) or path in self.pages:
            return
        key = key_in_headers(scope["headers"])
        if key is None and path in KEY_IN_BODY:
            return
        await self.name(scope, key)

    async def name(self, scope: Scope, key: str | None) -> None:
        """Make the key's owner the caller of the request, and count the request. Raises KeyRefused, ScopeRefused, QuotaUsed."""
        caller = self.keys.find(key or "")
        if caller is None:
            in_body = "api_key in the body, " if scope["path"] in KEY_IN_BODY else ""
            raise KeyRefused("no valid API key", valid=f"{in_body}X-API-Key: KEY, or Authorization: Bearer KEY")
        _check_scope(caller, scope["path"])
        scope["tellmt.caller"] = caller
        await self.take(scope, "requests", 1)

    async def take(self, scope: Scope, kind: Kind, cost: int) -> None:
        """Count `cost` against the caller's quota; a caller without a key has none. Raises QuotaUsed, TooLarge, Overloaded."""
        await self.quota.take(scope["tellmt.caller"], kind, cost)
        scope["tellmt.spent"].append((kind, cost))

    async def _give_back(self, scope: Scope, everything: bool = False) -> None:
        """Give back what the request took from the caller's quotas: everything, or the characters that were not translated."""
        caller, spent, translated = scope["tellmt.caller"], scope["tellmt.spent"], scope["tellmt.meter"].translated
        for kind, cost in [taken for taken in spent if everything or taken[0] == "characters"]:
            spent.remove((kind, cost))
            await self.quota.give_back(caller, kind, cost if everything else max(0, cost - translated))

    def _with_quota(self, scope: Scope, send: Send) -> Send:
        """Adds the state of the caller's quotas to the response's headers. A request that failed first gets back what it took from them."""

        async def send_with_quota(message: Message) -> None:
            caller: Caller = scope["tellmt.caller"]
            if message["type"] == "http.response.start" and message["status"] >= 400:
                await self._give_back(scope, everything=message["status"] in REFUSED)
            if message["type"] == "http.response.start" and caller.id:
                message["headers"] = [*message.get("headers", []), *await self.quota.headers(caller)]
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_last and scope.get("tellmt.failed"):
                # Before the client sees the end, and asks what is left.
                await self._give_back(scope)
            await send(message)
            if is_last:
                scope["tellmt.unfinished"] = False

        return send_with_quota


def caller_of(request: Request) -> Caller:
    """The caller that the gate found by the request's key."""
    caller: Caller = request.scope["tellmt.caller"]
    return caller


def gate_of(request: Request) -> Gate:
    gate: Gate = request.scope["tellmt.gate"]
    return gate


def headers_of(error: TellmtError) -> dict[str, str]:
    """The headers that belong to the status of an error."""
    if isinstance(error, KeyRefused):
        return {"WWW-Authenticate": 'Bearer realm="tellmt"'}
    if isinstance(error, QuotaUsed | Overloaded):
        return {"Retry-After": str(error.retry_after)}
    if error.status == 503:
        return {"Retry-After": "2"}
    return {"Connection": "close"} if error.status == 408 else {}


def meter_of(request: Request) -> Meter:
    """What counts the request's translated characters."""
    meter: Meter = request.scope["tellmt.meter"]
    return meter


def mark_unfinished(request: Request) -> None:
    """Say that a response that has begun well ends with an error: the caller is charged for what was translated alone."""
    request.scope["tellmt.failed"] = True


def leave_charge(request: Request) -> None:
    """Leave the characters that the request was charged for to work that goes on after its response, and gives them back where it fails."""
    spent = request.scope["tellmt.spent"]
    spent[:] = [taken for taken in spent if taken[0] != "characters"]


async def identify(request: Request, key: str | None) -> None:
    """Find the caller by the key in the body, unless a header has a key. Raises KeyRefused, ScopeRefused, QuotaUsed."""
    if caller_of(request) is STRANGER:
        await gate_of(request).name(request.scope, key)


async def charge(request: Request, texts: Sequence[str]) -> None:
    """Count the characters of the texts against the caller's quota, before any work. Raises QuotaUsed, TooLarge, and KeyRefused without a caller."""
    _check_translates(request)
    await gate_of(request).take(request.scope, "characters", sum(map(len, texts)))


def _check_translates(request: Request) -> None:
    """Raises KeyRefused where no caller was found that may translate."""
    if "translate" not in caller_of(request).scopes:
        raise KeyRefused("no valid API key")


async def check_charge(request: Request) -> None:
    """Raises as `charge` of the least text would, before it is known how much there is. Takes nothing."""
    _check_translates(request)
    await gate_of(request).quota.check(caller_of(request), "characters")


def admin_only(request: Request) -> None:
    """A check in the admin routes themselves, so that they are closed under any path. Raises ScopeRefused."""
    if "admin" not in caller_of(request).scopes:
        raise ScopeRefused("this needs a key of another scope", valid="admin")
