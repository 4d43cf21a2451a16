"""One translation of a canary set by a live system: in small parts, all of them by the same version. How a part reaches the system is the caller's."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from eval.monitor.canary_sets import CanarySet
from eval.monitor.judge import CanaryTranslations
from tell.errors import EngineError

# Texts in one part: a few seconds on a CPU, so that no part holds a version for long.
PART = 8
# How often the set is begun, when another version goes live meanwhile.
TRIES = 2


@dataclasses.dataclass(frozen=True, slots=True)
class TranslatedPart:
    """`texts` and their `flags` in the order of what was asked for; `version` and `base` are the ids of what translated them."""

    version: str
    base: str
    texts: list[str]
    flags: list[tuple[str, ...]]


def run_set(canary: CanarySet, translate_part: Callable[[list[str]], TranslatedPart]) -> CanaryTranslations:
    """Raises what `translate_part` does, and EngineError when the version changes while the set is translated, twice."""
    segments = len(canary.segments)
    for _ in range(TRIES):
        began = time.monotonic()
        texts: list[str] = []
        flags: list[tuple[str, ...]] = []
        versions: dict[str, str] = {}
        for start in range(0, len(canary.texts), PART):
            part = translate_part(canary.texts[start : start + PART])
            texts += part.texts
            flags += part.flags
            versions[part.version] = part.base
            if len(versions) > 1:
                break
        else:
            ((version, base),) = versions.items()
            return CanaryTranslations(version, base, texts[:segments], flags[segments:], time.monotonic() - began)
    raise EngineError("the version changed while the canary set was translated, twice")
