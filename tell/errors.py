"""The exception tree, and how a message is worded.

    TellmtError                 exit 1, HTTP 500
      BadInput                  exit 2, HTTP 400   what the user gave cannot be used
        CorpusError               files of segments
        RecipeError               recipes and tellmt.toml
        LanguageError             language codes and pairs
        RequestError              bodies of HTTP requests
          TooLarge                  HTTP 413           more than one request may hold
      NotServed                 exit 1, HTTP 400   no adapter answers for this pair
      MissingExtra              exit 1, HTTP 503   an optional dependency is not installed
      BaseModelError            exit 1, HTTP 503   a base model cannot be had or does not verify
      AdapterError              exit 1, HTTP 503   an adapter directory is incomplete, altered or does not fit
      RegistryError             exit 1, HTTP 503   the registry cannot be read or written
      EngineError               exit 1, HTTP 503   the engine cannot start or has died
      Overloaded                exit 1, HTTP 503   too much is waiting already; the same request may succeed later
      GateRefused               exit 1, HTTP 409   an adapter is not better than what it would replace
      PartlyDone                exit 3, HTTP 500   some outputs were written, some were not

Libraries raise these; the CLI (`tell.cli`) and the HTTP layer (`serve.app`) translate them once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
        super().__init__("; ".join(parts))


class BadInput(TellmtError):
    exit_code = 2
    status = 400


class CorpusError(BadInput):
    pass


class RecipeError(BadInput):
    pass


class LanguageError(BadInput):
    pass


class RequestError(BadInput):
    pass


class TooLarge(RequestError):
    status = 413


class NotServed(TellmtError):
    status = 400


class MissingExtra(TellmtError):
    status = 503


class BaseModelError(TellmtError):
    status = 503


class AdapterError(TellmtError):
    status = 503


class RegistryError(TellmtError):
    status = 503


class EngineError(TellmtError):
    status = 503


class Overloaded(TellmtError):
    status = 503


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
