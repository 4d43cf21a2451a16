"""What of an adapter was chosen on the dev split, by its card: the weights of the best validation, and the penalty on repetition.

Reads and writes nothing. A card says on which part (`tell.corpus.dev_halves`); one made before there were halves says nothing, and its whole split chose.
"""

from __future__ import annotations

from typing import Any

from tell.adapter.card import Card
from tell.corpus.dev_halves import HALVED, DevPart
from tell.model.engine import Decoding

# Where a card keeps the part that chose its penalty: in `training`, so that versions before it read the card too.
PENALTY = "decoding"
# How messages speak of what was chosen.
NAMES = {"weights": "the best validation's weights", "repetition_penalty": "its penalty on repetition"}


def recipe_penalty(card: Card) -> float:
    """The penalty on repetition that the recipe asks for: what an adapter decodes with when nothing is chosen."""
    table = card.recipe.get("decoding")
    penalty = table.get("repetition_penalty") if isinstance(table, dict) else None
    return float(penalty) if isinstance(penalty, int | float) else Decoding().repetition_penalty


def with_penalty(card: Card, penalty: float, part: dict[str, Any] | None) -> Card:
    """The card with this penalty, and with the part of the dev split that chose it where it is not the recipe's."""
    training = {k: v for k, v in card.training.items() if k != PENALTY}
    if part is not None and penalty != recipe_penalty(card):
        training[PENALTY] = {"repetition_penalty": penalty, **part}
    return card.model_copy(update={"decoding": card.decoding.model_copy(update={"repetition_penalty": penalty}), "training": training})


def chosen_on(card: Card) -> dict[str, dict[str, Any]]:
    """What was chosen on the dev split, and the record of the part that chose it; `{"part": "whole"}` alone on cards made before there were halves."""
    choices: dict[str, dict[str, Any]] = {}
    if isinstance(validation := card.training.get("dev"), dict):
        part = validation.get("part")
        choices["weights"] = dict(part) if isinstance(part, dict) else {"part": "whole"}
    if card.decoding.repetition_penalty != recipe_penalty(card):
        part = card.training.get(PENALTY)
        choices["repetition_penalty"] = {k: v for k, v in part.items() if k != "repetition_penalty"} if isinstance(part, dict) else {"part": "whole"}
    return choices


def notes(card: Card, judged: DevPart) -> list[str]:
    """Sentences on the choices of this card that the segments of `judged` had a part in, or may have had."""
    said = []
    for what, part in chosen_on(card).items():
        if part.get("part") == "choosing" and part.get("by") == judged.by:
            continue
        if part.get("part") == "choosing":
            now = f"halved by {judged.by}" if judged.by else "judged whole"
            reason = f"on a half by {part.get('by')}, and the split is now {now}: what judges may have been among what chose"
        elif "of" in part:
            few = f", fewer than {HALVED}" if part["of"] < HALVED else ""
            reason = f"on the whole split of {part['of']:,} segments{few}: what judges was among what chose"
        else:
            reason = "on the whole split by a version without halves: what judges was among what chose"
        said.append(f"{NAMES[what]}: chosen {reason}")
    return said
