"""Looks at the dev split while training: its segments translated greedily by the model in training, chrF2, and whether that is enough.

Reads the dev split of a corpus directory. The best look's state is kept as a checkpoint, `<adapter>.run/best/`. Prompts, where outputs end
and what is taken off them are those of serving (tell.model.translator, tell.model.stopping), so the figures rise and fall with what will be served.
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
from tell.corpus.directory import read_corpus
from tell.errors import CorpusError, RecipeError, RequestError
from tell.files import key_of
from tell.model.anchor import Anchor
from tell.model.base import Base
from tell.model.engine import Decoding, Engine, Generation, Prompt
from tell.model.stopping import StopTokens
from tell.model.tokenizer import Tokens
from tell.model.translator import Translator
from tell.records import Pair, read_pairs
from train.checkpoint import Damaged, read_checkpoint
from train.config import DevOptions, Recipe
from train.optimiser import Masters

# Tokens of prompts and outputs together in one batch: bounds the keys and values that are kept.
BATCH_TOKENS = 8192
# What serving gives a prompt and its translation at most.
CONTEXT = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """`best`: better than every look before. `stop`: patience is used up. `signal`: not 0 when a signal broke the look off, which then counts for nothing."""

    chrf: float
    best: bool
    stop: bool
    signal: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class DevSplit:
    """The segments that are looked at, and the hash of their texts."""

    pairs: list[Pair]
    sha256: str


def open_split(corpus: Path | None, recipe: Recipe, pair: str) -> DevSplit | None:
    """The segments of `[dev]`, None where the recipe takes no looks. Raises RecipeError when one is given without the other, CorpusError."""
    options = recipe.dev
    if not options.every:
        if corpus is not None:
            raise RecipeError("a dev corpus is given, and the recipe takes no looks at it", place="--dev", found="[dev] every = 0", valid="every = 1 or more")
        return None
    if corpus is None:
        raise RecipeError("the recipe looks at a dev split", place="[dev]", found=f"every = {options.every}, and no --dev", valid="--dev CORPUS_DIR")
    if (found := read_corpus(corpus)["pair"]) != pair:
        raise CorpusError("this corpus is of another pair than the mix", place=str(corpus), found=found, valid=pair)
    pairs = [p for p in read_pairs(corpus / "pairs.jsonl", "dev") if p.source.strip()]
    if not pairs:
        raise CorpusError("the corpus has no dev split to look at", place=str(corpus), found="0 segments", valid="`tellmt corpus build` with --dev above 0")
    chosen = spread(pairs, options.segments, recipe.seed)
    return DevSplit(chosen, key_of([[p.source, p.target] for p in chosen]))


def spread(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """`count` of them at equal distances, from a start that the seed decides; all where there are no more."""
    if len(pairs) <= count:
        return list(pairs)
    start = random.Random(f"dev:{seed}").random()
    return [pairs[int((i + start) * len(pairs) / count)] for i in range(count)]


class _BrokenOff(Exception):
    pass


class _Greedy:
    """The one method of an engine that translating takes, on the model in training."""

    def __init__(self, tokens: Tokens, device: str):
        self.endings = StopTokens(tokens, tokens.vocabulary().items())
        self.device, self.pad = device, tokens.eos_ids[0]
        self.model: Any = None
        self.signals: Sequence[int] = ()

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i].ids), i))
        out: dict[int, Generation] = {}
        while order:
            size = 1
            while size < len(order) and (size + 1) * (len(prompts[order[size]].ids) + max(prompts[i].max_tokens for i in order[: size + 1])) <= BATCH_TOKENS:
                size += 1
            batch, order = order[:size], order[size:]
            for i, ids in zip(batch, self._continued([prompts[i] for i in batch]), strict=True):
                out[i] = self.endings.generation(ids, prompts[i])
        return [out[i] for i in range(len(prompts))]

    def _continued(self, prompts: list[Prompt]) -> list[list[int]]:
        """What the model says after each prompt, the token that ended it included. Rows that have ended leave the batch."""
        import torch

        causal = self.model.get_base_model()
        decoder, head = causal.get_decoder(), causal.get_output_embeddings()
        softcap = getattr(causal.config, "final_logit_softcapping", None)
        stops = [frozenset(self.endings.ids(p.one_line)) for p in prompts]
        longest = max(len(p.ids) for p in prompts)
        # Padding on the left, so that every row goes on at the same column.
        ids = torch.tensor([[self.pad] * (longest - len(p.ids)) + list(p.ids) for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p in prompts], device=self.device)
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        made: list[list[int]] = [[] for _ in prompts]
        rows, cache = list(range(len(prompts))), None
        while True:
            if self.signals:
                raise _BrokenOff
            out = decoder(input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            logits = head(out.last_hidden_state[:, -1]).float()
            if softcap:
                logits = torch.tanh(logits / softcap) * softcap
            for n, i in enumerate(rows):
                if prompts[i].repetition_penalty != 1.0 and made[i]:
                    again = torch.tensor(sorted(set(made[i])), device=self.device)
                    found = logits[n, again]
                    logits[n, again] = torch.where(found > 0, found / prompts[i].repetition_penalty, found * prompts[i].repetition_penalty)
            chosen = logits.argmax(-1)
            going = []
            for n, token in enumerate(chosen.tolist()):
                i = rows[n]
                made[i].append(token)
                if token not in stops[i] and len(made[i]) < prompts[i].max_tokens:
                    going.append(n)
            if not going:
                return made
            if len(going) < len(rows):
                kept = torch.tensor(going, device=self.device)
                cache.batch_select_indices(kept)
                chosen, mask, places, rows = chosen[kept], mask[kept], places[kept], [rows[n] for n in going]
            ids = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], -1)
            places = places[:, -1:] + 1


class DevWatch:
    """The looks of one run. All of it but the model is in `state`, which a checkpoint carries."""

    def __init__(self, options: DevOptions, pairs: Sequence[Pair], anchor: Anchor, tokens: Tokens, decoding: Decoding, base: Base, device: str):
        from sacrebleu.metrics import CHRF

        self.options, self.device = options, device
        self._greedy = _Greedy(tokens, device)
        # Only `generate` is asked for.
        translator = Translator(cast(Engine, self._greedy), tokens, anchor, decoding, None, min(CONTEXT, base.context))
        self._translator = translator
        self._fits = [_fits(translator, p.source) for p in pairs]
        self._pairs = list(pairs)
        self._metric = CHRF()
        self.history: list[tuple[int, float]] = []
        self.signature = ""

    def due(self, step: int, total: int) -> bool:
        """Whether to look after `step` of `total` steps."""
        return step % self.options.every == 0 or step == total

    @property
    def best(self) -> tuple[int, float] | None:
        """The first of the looks with the highest chrF2."""
        return max(self.history, key=lambda x: x[1], default=None)

    @property
    def stopped(self) -> bool:
        """Whether as many looks as patience allows have gone by without a new best."""
        return bool(self.options.patience and self.best and len(self.history) - 1 - self.history.index(self.best) >= self.options.patience)

    def look(self, model: Any, step: int, signals: Sequence[int] = ()) -> Look:
        """Translate the segments with the model as it stands after `step` steps. A signal that comes in `signals` meanwhile breaks it off."""
        self._greedy.model, self._greedy.signals = model, signals
        sources = [p.source for p, fits in zip(self._pairs, self._fits, strict=True) if fits]
        try:
            with _at_rest(model, self.device):
                made = iter(asyncio.run(self._translator.translate(sources)))
        except _BrokenOff:
            return Look(0.0, False, False, signals[0])
        finally:
            self._greedy.model = None
        # What does not fit into the context is scored as not translated, as in scoring.
        lines = [" ".join(next(made).text.split("\n")) if fits else "" for fits in self._fits]
        score = self._metric.corpus_score(lines, [[p.target for p in self._pairs]])
        before = self.best
        self.history.append((step, round(float(score.score), 4)))
        self.signature = str(self._metric.get_signature())
        return Look(self.history[-1][1], before is None or self.history[-1][1] > before[1], self.stopped)

    def state(self) -> dict[str, Any]:
        """For a checkpoint and for the card."""
        best = self.best
        return {
            "history": [[step, chrf] for step, chrf in self.history],
            "best_step": best and best[0],
            "best_chrf": best and best[1],
            "signature": self.signature,
            "segments": len(self._pairs),
            "too_long": self._fits.count(False),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.history = [(int(step), float(chrf)) for step, chrf in state["history"]]
        self.signature = state["signature"]


def watch_dev(split: DevSplit | None, recipe: Recipe, mix: dict[str, Any], base: Base, device: str) -> DevWatch | None:
    """The looks of a run with this mix; None without a split."""
    if split is None:
        return None
    anchor = Anchor.model_validate(mix["anchor"])
    return DevWatch(recipe.dev, split.pairs, anchor, Tokens(base, anchor.chat), recipe.decoding, base, device)


def keep_best(place: Path, masters: Masters, dev: DevWatch) -> dict[str, Any]:
    """Put the weights of the best look, kept in `place`, into the model. Returns what the card is to say of the looks."""
    found = dev.state()
    try:
        step, tensors, progress = read_checkpoint(place)
    except Damaged as e:
        say(f"warning: the weights of the best look are damaged ({e.found}); the adapter is what the last step left")
        return found | {"kept_step": None}
    masters.restore(tensors, step)
    return found | {k: progress["dev"][k] for k in ("best_step", "best_chrf")} | {"kept_step": step}


def _fits(translator: Translator, source: str) -> bool:
    try:
        translator.prompt(source.strip())
    except RequestError:
        return False
    return True


@contextmanager
def _at_rest(model: Any, device: str) -> Iterator[None]:
    """No dropout, no gradients, nothing compiled anew for other shapes; afterwards all is as it was, the random numbers included."""
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
