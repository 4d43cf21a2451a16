"""Which names the service answers to, and which web pages may use it.

Reads Host, Origin and Sec-Fetch-Site of requests. Also takes the slash from the end of paths, and has the options of the CORS layer.

A service without keys trusts whatever comes from this machine, and a browser on it runs pages of everybody. Two ways lead from such a page to the
service: a name of the page's own that is made to resolve to 127.0.0.1 (the browser then takes the service for the page's own server), and plain
cross-site requests, whose answer the page cannot read but whose work is done. The first is recognised by its Host, the second by its Origin.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.config import WebConfig
from serve.http.middleware import send_error
from tell.errors import BadInput

# Probes of load balancers and of Kubernetes send an address as Host. Nothing can be done there.
PROBES = frozenset({"/health", "/ready"})
# Methods that change nothing: a cross-site page cannot read what they answer.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SAME_SITE = frozenset({"same-origin", "none"})
# Headers that a page of another origin may read besides those that every page may: quotas, what translated, and the name of a translated file.
EXPOSED = (
    "Retry-After", "RateLimit", "RateLimit-Policy", "X-Tellmt-Pair", "X-Tellmt-Adapter", "X-Tellmt-Base", "X-Tellmt-Quality", "X-Tellmt-Glossary",
    "X-Tellmt-Generation", "X-Tellmt-Via", "Content-Disposition",
)  # fmt: skip
# Seconds for which a browser keeps the answer to its preflight.
PREFLIGHT_SECONDS = 600
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\*|\[[0-9A-Fa-f:.]+\]")


def host_name(field: str) -> str:
    """The name or address in a Host field, in lower case, without port, brackets and final dot."""
    name = field.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether a name is this machine's own: localhost and names below it (RFC 6761), 127.0.0.0/8, ::1."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def parse_host(text: str) -> str:
    """A value of --allow-host: a name, *.name, an address, or * for any. Raises BadInput."""
    bare = text.strip()
    try:
        return str(ipaddress.ip_address(bare.strip("[]")))
    except ValueError:
        pass
    if not _HOST.fullmatch(bare):
        raise BadInput(
            "no name of a host", place="--allow-host", found=text, valid="a name without scheme and port, such as mt.example.org or *.example.org, or *"
        )
    return bare.lower().removesuffix(".")


def parse_origin(text: str) -> str:
    """A value of --allow-origin: scheme://host[:port], or * for any. Raises BadInput."""
    bare = text.strip().rstrip("/").lower()
    parts = urlsplit(bare)
    if bare != "*" and (not parts.scheme or not parts.netloc or "@" in parts.netloc or parts.path or parts.query or parts.fragment):
        raise BadInput("no origin", place="--allow-origin", found=text, valid="scheme://host[:port], such as https://app.example.org, or *")
    return bare


def parse_proxy(text: str) -> str:
    """A value of --trusted-proxy: an address or a network. Raises BadInput."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False)) if "/" in text else str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise BadInput("no address", place="--trusted-proxy", found=text, valid="an address or a network, such as 10.0.0.7 or 10.0.0.0/8") from None


def parse_public_url(text: str) -> str:
    """The value of --public-url, without a slash at its end. Raises BadInput."""
    parts = urlsplit(text.strip())
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc):
        raise BadInput("no address of a service", place="--public-url", found=text, valid="http:// or https://, host, and a path if there is one")
    return text.strip().rstrip("/")


def knows_host(web: WebConfig, name: str, keys_required: bool) -> bool:
    """Whether the service answers to a name; `name` as `host_name` gives it."""
    if keys_required and not web.hosts:
        return True
    return is_loopback(name) or any(h in ("*", name) or (h.startswith("*.") and name.endswith(h[1:])) for h in web.hosts)


def allows_origin(web: WebConfig, origin: str) -> bool:
    return "*" in web.origins or origin.lower() in web.origins


def cross_site(headers: Headers, web: WebConfig) -> str | None:
    """The origin of a request that a page of another origin sent, "" where it is not told. None for the service's own page and for clients without a page."""
    origin = headers.get("origin")
    # The browser's own view, which holds behind a proxy that changes Host. No script can set it.
    if site := headers.get("sec-fetch-site"):
        return None if site.lower() in SAME_SITE else origin or ""
    if origin is None:
        return None
    # Schemes are not compared: behind a proxy that speaks TLS the page's is https and the service sees http.
    own = {headers.get("host", "").strip().lower(), urlsplit(web.public_url).netloc.lower()}
    return None if urlsplit(origin).netloc.lower() in own - {""} else origin


class HasKeys(Protocol):
    """The keys of the service (serve.auth.gate)."""

    @property
    def required(self) -> bool:
        """Whether a caller needs a key."""


class OriginGuard:
    """The layer that refuses requests by their Host and Origin. Answers of 421 and 403 end the connection."""

    def __init__(self, app: ASGIApp, web: WebConfig, keys: HasKeys):
        self.app, self.web, self.keys = app, web, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _drop_final_slash(scope)
            if refusal := self.refusal(scope):
                return await send_error(send, *refusal)
        await self.app(scope, receive, send)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        # Clients of HTTP/1.0 may leave Host out; browsers never do.
        host = headers.get("host")
        if host is not None and scope["path"] not in PROBES and not knows_host(self.web, host_name(host), self.keys.required):
            return 421, "the service does not answer to the name in Host; valid: localhost, 127.0.0.1, [::1], and names given to tellmt serve as --allow-host"
        if scope["method"] in SAFE_METHODS:
            return None
        origin = cross_site(headers, self.web)
        if origin is not None and not allows_origin(self.web, origin):
            return 403, "web pages of other origins may not use the service; valid: origins given to tellmt serve as --allow-origin"
        return None


def _drop_final_slash(scope: Scope) -> None:
    """Make /translate/ the path /translate. A redirect would need the scheme, which behind a proxy the service does not know, and would send the body twice."""
    path = scope["path"]
    if len(path) > 1 and path.endswith("/") and not path.endswith("//"):
        scope["path"], scope["tellmt.slash"] = path[:-1], True
        if raw := scope.get("raw_path"):
            scope["raw_path"] = raw.removesuffix(b"/")


def cors_options(web: WebConfig) -> dict[str, Any]:
    """The options of Starlette's CORS layer, which also answers preflights, before keys are asked for.

    The leave of the operator holds for a service on the user's own machine or network as well, for which some browsers ask in words of their own.
    """
    return {
        "allow_origins": web.origins, "allow_methods": METHODS, "allow_headers": ("*",), "expose_headers": EXPOSED, "max_age": PREFLIGHT_SECONDS,
        "allow_private_network": True,
    }  # fmt: skip
