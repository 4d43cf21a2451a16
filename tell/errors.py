"""The exception tree, and how a message is worded.

    TellmtError                 exit 1, HTTP 500
      BadInput                  exit 2, HTTP 400   what the user gave cannot be used
        CorpusError               files of segments
          OtherLanguages            a file of other languages than those of the pair
        RecipeError               recipes and tellmt.toml
        LanguageError             language codes and pairs
        RequestError              bodies of HTTP requests
          TooLarge                  HTTP 413           more than one request may hold
          TooSlow                   HTTP 408           a body that does not come to its end
      NotServed                 exit 1, HTTP 400   no adapter answers for this pair
      NotFound                  exit 1, HTTP 404   there is no such thing, or it is somebody else's
      NotReady                  exit 1, HTTP 409   what is asked for is not done yet
      KeyRefused                exit 1, HTTP 401   no API key, or one that is nobody's, expired or revoked
      ScopeRefused              exit 1, HTTP 403   the API key may not do this
      QuotaUsed                 exit 1, HTTP 429   the API key's quota is used up for now
      MissingExtra              exit 1, HTTP 503   an optional dependency is not installed
      BaseModelError            exit 1, HTTP 503   a base model cannot be had or does not verify
      AdapterError              exit 1, HTTP 503   an adapter directory is incomplete, altered or does not fit
      RegistryError             exit 1, HTTP 503   the registry cannot be read or written
      EngineError               exit 1, HTTP 503   the engine cannot start or has died
      Overloaded                exit 1, HTTP 503   too much is waiting already; the same request may succeed later
        OverShare                 HTTP 429           too much of one API key is waiting
        TooLate                   HTTP 503           a request's turn would come after its time
      TimedOut                  exit 1, HTTP 504   a request's time is over
      GateRefused               exit 1, HTTP 409   an adapter is not better than what it would replace
      PartlyDone                exit 3, HTTP 500   some outputs were written, some were not

Libraries raise these; the CLI (`tellmt.cli`) and the HTTP layer (`serve.app`) translate them once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Control characters but for tab and line feed, and what turns the direction of text around: a terminal obeys them, and a message may quote a stranger's file.
_CONTROL = {c: "\ufffd" for c in (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)) if c not in (9, 10)}


def printable(text: str) -> str:
    """The text without what a terminal would take for a command."""
    return text.translate(_CONTROL)


class TellmtError(Exception):
    """One problem, told as the thing, the place, what was found and what is valid."""

    exit_code = 1
    status = 500

    def __init__(self, thing: str, *, place: str | None = None, found: object = None, valid: str | None = None):
        self.thing, self.place, self.found, self.valid = thing, place, found, valid
        parts = [f"{place}: {thing}" if place else thing]
        if found is not None:
            text = found if isinstance(found, str) else str(found)
            parts.append(f"found {text if len(text) <= 120 else text[:117] + '...'}")
        if valid is not None:
            parts.append(f"valid: {valid}")
        super().__init__(printable("; ".join(parts)))


class BadInput(TellmtError):
    """The user gave something that cannot be used."""

    exit_code = 2
    status = 400


class CorpusError(BadInput):
    pass


class OtherLanguages(CorpusError):
    """A file of other languages than those of the pair. Among the files of a directory it is passed over."""


class RecipeError(BadInput):
    pass


class LanguageError(BadInput):
    """A language code or a pair of languages is not known."""


class RequestError(BadInput):
    """The body of a request cannot be used."""


class TooLarge(RequestError):
    """A request holds more than one request may."""

    status = 413


class TooSlow(RequestError):
    """The body of a request did not arrive in time."""

    status = 408


class NotServed(TellmtError):
    """No adapter answers for this pair."""

    status = 400


class NotFound(TellmtError):
    """There is no such thing, or it belongs to somebody else."""

    status = 404


class NotReady(TellmtError):
    """What was requested is not done yet."""

    status = 409


class KeyRefused(TellmtError):
    """The request has no API key, or one that is unknown, expired or revoked."""

    status = 401


class ScopeRefused(TellmtError):
    """The API key may not do this."""

    status = 403


class QuotaUsed(TellmtError):
    """`retry_after`: seconds until the same request is taken on, if nothing else is asked meanwhile."""

    status = 429

    def __init__(self, thing: str, retry_after: int, *, found: object = None, valid: str | None = None):
        super().__init__(thing, found=found, valid=valid)
        self.retry_after = retry_after


class MissingExtra(TellmtError):
    """An optional dependency is not installed."""

    status = 503


class BaseModelError(TellmtError):
    status = 503


class AdapterError(TellmtError):
    """An adapter directory is incomplete, altered or does not fit the base."""

    status = 503


class RegistryError(TellmtError):
    status = 503


class EngineError(TellmtError):
    """The engine cannot start or has died."""

    status = 503


class Overloaded(TellmtError):
    """`retry_after`: seconds until the same request may be taken on. `reason` is the kind, as metrics count it."""

    status = 503
    reason = "full"

    def __init__(self, thing: str, *, place: str | None = None, found: object = None, valid: str | None = None, retry_after: int = 2):
        super().__init__(thing, place=place, found=found, valid=valid)
        self.retry_after = retry_after


class OverShare(Overloaded):
    """Too much of one API key is waiting, or its quota is used up for now."""

    status = 429
    reason = "share"


class TooLate(Overloaded):
    reason = "late"


class TimedOut(TellmtError):
    """The time of a request is over."""

    status = 504


class GateRefused(TellmtError):
    status = 409


class PartlyDone(TellmtError):
    exit_code = 3


def suggestion(found: str, valid: Iterable[str]) -> str:
    """The valid names in one string, led by the nearest one to `found` if any is near."""
    names = sorted(valid)
    near = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    listed = ", ".join(names)
    return f"{near[0]} (did you mean this?), or one of {listed}" if near else listed
