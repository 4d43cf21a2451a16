"""Errors as DeepL's clients know them, for all paths under /v2/: {"message": ...}, 403 for a key that is not valid, 456 for a quota of characters, 503
for a document that is not done yet.

A raw ASGI layer outside the others, since most errors are said before a route is reached.
"""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEEPL = "/v2/"
# Where a route tells that the quota it met is that of characters, which no waiting of seconds helps.
CHARACTERS_USED = "tellmt.characters_used"

# Seconds after which a document that is not done may be asked for again.
SOON = b"2"


def _status(scope: Scope, status: int) -> int:
    if status == 401:
        return 403
    if status == 409:
        return 503
    return 456 if status == 429 and scope.get(CHARACTERS_USED) else status


class Dialect:
    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(DEEPL):
            return await self.app(scope, receive, send)
        start: Message | None = None
        body = bytearray()

        async def told(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
            elif start is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await self._error(scope, start, bytes(body), send)

        await self.app(scope, receive, told)

    async def _error(self, scope: Scope, start: Message, body: bytes, send: Send) -> None:
        said = json.dumps({"message": json.loads(body)["error"]}).encode()
        dropped = (b"content-length", b"www-authenticate")
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
        headers.append((b"content-length", str(len(said)).encode()))
        if start["status"] == 409:
            headers.append((b"retry-after", SOON))
        await send({"type": "http.response.start", "status": _status(scope, start["status"]), "headers": headers})
        await send({"type": "http.response.body", "body": said})
