"""Whether what is trained on a base can be served: asked of the engines in seconds, before hours of training.

Reads the base's configuration and the headers of its weights; an engine keeps what it found in the cache.
"""

from __future__ import annotations

from tell.errors import BaseModelError, MissingExtra
from tell.model.base import Base
from tell.model.engine import choose_engine, engine_refusal

# The engines that come with tellmt and run a base themselves; vLLM is also what a server elsewhere runs.
ENGINES = ("ct2", "vllm")


def refusals(base: Base) -> dict[str, str | None]:
    """For each engine the reason why it cannot serve the base; None where it can. An engine that cannot be tried here says what it lacks."""
    found: dict[str, str | None] = {}
    for name in ENGINES:
        try:
            found[name] = engine_refusal(name, base)
        except MissingExtra as e:
            found[name] = f"not tried here: {e}"
    return found


def check_servable(base: Base, engine: str | None = None) -> None:
    """Raises BaseModelError where no engine that this machine has serves the base, or where the one that is named does not."""
    names = [engine] if engine and engine != "auto" else list(dict.fromkeys(["ct2", choose_engine("auto")]))
    reasons = []
    for name in names:
        try:
            reason = engine_refusal(name, base)
        except MissingExtra:
            # It cannot be tried here, which says nothing of where it will be served.
            return
        if reason is None:
            return
        reasons.append(f"{name}: {reason}")
    others = [name for name in ENGINES if name not in names and engine_refusal(name, base) is None]
    who = f"the engine {names[0]} does not serve" if engine and engine != "auto" else "no engine here serves"
    valid = f"--engine {others[0]}, where that is what will serve it" if others else "a base that docs/bases.md has as served"
    raise BaseModelError(f"{who} this base, and nothing is trained", place=base.id, found="; ".join(reasons), valid=valid)
