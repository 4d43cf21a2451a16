"""A hypothesis: what an engine made of a segment."""

from __future__ import annotations

import dataclasses

from serve.config import Limits as Limits
from serve.config import Way as Way


@dataclasses.dataclass(frozen=True, slots=True)
class Hypothesis:
    """One translated segment. `truncated` when the engine stopped at its token limit rather than at the end."""

    text: str
    tokens: int
    truncated: bool
