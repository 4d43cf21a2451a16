"""Statuses that LibreTranslate's clients know: 403 for a key that is missing or not valid, where every other API has 401.

A raw ASGI layer outside the others, since keys are looked at before a route is reached.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.auth.gate import KEY_IN_BODY


class LibreTranslateErrors:
    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_status(message: Message) -> None:
            # The path without a slash at its end, which a layer further in takes off.
            if message["type"] == "http.response.start" and message["status"] == 401 and scope["path"] in KEY_IN_BODY:
                headers = [(name, value) for name, value in message["headers"] if name.lower() != b"www-authenticate"]
                message = {**message, "status": 403, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_status)
