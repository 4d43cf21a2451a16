"""Validation during training: the model in training translates the dev split greedily, and chrF2 decides which weights are kept and when training stops.

Reads the dev split of a corpus directory, or the half of it that chooses (`tell.corpus.dev_halves`). The best state is kept as a checkpoint,
`<adapter>.run/best/`. Prompts and the rules that end an output are those of serving (tell.model.translator, tell.model.stopping), so the scores rise and
fall with the quality that will be served.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from tell.console import say
from tell.corpus.dev_halves import CHOOSES, can_choose, choosing_part
from tell.corpus.directory import open_corpus
from tell.errors import CorpusError, RecipeError, RequestError
from tell.files import key_of
from tell.languages import parse_pair, same_pair
from tell.lexicon.hints import Hinter
from tell.machine import give_back
from tell.model.anchor import Anchor
from tell.model.base import Base
from tell.model.engine import Decoding, Engine, Generation, Prompt
from tell.model.stopping import StopTokens
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import Translator
from tell.records import Pair
from tell.retrieval.retriever import Retriever
from train.checkpoint import DamagedCheckpoint, read_checkpoint
from train.config import DevOptions, Recipe
from train.optimiser import MasterWeights
from train.output_layer import output_layer

# Tokens of prompts and outputs together in one batch: bounds the keys and values that are kept.
BATCH_TOKENS = 8192
# Tokens that serving gives a prompt and its translation at most.
CONTEXT = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class ValidationResult:
    """`best`: better than every validation before. `stop`: patience is used up. `signal`: the signal that interrupted this validation, which then does not
    count; 0 without one."""

    score: float
    best: bool
    stop: bool
    signal: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class DevSplit:
    """The segments to validate on, and the hash of their texts. `part` is the card's record of where they are from, and `before` what a version without
    halves takes: runs begun by one go on with it."""

    pairs: list[Pair]
    sha256: str
    part: dict[str, Any] | None = None
    before: DevSplit | None = None

    @property
    def noise(self) -> str | None:
        """What to say where there are too few segments for the best validation to mean anything."""
        if self.part is None or can_choose(self.part["of"]):
            return None
        found = f"the dev split has {self.part['of']:,} segments, fewer than {CHOOSES}"
        return f"{found}: which validation is the best is mostly noise, and so is the choice of weights"


def open_dev_split(corpus: Path | None, recipe: Recipe, pair: str) -> DevSplit | None:
    """The segments of `[dev]`; None where the recipe does not validate. Raises RecipeError when one is given without the other, and CorpusError."""
    options = recipe.dev
    if not options.every:
        if corpus is not None:
            raise RecipeError("a dev corpus is given, and the recipe does not validate", place="--dev", found="[dev] every = 0", valid="every = 1 or more")
        return None
    if corpus is None:
        raise RecipeError("the recipe validates on a dev split", place="[dev]", found=f"every = {options.every}, and no --dev", valid="--dev CORPUS_DIR")
    opened = open_corpus(corpus)
    if not same_pair(opened.pair, parse_pair(pair)):
        raise CorpusError("this corpus is of another pair than the mix", place=str(corpus), found=str(opened.pair), valid=pair)
    whole = [p for p in opened.pairs("dev") if p.source.strip()]
    if not whole:
        raise CorpusError("the corpus has no dev split", place=str(corpus), found="0 segments", valid="`tellmt corpus build` with --dev above 0")
    part = choosing_part(whole)
    before, chosen = (evenly_spaced(pairs, options.segments, recipe.seed) for pairs in (whole, part.pairs))
    return DevSplit(chosen, _sha256(chosen), part.record(), DevSplit(before, _sha256(before)))


def _sha256(pairs: Sequence[Pair]) -> str:
    return key_of([[p.source, p.target] for p in pairs])


def evenly_spaced(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """`count` pairs at equal distances, from a start that the seed decides; all pairs if there are no more."""
    if len(pairs) <= count:
        return list(pairs)
    start = random.Random(f"dev:{seed}").random()
    return [pairs[int((i + start) * len(pairs) / count)] for i in range(count)]


class _Interrupted(Exception):
    pass


class _GreedyEngine:
    """The model in training as an engine, as far as a Translator needs one: `generate` alone."""

    def __init__(self, tokens: BaseTokenizer, device: str):
        self.endings = StopTokens(tokens, tokens.vocabulary().items())
        self.device, self.pad = device, tokens.eos_ids[0]
        self.model: Any = None
        self.signals: Sequence[int] = ()

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i].ids), i))
        generations: dict[int, Generation] = {}
        while order:
            size = 1
            while size < len(order) and (size + 1) * (len(prompts[order[size]].ids) + max(prompts[i].max_tokens for i in order[: size + 1])) <= BATCH_TOKENS:
                size += 1
            batch, order = order[:size], order[size:]
            for i, ids in zip(batch, self._decode([prompts[i] for i in batch]), strict=True):
                generations[i] = self.endings.generation(ids, prompts[i])
        return [generations[i] for i in range(len(prompts))]

    def _decode(self, prompts: list[Prompt]) -> list[list[int]]:
        """The token ids that the model generates after each prompt, with the one that ended the output. Finished rows leave the batch."""
        import torch

        causal = self.model.get_base_model()
        decoder, layer = causal.get_decoder(), output_layer(causal)
        stops = [frozenset(self.endings.ids(p.one_line)) for p in prompts]
        longest = max(len(p.ids) for p in prompts)
        # Padding on the left, so that every row goes on at the same column.
        ids = torch.tensor([[self.pad] * (longest - len(p.ids)) + list(p.ids) for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p in prompts], device=self.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        generated: list[list[int]] = [[] for _ in prompts]
        rows, cache, finished = list(range(len(prompts))), None, set[int]()
        while True:
            if self.signals:
                raise _Interrupted
            output = decoder(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            logits = layer.logits(output.last_hidden_state[:, -1])
            for n, i in enumerate(rows):
                if prompts[i].repetition_penalty != 1.0 and generated[i]:
                    seen_tokens = torch.tensor(sorted(set(generated[i])), device=self.device)
                    seen_logits = logits[n, seen_tokens]
                    logits[n, seen_tokens] = torch.where(
                        seen_logits > 0, seen_logits / prompts[i].repetition_penalty, seen_logits * prompts[i].repetition_penalty
                    )
            next_tokens = logits.argmax(-1)
            unfinished = []
            for n, token in enumerate(next_tokens.tolist()):
                i = rows[n]
                if i in finished:
                    continue
                generated[i].append(token)
                if token not in stops[i] and len(generated[i]) < prompts[i].max_tokens:
                    unfinished.append(n)
                else:
                    finished.add(i)
            if not unfinished:
                return generated
            # Recurrent layers keep what they have read of every row, and give up none.
            if len(unfinished) < len(rows) and all(hasattr(layer, "batch_select_indices") for layer in cache.layers):
                kept = torch.tensor(unfinished, device=self.device)
                cache.batch_select_indices(kept)
                next_tokens, mask, positions, rows = next_tokens[kept], mask[kept], positions[kept], [rows[n] for n in unfinished]
            ids = next_tokens[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], -1)
            positions = positions[:, -1:] + 1


class Validator:
    """The validations of one run. `state` holds everything but the model, for a checkpoint."""

    # The name of the score in metrics.jsonl and on the card.
    figure = "chrf"

    def __init__(
        self,
        options: DevOptions,
        pairs: Sequence[Pair],
        anchor: Anchor,
        tokens: BaseTokenizer,
        decoding: Decoding,
        base: Base,
        device: str,
        hinter: Hinter | None = None,
        retriever: Retriever | None = None,
    ):
        from sacrebleu.metrics import CHRF

        self.options, self.device = options, device
        self._engine = _GreedyEngine(tokens, device)
        # Only `generate` is asked for.
        translator = Translator(cast(Engine, self._engine), tokens, anchor, decoding, None, min(CONTEXT, base.context), hinter, retriever)
        self._translator = translator
        self._pairs = list(pairs)
        self._too_long = sum(translator.refusal(p.source.strip()) is not None for p in pairs)
        self._metric = CHRF()
        # So that the signature can be had before anything is scored.
        self._metric.num_refs = 1
        self.history: list[tuple[int, float]] = []
        self.signature = ""

    def due(self, step: int, total: int) -> bool:
        """Whether to validate after `step` of `total` steps."""
        return step % self.options.every == 0 or step == total

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, chrF2) of the first validation with the highest chrF2."""
        return max(self.history, key=lambda x: x[1], default=None)

    @property
    def stopped(self) -> bool:
        """Whether the last validations, as many as patience allows, brought no new best."""
        return bool(self.options.patience and self.best and len(self.history) - 1 - self.history.index(self.best) >= self.options.patience)

    def validate(self, model: Any, step: int, signals: Sequence[int] = ()) -> ValidationResult:
        """Translate the segments with the model as it is after `step` steps. A signal that arrives in `signals` interrupts this."""
        self._engine.model, self._engine.signals = model, signals
        try:
            with evaluation_mode(model, self.device):
                hypotheses = asyncio.run(self._translator.translate_fitting([p.source for p in self._pairs]))
        except _Interrupted:
            return ValidationResult(0.0, False, False, signals[0])
        finally:
            self._engine.model = None
            give_back()
        # A source that does not fit into the context counts as not translated, as in scoring.
        lines = ["" if isinstance(h, RequestError) else " ".join(h.text.split("\n")) for h in hypotheses]
        score = self._metric.corpus_score(lines, [[p.target for p in self._pairs]])
        before = self.best
        self.history.append((step, round(float(score.score), 4)))
        self.signature = str(self._metric.get_signature())
        return ValidationResult(self.history[-1][1], before is None or self.history[-1][1] > before[1], self.stopped)

    def state(self) -> dict[str, Any]:
        """For a checkpoint and for the card."""
        best = self.best
        return {
            "history": [[step, chrf] for step, chrf in self.history],
            "best_step": best and best[0],
            f"best_{self.figure}": best and best[1],
            "signature": self.signature,
            "segments": len(self._pairs),
            "too_long": self._too_long,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.signature = str(self._metric.get_signature())
        if state["history"] and state["signature"] != self.signature:
            say(f"the validations so far were scored as {state['signature']}, here it is {self.signature}: they are not compared, the best is looked for anew")
            return
        self.history = [(int(step), float(chrf)) for step, chrf in state["history"]]
        self.signature = state["signature"]


def restore_best(place: Path, masters: MasterWeights, validator: Validator) -> dict[str, Any]:
    """Put the weights of the best validation, kept in `place`, into the model. Returns the card's record of all validations."""
    record = validator.state()
    try:
        step, tensors, progress = read_checkpoint(place)
    except DamagedCheckpoint as e:
        say(f"warning: the weights of the best validation are damaged ({e.found}); the adapter has those of the last step")
        return record | {"kept_step": None}
    masters.restore(tensors, step)
    return record | {k: progress["dev"][k] for k in ("best_step", f"best_{validator.figure}")} | {"kept_step": step}


@contextmanager
def evaluation_mode(model: Any, device: str) -> Iterator[None]:
    """No dropout, no gradients, no compilation for new shapes. Afterwards the model trains again, and random numbers go on as if nothing had been drawn."""
    import torch

    model.eval()
    try:
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.startswith("cuda") else []),
            torch.compiler.set_stance("force_eager"),
        ):
            yield
    finally:
        model.train()
