"""A canary set through a running service's public API, in small requests of the lowest priority. Reads and writes over HTTP."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from eval.monitor.canary_sets import CanarySet
from eval.monitor.judge import Made
from tell.client.client import Client, NoAnswer, Translation
from tell.errors import EngineError, Overloaded
from tell.languages import LanguagePair

# Texts in one request: a few seconds on a CPU.
PART = 8
# How often a part is asked for, and the longest wait before it is asked again.
TRIES, LONGEST = 4, 20.0


def translate_set(client: Client, canary: CanarySet, sleep: Callable[[float], None] = time.sleep) -> Made:
    """Raises what `Client.translate` does, after some patience; EngineError when versions change while it runs, twice."""
    pair = canary.parsed
    for _ in range(2):
        began = time.monotonic()
        made: list[Translation] = []
        texts = canary.texts
        for at in range(0, len(texts), PART):
            made += _patiently(functools.partial(_ask, client, pair, texts[at : at + PART]), sleep)
            if made[-1].adapter != made[0].adapter:
                break
        else:
            n = len(canary.segments)
            flags = [t.flags for t in made[n:]]
            return Made(made[0].adapter, made[0].base, [t.text for t in made[:n]], flags, time.monotonic() - began)
    raise EngineError("the version changed while the canary set was translated, twice")


def _ask(client: Client, pair: LanguagePair, texts: list[str]) -> list[Translation]:
    return client.translate(texts, pair.source.tag, pair.target.tag, cache=False, low=True)


def _patiently(ask: Callable[[], list[Translation]], sleep: Callable[[float], None]) -> list[Translation]:
    for left in reversed(range(TRIES)):
        try:
            return ask()
        except (Overloaded, NoAnswer) as e:
            if not left:
                raise
            sleep(min(LONGEST, float(getattr(e, "retry_after", 1.0))))
    raise AssertionError
