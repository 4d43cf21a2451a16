"""A canary set through a running service's public API, in small requests of the lowest priority. Reads and writes over HTTP."""

from __future__ import annotations

import time

from eval.monitor.canary_sets import CanarySet
from eval.monitor.judge import Made
from tell.client.client import Client
from tell.client.models import Translation
from tell.client.transport import RetryPolicy
from tell.errors import EngineError

# Texts in one request: a few seconds on a CPU.
PART = 8
# Seconds before a part is asked for again, at least and at most.
WAITS, LONGEST_WAIT = (1.0, 1.0, 1.0), 20.0


def open_client(server: str) -> Client:
    """A client that asks a busy or silent service again."""
    return Client(server, retry=RetryPolicy(WAITS, LONGEST_WAIT, frozenset({429, 503})))


def translate_set(client: Client, canary: CanarySet) -> Made:
    """Raises what `Client.translate` does; EngineError when versions change while the set is translated, twice."""
    source, target = canary.parsed.source.tag, canary.parsed.target.tag
    for _ in range(2):
        began = time.monotonic()
        translations: list[Translation] = []
        texts = canary.texts
        for start in range(0, len(texts), PART):
            translations += client.translate(texts[start : start + PART], source, target, cache=False, low=True)
            if translations[-1].adapter != translations[0].adapter:
                break
        else:
            n = len(canary.segments)
            flags = [t.flags for t in translations[n:]]
            return Made(translations[0].adapter, translations[0].base, [t.text for t in translations[:n]], flags, time.monotonic() - began)
    raise EngineError("the version changed while the canary set was translated, twice")
