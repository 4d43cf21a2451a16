"""The line of versions that a live adapter comes from, and the best of them: each version was compared with the one that it replaced.

Reads the verdicts on the cards of a registry. Writes nothing. A version that is worse by less than the margin passes, and so would the next one: what is let
in is compared with the best as well, so that small losses do not add up. The best stays the best until a version is surely better than it, whatever was
forced, promoted or rolled back meanwhile.
"""

from __future__ import annotations

from typing import Any

from tell.adapter.card import Adapter
from tell.errors import TellmtError
from tell.registry.registry import Registry


def _beaten(verdict: dict[str, Any]) -> bool:
    """Whether a version was surely better than the one before it, by a verdict that was made before verdicts named the best."""
    paired = verdict.get("paired")
    test = paired.get("adapter_vs_live") if isinstance(paired, dict) else None
    if not isinstance(test, dict):
        return False
    delta, p, alpha = test.get("delta"), test.get("p"), verdict.get("alpha")
    return isinstance(delta, int | float) and isinstance(p, int | float) and delta > 0 and p < (alpha if isinstance(alpha, float) else 0.05)


def best_id(registry: Registry, live: Adapter) -> str:
    """The id of the best version in the line of `live`, by what the verdicts on the cards say; it may not be there any more."""
    id, verdict, seen = live.id, live.card.verdict or {}, {live.id}
    while True:
        best = verdict.get("best")
        if isinstance(best, dict) and isinstance(best.get("id"), str):
            return id if best.get("beaten") else str(best["id"])
        before = verdict.get("against")
        if not isinstance(before, str) or before in seen or _beaten(verdict) or "adapter_vs_shipped" in verdict.get("paired", {}):
            return id
        try:
            verdict = registry.card(before).verdict or {}
        except (TellmtError, OSError):
            # Removed since: what it was compared with is not known, and it is the oldest that is.
            return id
        id = before
        seen.add(id)


def best_before(registry: Registry, live: Adapter) -> tuple[str, Adapter | None, list[str]]:
    """(id of the best version in the line of `live`; the version, or None where it is `live`; notes). Where it cannot be had, the line begins anew."""
    id = best_id(registry, live)
    if id == live.id:
        return id, None, []
    try:
        best = registry.adapter(id)
    except (TellmtError, OSError) as e:
        return live.id, None, [f"the best version {id[:12]} cannot be read and was not compared with: {e}"]
    if (best.card.base.id, best.card.base.revision) != (live.card.base.id, live.card.base.revision):
        return live.id, None, [f"the best version {best.short} is on another base ({best.card.base.id}) and was not compared with"]
    return id, best, []
