"""The bare base beside an adapter: what the same prompt and decoding give without the adapter's weights. Reads and writes nothing.

For comparing; off unless the service allows it (`tellmt serve --compare-base`).
"""

from __future__ import annotations

import dataclasses

from serve.adapters.versions import Version
from tell.errors import RequestError

# The prefix of the adapter's id, wherever a response or a metric names what translated.
PREFIX = "base-"


def base_of(version: Version) -> Version:
    """The base for the prompts of `version`, to be used while that is leased. It has an id of its own, so that the queue and the cache keep the two apart."""
    adapter = dataclasses.replace(version.adapter, id=PREFIX + version.adapter.id)
    return Version(adapter, dataclasses.replace(version.translator, adapter_id=None, hinter=None, retriever=None), version.segment_tokens)


def check_base_allowed(allowed: bool) -> None:
    """For a request that asks for the bare base. Raises RequestError when the service has none for callers."""
    if not allowed:
        raise RequestError("this service does not translate with the bare base", place="base", valid="false, or tellmt serve --compare-base")
