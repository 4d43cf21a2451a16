"""`tellmt registry wait`: waits until running services serve a version. Reads their /api/v1/adapters over HTTP, not the registry."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from tell.client.client import Client
from tell.client.service_models import AdapterStatus
from tell.client.transport import service_address
from tell.errors import BadInput, KeyRefused, ScopeRefused, TellmtError, TimedOut
from tell.languages import parse_pair

# Seconds between two looks at a service, and for its answer.
INTERVAL, ANSWER = 0.25, 10.0
_VERSION = re.compile(r"[0-9a-f]{4,32}")


def serves(status: AdapterStatus, version: str) -> bool:
    """Whether requests for the pair are answered by the version whose id begins so. Where the pair is cold, the next request loads what is wanted."""
    answering = status.wanted if status.state == "cold" else status.adapter
    return (answering or "").startswith(version)


def _told(status: AdapterStatus | None) -> str:
    """The state of a pair in words, for the message that it was not done in time."""
    if status is None:
        return "does not serve this pair"
    answering = f"answers with {status.adapter[:12]}" if status.adapter else "answers with none"
    reason = f": {status.reason}" if status.reason else ""
    return f"{answering}, {status.state} {(status.wanted or 'none')[:12]}{reason}"


def wait_for(pair: str, version: str, urls: Sequence[str], seconds: float, notify: Callable[[str, AdapterStatus], None]) -> None:
    """Return when every service serves the version of the pair; `notify` is told of each that does.

    Raises BadInput for what is no pair, version or address, KeyRefused and ScopeRefused at once, and TimedOut that names what each service says that does not.
    """
    normalised = str(parse_pair(pair, "PAIR"))
    if not _VERSION.fullmatch(version):
        raise BadInput("not an adapter's id", place="VERSION", found=version, valid="the id, or its first 4 characters or more: tellmt registry list")
    addresses = list(dict.fromkeys(service_address(url, "--server") for url in urls))
    deadline, left = time.monotonic() + seconds, dict.fromkeys(addresses, "no answer yet")
    clients = {url: Client(url, timeout=ANSWER) for url in addresses}
    try:
        while True:
            for url in list(left):
                try:
                    status = next((s for s in clients[url].adapters() if s.pair == normalised), None)
                except (KeyRefused, ScopeRefused):
                    raise
                except TellmtError as e:
                    # It may be starting, or a proxy before it may be.
                    left[url] = str(TellmtError(e.thing, found=e.found))
                    continue
                if status is not None and serves(status, version):
                    del left[url]
                    notify(clients[url].url, status)
                else:
                    left[url] = _told(status)
            if not left:
                return
            if time.monotonic() > deadline:
                # Not as what was found, which is cut where it is long.
                each = "; ".join(f"{clients[url].url}: {said}" for url, said in left.items())
                raise TimedOut(f"{len(left)} of {len(addresses)} services do not serve {version[:12]} after {seconds:g} s: {each}", place=normalised)
            time.sleep(min(INTERVAL, max(0.0, deadline - time.monotonic()) + 0.01))
    finally:
        for client in clients.values():
            client.close()
