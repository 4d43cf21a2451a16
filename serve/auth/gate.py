"""Who may ask for what: finds the caller of every request by its key, refuses what the key may not do, and counts against its quotas.

Paths are `scope["path"]`, which is what the router goes by. What is not listed here as open wants the scope `translate`, so a route that somebody
adds is closed until it is opened. The key comes in `X-API-Key`, in `Authorization` as `Bearer` or `DeepL-Auth-Key`, or, where a body may hold it, there:
then the route names it with `identify`, and until it did, `charge` refuses the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.auth.keys import ANONYMOUS, STRANGER, Caller, Keys
from serve.auth.quota import Kind, Quota
from serve.http.middleware import send_error
from tell.errors import KeyRefused, Overloaded, QuotaUsed, ScopeRefused, TellmtError

# Paths that need no key, besides the page's files. The language list is open because LibreTranslate's clients read it before they have one.
OPEN = frozenset({"/health", "/ready", "/languages", "/frontend/settings", "/openapi.json", "/api/v1/service"})
# A link to a translated file is its own key: 256 random bits, for one file and an hour. LibreTranslate's clients open it without any other.
LINKS = "/download_file/"
# Where the key may be in the body, as LibreTranslate has it.
KEY_IN_BODY = frozenset({"/translate", "/translate_file", "/detect"})
ADMIN = "/api/v1/admin/"
SCHEMES = (b"bearer", b"deepl-auth-key")
# Answers to a request that was not taken on: it costs nothing.
REFUSED = frozenset({429, 503})


def is_open(path: str) -> bool:
    return path in OPEN or path.startswith(LINKS)


def needed(path: str) -> frozenset[str]:
    """The scopes of which a key must have one."""
    if path.startswith(ADMIN):
        return frozenset({"admin"})
    if path in ("/metrics", "/api/v1/monitor"):
        return frozenset({"metrics", "admin"})
    if path in ("/api/v1/adapters", "/api/v1/load"):
        return frozenset({"translate", "admin"})
    return frozenset({"translate"})


def presented(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key that a request's headers bring. Several are joined, and so are nobody's: which one is meant cannot be told."""
    own, given = [], []
    for name, value in headers:
        if name == b"x-api-key":
            own.append(value.strip())
        elif name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() in SCHEMES:
                given.append(rest.strip())
    # Authorization may be there for a proxy on the way.
    found = own or given
    return b",".join(found).decode("latin-1") if found else None


def _allowed(caller: Caller, path: str) -> None:
    """Raises ScopeRefused."""
    wanted = needed(path)
    if not wanted & caller.scopes:
        raise ScopeRefused("this needs a key of another scope", valid=" or ".join(sorted(wanted)))


class Gate:
    def __init__(self, app: ASGIApp, keys: Keys, quota: Quota, pages: frozenset[str] = frozenset()):
        self.app, self.keys, self.quota, self.pages = app, keys, quota, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        spent: list[tuple[Kind, int]] = []
        scope["tellmt.gate"], scope["tellmt.spent"] = self, spent
        try:
            await self._admit(scope)
        except TellmtError as e:
            return await send_error(self._told(scope, send), e.status, str(e), headers_of(e), close=False)
        await self.app(scope, receive, self._told(scope, send) if self.keys.wanted else send)

    async def _admit(self, scope: Scope) -> None:
        path = scope["path"]
        if not self.keys.wanted:
            scope["tellmt.caller"] = ANONYMOUS
            if not needed(path) & ANONYMOUS.scopes:
                raise KeyRefused("this needs a key, and the service has none", valid="tellmt keys add NAME --scope admin")
            return
        scope["tellmt.caller"] = STRANGER
        if is_open(path) or path in self.pages:
            return
        key = presented(scope["headers"])
        if key is None and path in KEY_IN_BODY:
            return
        await self.name(scope, key)

    async def name(self, scope: Scope, key: str | None) -> None:
        """Let the key's caller be that of the request, and count the request. Raises KeyRefused, ScopeRefused, QuotaUsed."""
        caller = self.keys.find(key or "")
        if caller is None:
            raise KeyRefused("no valid API key", valid="X-API-Key: KEY, or Authorization: Bearer KEY")
        _allowed(caller, scope["path"])
        scope["tellmt.caller"] = caller
        await self.take(scope, "requests", 1)

    async def take(self, scope: Scope, kind: Kind, cost: int) -> None:
        await self.quota.take(scope["tellmt.caller"], kind, cost)
        scope["tellmt.spent"].append((kind, cost))

    def _told(self, scope: Scope, send: Send) -> Send:
        """Puts the quota's state on the answer, after what a refused request had taken was given back."""

        async def told(message: Message) -> None:
            caller: Caller = scope["tellmt.caller"]
            if message["type"] == "http.response.start" and caller.id:
                if message["status"] in REFUSED:
                    while scope["tellmt.spent"]:
                        await self.quota.give_back(caller, *scope["tellmt.spent"].pop())
                message["headers"] = [*message.get("headers", []), *await self.quota.headers(caller)]
            await send(message)

        return told


def caller_of(request: Request) -> Caller:
    """Whose key the request brings, as the gate has found."""
    caller: Caller = request.scope["tellmt.caller"]
    return caller


def gate_of(request: Request) -> Gate:
    gate: Gate = request.scope["tellmt.gate"]
    return gate


def headers_of(error: TellmtError) -> dict[str, str]:
    """What the status of an error wants told beside it."""
    if isinstance(error, KeyRefused):
        return {"WWW-Authenticate": 'Bearer realm="tellmt"'}
    if isinstance(error, QuotaUsed | Overloaded):
        return {"Retry-After": str(error.retry_after)}
    if error.status == 503:
        return {"Retry-After": "2"}
    return {"Connection": "close"} if error.status == 408 else {}


async def identify(request: Request, key: str | None) -> None:
    """Name the caller by the key in the body, unless a header has named one. Raises KeyRefused, ScopeRefused, QuotaUsed."""
    if caller_of(request) is STRANGER:
        await gate_of(request).name(request.scope, key)


async def charge(request: Request, texts: Sequence[str]) -> None:
    """Count the characters of the texts against the caller's quota, before any work. Raises QuotaUsed, TooLarge, and KeyRefused where nobody was named."""
    if "translate" not in caller_of(request).scopes:
        raise KeyRefused("no valid API key")
    await gate_of(request).take(request.scope, "characters", sum(map(len, texts)))


def admin_only(request: Request) -> None:
    """For the admin routes themselves, so that they are closed wherever they are mounted. Raises ScopeRefused."""
    if "admin" not in caller_of(request).scopes:
        raise ScopeRefused("this needs a key of another scope", valid="admin")
