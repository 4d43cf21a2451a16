"""A canary set through a running service's public API, in small requests of the lowest priority. Reads and writes over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable

from eval.monitor.canary_sets import CanarySet
from eval.monitor.judge import Made
from eval.monitor.run_set import TranslatedPart, run_set
from tell.client.client import Client, NoAnswer, Translation
from tell.errors import Overloaded

# How often a part is asked for, and the longest wait in seconds before it is asked again.
TRIES, LONGEST = 4, 20.0


def translate_set(client: Client, canary: CanarySet, sleep: Callable[[float], None] = time.sleep) -> Made:
    """Raises what `Client.translate` does, after some patience; EngineError as `run_set`."""
    pair = canary.parsed

    def translate_part(texts: list[str]) -> TranslatedPart:
        translations = _patiently(lambda: client.translate(texts, pair.source.tag, pair.target.tag, cache=False, low=True), sleep)
        by = translations[-1]
        return TranslatedPart(by.adapter, by.base, [t.text for t in translations], [t.flags for t in translations])

    return run_set(canary, translate_part)


def _patiently(ask: Callable[[], list[Translation]], sleep: Callable[[float], None]) -> list[Translation]:
    for left in reversed(range(TRIES)):
        try:
            return ask()
        except (Overloaded, NoAnswer) as e:
            if not left:
                raise
            sleep(min(LONGEST, float(getattr(e, "retry_after", 1.0))))
    raise AssertionError
