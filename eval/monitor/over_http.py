"""A canary set through a running service's public API, in small requests of the lowest priority. Reads and writes over HTTP."""

from __future__ import annotations

from eval.monitor.canary_sets import CanarySet
from eval.monitor.judge import CanaryTranslations
from eval.monitor.run_set import TranslatedPart, run_set
from tell.client.client import Client
from tell.client.transport import RetryPolicy

# Seconds before a part is asked for again, at least and at most.
WAITS, LONGEST_WAIT = (1.0, 1.0, 1.0), 20.0


def open_client(server: str) -> Client:
    """A client that asks a busy or silent service again."""
    return Client(server, retry=RetryPolicy(WAITS, LONGEST_WAIT, frozenset({429, 503})))


def translate_canary_set(client: Client, canary: CanarySet) -> CanaryTranslations:
    """Raises what `Client.translate` does; EngineError as `run_set`."""
    pair = canary.parsed

    def translate_part(texts: list[str]) -> TranslatedPart:
        translations = client.translate(texts, pair.source.tag, pair.target.tag, cache=False, low=True)
        by = translations[-1]
        return TranslatedPart(by.adapter, by.base, [t.text for t in translations], [t.flags for t in translations])

    return run_set(canary, translate_part)
