"""Golden sentences: a few translations on an adapter's card, by which a service that loads it checks that it translates as it did when it was published.

Part of card.json; made by `tellmt publish`, read by the service's canary.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tell.model.engine import Engine

# So that a card cannot keep an engine busy for long.
MOST, LONGEST = 32, 1000


class Sentence(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, max_length=LONGEST)
    # What the published adapter made of it, anchors stripped.
    output: str = Field(min_length=1, max_length=4 * LONGEST)


class Golden(BaseModel):
    """Sentences whose translation differs from the bare base's, translated together, in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The driver's name, and the versions of what ran.
    engine: str
    versions: dict[str, str]
    # `engine_identity` of the engine that made them.
    exact: str | None = None
    sentences: tuple[Sentence, ...] = Field(min_length=1, max_length=MOST)


def engine_identity(engine: Engine) -> str | None:
    """What another engine must have in common to give exactly the same outputs: library, version, number format, processor.

    None for one that does not even repeat its own, as where numbers depend on what else is in the batch.
    """
    engine_identity = getattr(engine, "identity", None)
    return engine_identity if isinstance(engine_identity, str) else None
