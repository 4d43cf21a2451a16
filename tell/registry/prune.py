"""Decides which adapters of a registry may be removed, by its states, log and stored adapters. Reads and removes nothing itself."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence, Set

from tell.registry.store import Entry, PairState, StoredAdapter, Unused

# Seconds. A service may still be answering requests with what was live a moment ago, and somebody may be about to promote what was just added.
NEVER_YOUNGER = 3600.0


def _when(entry: Entry) -> float | None:
    try:
        return datetime.datetime.fromisoformat(entry["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def unused_adapters(
    held: Mapping[str, StoredAdapter], states: Sequence[PairState], log: Sequence[Entry], now: float, keep: int, seconds: float, best: Set[str] = frozenset()
) -> list[Unused]:
    """The adapters that no alias of any pair names, that are not among `best`, nor among the `keep` newest of their pair, and that were neither added nor
    live within `seconds`, or within the last hour if that is longer. The longest idle come first.

    A replaced adapter was live until the change that replaced it. An adapter that the log does not mention counts from its file's time.
    """
    last = {id: adapter.since for id, adapter in held.items()}
    pairs: dict[str, str] = {}
    for entry in log:
        moment = _when(entry)
        for id in (entry.get("id"), entry.get("from")):
            if isinstance(id, str) and id in last:
                pairs.setdefault(id, str(entry.get("pair", "")))
                if moment is not None:
                    last[id] = max(last[id], moment)
    named = {id for state in states for id in state.named()} | best
    removable = []
    for pair in sorted({pairs.get(id, "") for id in held}):
        newest = sorted((id for id in held if pairs.get(id, "") == pair), key=lambda id: (-last[id], id))
        old = [id for id in newest[keep:] if id not in named and now - last[id] > max(seconds, NEVER_YOUNGER)]
        removable += [Unused(id, pair, held[id].size, now - last[id]) for id in old]
    return sorted(removable, key=lambda adapter: (-adapter.idle, adapter.id))
