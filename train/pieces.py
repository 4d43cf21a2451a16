"""Which pieces of the base's vocabulary a trained adapter keeps (tell.model.pieces).

Reads the examples of the mix and its lexicon; writes nothing. What the examples and the lexicon have is not all that a translation needs: a small corpus lacks
most words of both languages. So the model is asked which pieces it finds likely where its examples go on, in source and target: of Icelandic's pieces on other
texts those leave out fewer than twice as many of the tokenizer's commonest would (docs/results/vocabulary.md). English gets its commonest words, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tell.adapter.card import LEXICON, pieces_of
from tell.languages import parse_pair
from tell.lexicon.lexicon import Lexicon
from tell.model.merges import merges_of
from tell.model.pieces import Pieces, alphabet
from tell.model.tokenizer import BaseTokenizer
from train.inputs import Inputs, hint_options
from train.likely_words import mean_probabilities, some_examples
from train.output_layer import output_layer
from train.plan import Tokenised

# A vocabulary of fewer words is kept whole, and one of which less than this share could be left out.
LEAST, WORTH = 32_768, 0.25
# Positions of the examples at which the model is asked, and the pieces that are taken for it.
POSITIONS, MOST = 1024, 16_384
# Positions of responses at which it is measured what the other pieces have, and the share of the model's probability they may have.
MEASURED, MOST_LEFT_OUT = 512, 0.02
ENGLISH = Path(__file__).resolve().parents[1] / "tell" / "model" / "english.txt"


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """`pieces`: None where the whole vocabulary is kept, and `reason` says why. `left_out`: the share of the probability that the other pieces have, on
    examples that had no part in the choice."""

    pieces: Pieces | None
    left_out: float
    reason: str = ""


def choose_pieces(model: Any, inputs: Inputs, seed: int) -> Choice:
    """The pieces for a trained model, which is left in training mode."""
    rows = len(output_layer(model.get_base_model()).weight)
    merges = merges_of(inputs.base) if rows >= LEAST else None
    if merges is None:
        return Choice(None, 0.0, f"{rows:,} words" if rows < LEAST else "the base's tokenizer does not go by merges")
    tokens = BaseTokenizer(inputs.base)
    sure = alphabet(tokens, merges) | _spelled(tokens, _words(inputs)) | _earlier(inputs)
    measured = some_examples(inputs.data, MEASURED, f"pieces are measured:{seed}")
    apart = set(measured)
    rest = [e for i, e in enumerate(inputs.data) if i not in apart] or list(inputs.data)
    asked = [dataclasses.replace(e, start=1) for e in rest]
    likely = mean_probabilities(model, asked, some_examples(asked, POSITIONS, f"pieces:{seed}"), inputs.base.eos_ids[0])

    def chosen(examples: Iterable[Tokenised]) -> set[int]:
        kept = sure | {i for e in examples for i in e.ids}
        mass = likely.clone()
        mass[[i for i in kept if i < rows]] = 0
        return {i for i in kept | set(mass.topk(min(MOST, rows)).indices.tolist()) if i < rows}

    without = chosen(rest)
    odds = mean_probabilities(model, inputs.data, measured, inputs.base.eos_ids[0])
    left_out = 1 - float(odds[sorted(without)].sum() / odds.sum())
    kept = chosen(inputs.data)
    if len(kept) > (1 - WORTH) * rows:
        return Choice(None, left_out, f"{len(kept):,} of {rows:,} words are needed")
    if left_out > MOST_LEFT_OUT:
        return Choice(None, left_out, f"the pieces that could be left out have {left_out:.1%} of the probability")
    return Choice(Pieces.of(kept, len(merges.left)), left_out)


def _earlier(inputs: Inputs) -> set[int]:
    """What the adapter has that training went on from: what that was trained on is in these weights, too."""
    earlier = pieces_of(inputs.start) if inputs.start is not None else None
    return set() if earlier is None else set(earlier.kept)


def _words(inputs: Inputs) -> list[str]:
    """The words of the mix's lexicon, and English ones where that is one of the languages."""
    pair = parse_pair(inputs.mix["pair"])
    words: list[str] = []
    if hint_options(inputs.mix) is not None:
        lexicon = Lexicon.read(inputs.directory / LEXICON)
        words += dict.fromkeys(lexicon.written())
    if "en" in {language.tag.split("-")[0] for language in (pair.source, pair.target)}:
        words += ENGLISH.read_text(encoding="utf-8").split()
    return words


def _spelled(tokens: BaseTokenizer, words: Sequence[str]) -> set[int]:
    """The pieces of words within a sentence."""
    return {i for ids in tokens.encode_batch([f" {word}" for word in words]) for i in ids}
