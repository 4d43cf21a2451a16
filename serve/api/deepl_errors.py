"""Errors in the form that DeepL's clients know: {"message": ...}, 403 for a key that is not valid, 456 for a quota of characters, 503 for a document that
is not done yet.

A raw ASGI layer outside the others, since most errors arise before a route is reached; the application puts it before the paths under DEEPL alone.
"""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEEPL = "/v2/"
# The paths of DeepL's clients. The service offers nothing of version 3; its clients are told so in their form.
DEEPL_PATHS = (DEEPL, "/v3/")
# A route sets this key of the scope when the quota of characters is used up: a wait of seconds does not help then.
CHARACTERS_USED = "tellmt.characters_used"
# Seconds after which a client may ask again for a document that is not done.
RETRY_AFTER = b"2"


def _status(scope: Scope, status: int) -> int:
    if status == 401:
        return 403
    if status == 409:
        return 503
    return 456 if status == 429 and scope.get(CHARACTERS_USED) else status


class DeepLErrors:
    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message | None = None
        body = bytearray()

        async def hold_errors(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
            elif start is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await self._send_error(scope, start, bytes(body), send)

        await self.app(scope, receive, hold_errors)

    async def _send_error(self, scope: Scope, start: Message, body: bytes, send: Send) -> None:
        error = json.dumps({"message": json.loads(body)["error"]}).encode()
        dropped = (b"content-length", b"www-authenticate")
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
        headers.append((b"content-length", str(len(error)).encode()))
        if start["status"] == 409:
            headers.append((b"retry-after", RETRY_AFTER))
        await send({"type": "http.response.start", "status": _status(scope, start["status"]), "headers": headers})
        await send({"type": "http.response.body", "body": error})
