"""A hypothesis: an engine's translation of a segment."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Hypothesis:
    """One translated segment. `truncated` when the engine stopped at its token limit rather than at the end."""

    text: str
    tokens: int
    truncated: bool
