"""Which exception each refusal of a service is, with the service's own words. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

import httpx

from tell.errors import (
    KeyRefused,
    NotFound,
    NotReady,
    NotServed,
    Overloaded,
    OverShare,
    RequestError,
    ScopeRefused,
    TellmtError,
    TimedOut,
    TooLarge,
    TooSlow,
)

_BY_STATUS: dict[int, type[TellmtError]] = {
    400: RequestError, 401: KeyRefused, 403: ScopeRefused, 404: NotFound, 408: TooSlow, 409: NotReady, 413: TooLarge, 504: TimedOut,
}  # fmt: skip
# Seconds, where a busy service sends no Retry-After.
DEFAULT_RETRY_AFTER = 2


class ServiceFailed(TellmtError):
    """The service, or a proxy before it, failed: an answer of 500, 502 and the like, which `status` has."""


class NoAnswer(TellmtError):
    """No service answers at this address, the connection broke, or the answer took too long."""

    status = 503


class UnreadableAnswer(TellmtError):
    """The answer is not one of a tellmt service of this version. `excerpt` is its beginning."""

    def __init__(self, place: str, excerpt: str = "", found: str | None = None):
        super().__init__("the service's answer cannot be read", place=place, found=found, valid="the address of a tellmt serve of this version")
        self.excerpt = excerpt


def retry_after_seconds(response: httpx.Response) -> int | None:
    """Seconds of the header Retry-After; None where there is none, or a date, or no number that anybody would wait for."""
    header = response.headers.get("Retry-After", "")
    return int(header) if header.isascii() and header.isdigit() and len(header) < 10 else None


def error_message(response: httpx.Response) -> str:
    """The service's own words, or the status where the answer has none."""
    message = _body(response).get("error")
    return message if isinstance(message, str) and message else f"HTTP status {response.status_code}"


def refusal(response: httpx.Response, place: str) -> TellmtError:
    """The exception that an answer without success stands for."""
    message = error_message(response)
    if response.has_redirect_location:
        # A key and a text go to the address that was named and to no other. Mostly it is https: that was meant.
        redirected = UnreadableAnswer(place, message, found=f"a redirect to {response.headers['Location'][:200]!a}")
        redirected.status = response.status_code
        return redirected
    if response.status_code == 400 and _body(response).get("pairs") is not None:
        return NotServed(message, place=place)
    return error_of_status(response.status_code, message, place, retry_after_seconds(response))


def error_of_status(status: int, message: str, place: str, seconds: int | None = None) -> TellmtError:
    """`seconds` are those of Retry-After, where the service sent some."""
    if status in (429, 503):
        overload = OverShare if status == 429 else Overloaded
        return overload(message, place=place, retry_after=DEFAULT_RETRY_AFTER if seconds is None else seconds)
    if status < 400:
        # A redirect, which a client does not follow, or no final answer.
        unreadable = UnreadableAnswer(place, message)
        unreadable.status = status
        return unreadable
    error = _BY_STATUS.get(status, ServiceFailed if status >= 500 else RequestError)(message, place=place)
    error.status = status
    return error


def no_answer(error: httpx.RequestError, place: str) -> TellmtError:
    """What an exchange without an answer stands for; one whose answer cannot be unpacked has one, which is not tellmt's."""
    if isinstance(error, httpx.DecodingError | httpx.TooManyRedirects):
        return UnreadableAnswer(place, str(error))
    return NoAnswer("no answer", place=place, found=str(error) or type(error).__name__, valid="a running tellmt serve")


def broken_off(place: str) -> NoAnswer:
    return NoAnswer("the answer broke off", place=place, valid="asking again")


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
