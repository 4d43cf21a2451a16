"""Errors in the form that DeepL's clients know: {"message": ...}, 403 for a key that is not valid, 456 for a quota of characters, 503 for a document that
is not done yet.

A raw ASGI layer outside the others, since most errors arise before a route is reached; the application puts it before the paths under DEEPL alone.
"""

from __future__ import annotations

import json

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.middleware import ClientGone

DEEPL = "/v2/"
# The other versions, of which the service offers nothing: clients are told so in their form. Version 1 has the key in the address.
OTHER_VERSIONS = ("/v1/", "/v3/")
DEEPL_PATHS = (DEEPL, *OTHER_VERSIONS)
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
        begun = False
        body = bytearray()

        async def hold_errors(message: Message) -> None:
            nonlocal start, begun
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
            elif start is None:
                begun = True
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await self._send_error(scope, start, bytes(body), send)

        try:
            await self.app(scope, receive, hold_errors)
        except (ClientGone, ClientDisconnect):
            raise
        except Exception:
            # Logged further out, where nothing is sent any more then.
            if start is None and not begun:
                failed: Message = {"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"application/json")]}
                await self._send_error(scope, failed, b'{"error": "something went wrong in the service"}', send)
            raise

    async def _send_error(self, scope: Scope, start: Message, body: bytes, send: Send) -> None:
        error = json.dumps({"message": json.loads(body)["error"]}).encode()
        dropped = (b"content-length", b"www-authenticate")
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
        headers.append((b"content-length", str(len(error)).encode()))
        if start["status"] == 409:
            headers.append((b"retry-after", RETRY_AFTER))
        await send({"type": "http.response.start", "status": _status(scope, start["status"]), "headers": headers})
        await send({"type": "http.response.body", "body": error})
