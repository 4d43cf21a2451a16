"""One optimiser step, on one process or many: the step's examples cut into micro-batches, forward and backward through each, one update.

A micro-batch that does not fit into memory is cut in half, and every later one with it: the step is begun anew with more, smaller ones, so
what it trains on stays the same.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor

from tell.errors import RecipeError, TellmtError
from tell.machine import give_back
from train.config import Recipe
from train.distributed import Ranks
from train.inputs import Inputs
from train.model import Batch, backward, checkpoint_activations, collate, compile_layers, load_model, lora_parameters, pick_dtype, spread
from train.optimiser import Masters
from train.output_layer import Words
from train.plan import PASS, Step, micro_batches, packed_batches

# What the processor's allocator says in a RuntimeError of no class of its own.
_CPU_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "bad allocation", "cannot allocate memory")
# Where the recipe leaves it open: as small as costs no speed. On two cores 192 tokens take 135 MB less than 427 and are as fast, 128 are a fifth slower
# (docs/results/train-speed.md); a GPU is slow with small products.
MICRO, MICRO_CUDA = 192, 2048
# Micro-batches never go below this many tokens; a longer example is alone in its own.
SMALLEST = 16


def out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _CPU_MEMORY)


class Stepper:
    """The base with its adapter in training. `limit` is the most tokens, padding included, that a micro-batch may hold now."""

    def __init__(self, inputs: Inputs, recipe: Recipe, ranks: Ranks):
        options = recipe.train
        if ranks.shared and options.quantisation != "none":
            found = options.quantisation
            raise RecipeError("a base in 4 bits cannot be spread over processes", place="[train] quantisation", found=found, valid="none, or no FSDP")
        self.inputs, self.options, self.ranks, self.seed = inputs, options, ranks, recipe.seed
        self.dtype = pick_dtype(options, ranks.cuda)
        self.model = load_model(inputs.base, recipe.lora, self.dtype, ranks.device, recipe.seed, options.quantisation)
        if options.gradient_checkpointing:
            checkpoint_activations(self.model)
        self.masters = Masters(lora_parameters(self.model), options)
        used = {token for example in inputs.data for token in example.ids[example.start :]}
        self.words = Words(self.model.get_base_model().get_output_embeddings().weight, used, options.negatives, recipe.seed)
        automatic = MICRO_CUDA if ranks.cuda else MICRO
        self.limit = automatic if options.micro_tokens == "auto" else options.micro_tokens
        self._pad = inputs.base.eos_ids[0]
        self._ahead = ThreadPoolExecutor(1, "batches")
        self._next: tuple[int, int, Future[list[tuple[Batch, bool]]]] | None = None

    def ready(self, compiled: bool) -> None:
        """After the weights are what they are to be: compile, and spread the base over the processes where that is asked for."""
        if compiled:
            compile_layers(self.model)
        if self.ranks.shared:
            spread(self.model)

    cost_of_pass = PASS

    def cut(self, step: Step, limit: int) -> list[list[int]]:
        """The step's micro-batches, of all processes together."""
        data = self.inputs.data
        if self.ranks.count > 1:
            # So that there is something for everybody.
            limit = min(limit, max(SMALLEST, -(-step.tokens // self.ranks.count)))
        return packed_batches(step.members, data, limit) if self.options.packing else micro_batches(step.members, data, limit)

    def cost(self, micro: list[int]) -> int:
        """What a micro-batch costs, in tokens."""
        lengths = [len(self.inputs.data[i].ids) for i in micro]
        return PASS + (sum(lengths) if self.options.packing else len(lengths) * max(lengths))

    def _prepare(self, step: Step, limit: int) -> list[tuple[Batch, bool]]:
        """This process's micro-batches, and whether each counts: where the base is spread, all must make the same number of passes."""
        cut = self.cut(step, limit)
        costs = [self.cost(m) for m in cut]
        chosen = [(i, True) for i in self.ranks.share(costs)]
        if self.ranks.shared:
            passes = max(len(self.ranks.share(costs, of)) for of in range(self.ranks.count))
            least = costs.index(min(costs))
            chosen += [(least, False)] * (passes - len(chosen))
        return [(self.batch(cut[i]), counts) for i, counts in chosen]

    def batch(self, micro: list[int]) -> Batch:
        return collate([self.inputs.data[i] for i in micro], self._pad, self.options.packing, pin=self.ranks.cuda)

    def look_ahead(self, number: int, step: Step) -> None:
        """Make the batches of step `number` while the one before it is computed."""
        self._next = (number, self.limit, self._ahead.submit(self._prepare, step, self.limit))

    def _batches(self, number: int, step: Step) -> list[tuple[Batch, bool]]:
        if self._next and self._next[:2] == (number, self.limit):
            return self._next[2].result()
        return self._prepare(step, self.limit)

    def step(self, number: int, step: Step, rate: float, following: Step | None = None, signals: list[int] | None = None) -> tuple[float, float, list[int]]:
        """Step `number` (from 0) at this learning rate: (mean loss, gradient norm before clipping, the signals that any process got by then).

        A loss or norm that is no finite number is returned and changes nothing. Raises TellmtError when not even one example fits into memory.
        """
        import torch

        # Per step, so that dropout after a resume is what it would have been; each process has its own.
        torch.manual_seed(self.seed * 1_000_003 + number + self.ranks.index * 1_000_000_007)
        self.words.draw(number)
        while True:
            batches = self._batches(number, step)
            if following is not None:
                self.look_ahead(number + 1, following)
            total = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
            failed = 0
            try:
                for batch, counts in batches:
                    loss = backward(self.model, batch.to(self.ranks.device), 1 / step.targets if counts else 0.0, self.words)
                    total += loss if counts else 0
                    self.masters.collect()
            except (RuntimeError, MemoryError) as e:
                # Where the base is spread the others wait within the pass that failed here, and cannot be told.
                if not out_of_memory(e) or self.ranks.shared:
                    raise
                failed = 1
            seen = signals or []
            facts = torch.stack([total, *(total.new_tensor(float(n)) for n in (failed, seen[:1] == [2], seen[:1] == [15]))])
            loss_sum, failures, interrupted, terminated = self.ranks.add(facts).tolist()
            if not failures:
                break
            self._halve(step)
        self.ranks.add_all([m.grad for m in self.masters.masters.values()])
        mean = loss_sum / step.targets
        norm = self.masters.step(rate, self.options.max_grad_norm) if math.isfinite(mean) else self.masters.drop()
        if not self.ranks.cuda:
            give_back()
        return mean, norm, [15] if terminated else [2] if interrupted else []

    def _halve(self, step: Step) -> None:
        import torch

        self.masters.drop()
        if self.ranks.cuda:
            torch.cuda.empty_cache()
        longest = max(len(self.inputs.data[i].ids) for i in step.members)
        largest = max(self.cost(m) - PASS for m in self.cut(step, self.limit))
        if largest <= longest:
            raise TellmtError(
                "not enough memory for one example",
                place="training",
                found=f"{longest:,} tokens in it",
                valid="gradient_checkpointing = true or quantisation in [train], a smaller max_tokens in [mix], or a smaller base",
            )
        self.limit = max(SMALLEST, min(self.limit, largest) // 2)
        self.ranks.say(
            f"out of memory: micro-batches of at most {self.limit:,} tokens from here on, and more of them; a step stays {self.options.batch_tokens:,} tokens"
        )

    def close(self) -> None:
        self._ahead.shutdown(wait=True, cancel_futures=True)
