"""One optimiser step, on one process or many: the step's examples cut into micro-batches, forward and backward through each, one update.

When a micro-batch does not fit into memory, the limit for this and every later one is halved: the step restarts with more, smaller micro-batches,
so it trains on the same examples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from tell.errors import RecipeError, TellmtError
from tell.machine import give_back
from train.config import Recipe
from train.distributed import ProcessGroup
from train.inputs import Inputs
from train.likely_words import likely_words
from train.model import Batch, backward, checkpoint_activations, collate, compile_layers, load_model, lora_parameters, pick_dtype, shard_base, take_weights
from train.optimiser import MasterWeights
from train.output_check import check_loss, check_packing
from train.output_layer import SampledVocabulary, output_layer
from train.plan import PASS, Step, micro_batches, packed_batches

# What the processor's allocator says in a RuntimeError of no class of its own.
_CPU_MEMORY_ERRORS = ("can't allocate memory", "not enough memory", "bad_alloc", "bad allocation", "cannot allocate memory")
# Tokens in a micro-batch for `micro_tokens = "auto"`: the smallest that costs no speed. On two cores 192 tokens take 135 MB less than 427 and are as
# fast, 128 are a fifth slower (docs/results/train-speed.md); a GPU is slow with small matrix products.
MICRO, MICRO_CUDA = 192, 2048
# Micro-batches never go below this many tokens; a longer example is alone in its own.
SMALLEST = 16


def out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _CPU_MEMORY_ERRORS)


class Stepper:
    """The base with the adapter in training. `limit`: tokens, padding included, that a micro-batch may hold now."""

    def __init__(self, inputs: Inputs, recipe: Recipe, processes: ProcessGroup):
        options = recipe.train
        if processes.sharded and options.quantisation != "none":
            quantisation = options.quantisation
            raise RecipeError("a base in 4 bits cannot be spread over processes", place="[train] quantisation", found=quantisation, valid="none, or no FSDP")
        self.inputs, self.options, self.processes, self.seed = inputs, options, processes, recipe.seed
        self.dtype = pick_dtype(options, processes.cuda)
        self.model = load_model(inputs.base, recipe.lora, self.dtype, processes.device, recipe.seed, options.quantisation)
        if inputs.start is not None:
            take_weights(self.model, inputs.start)
        self._pad = inputs.base.eos_ids[0]
        check_loss(self.model, inputs.data, self._pad, inputs.base.id)
        if options.packing:
            check_packing(self.model, inputs.data, self._pad, inputs.base.id)
        if options.gradient_checkpointing:
            checkpoint_activations(self.model)
        self.masters = MasterWeights(lora_parameters(self.model), options)
        self._used = {token for example in inputs.data for token in example.ids[example.start :]}
        self.words = self._vocabulary(())
        automatic = MICRO_CUDA if processes.cuda else MICRO
        self.limit = automatic if options.micro_tokens == "auto" else options.micro_tokens
        self._prefetcher = ThreadPoolExecutor(1, "batches")
        self._prefetched: tuple[int, int, Future[list[tuple[Batch, bool]]]] | None = None

    def _vocabulary(self, likely: Iterable[int]) -> SampledVocabulary:
        return SampledVocabulary(output_layer(self.model.get_base_model()), self._used.union(likely), self.options.negatives, self.seed)

    def include_likely(self, words: list[int] | None = None) -> list[int]:
        """Let every step's softmax have the words that the bare base finds likely: `words`, or those that are found now, before weights are restored.

        Returns them; none where the softmax is over all words in any case."""
        if not self.words.all:
            if words is None:
                found = likely_words(self.model, self.inputs.data, self._used, self._pad, self.seed) if self.processes.first else None
                words = self.processes.broadcast(found)
            self.words = self._vocabulary(words or ())
        return words or []

    def prepare(self, compiled: bool) -> None:
        """Compile, and shard the base over the processes where that is asked for. Call this when the weights are restored."""
        if not self.processes.cuda:
            # What was computed over all words until now was large.
            give_back()
        if compiled:
            compile_layers(self.model)
        if self.processes.sharded:
            shard_base(self.model)

    cost_of_pass = PASS

    def micro_batches_of(self, step: Step, limit: int) -> list[list[int]]:
        """The step's micro-batches, for all processes together."""
        data = self.inputs.data
        if self.processes.count > 1:
            # Every process needs at least one.
            limit = min(limit, max(SMALLEST, -(-step.tokens // self.processes.count)))
        return packed_batches(step.members, data, limit) if self.options.packing else micro_batches(step.members, data, limit)

    def cost(self, micro: list[int]) -> int:
        """What a micro-batch costs, in tokens."""
        lengths = [len(self.inputs.data[i].ids) for i in micro]
        return PASS + (sum(lengths) if self.options.packing else len(lengths) * max(lengths))

    def _make_batches(self, step: Step, limit: int) -> list[tuple[Batch, bool]]:
        """This process's micro-batches, and whether each counts: where the base is sharded, all processes must make the same number of passes."""
        micro_batches_of = self.micro_batches_of(step, limit)
        costs = [self.cost(m) for m in micro_batches_of]
        assigned = [(i, True) for i in self.processes.assigned(costs)]
        if self.processes.sharded:
            passes = max(len(self.processes.assigned(costs, of)) for of in range(self.processes.count))
            least = costs.index(min(costs))
            assigned += [(least, False)] * (passes - len(assigned))
        return [(self.batch(micro_batches_of[i]), counts) for i, counts in assigned]

    def batch(self, micro: list[int]) -> Batch:
        return collate([self.inputs.data[i] for i in micro], self._pad, self.options.packing, pin=self.processes.cuda)

    def prefetch(self, number: int, step: Step) -> None:
        """Make the batches of step `number` in a thread while the step before it is computed."""
        self._prefetched = (number, self.limit, self._prefetcher.submit(self._make_batches, step, self.limit))

    def _batches(self, number: int, step: Step) -> list[tuple[Batch, bool]]:
        if self._prefetched and self._prefetched[:2] == (number, self.limit):
            return self._prefetched[2].result()
        return self._make_batches(step, self.limit)

    def step(self, number: int, step: Step, rate: float, following: Step | None = None, signals: list[int] | None = None) -> tuple[float, float, list[int]]:
        """Step `number` (from 0) at this learning rate: (mean loss, gradient norm before clipping, the signals that any process got by then).

        A loss or norm that is no finite number is returned and changes nothing. Raises TellmtError when not even one example fits into memory.
        """
        import torch

        # Per step, so that dropout after a resume is what it would have been; each process has its own.
        torch.manual_seed(self.seed * 1_000_003 + number + self.processes.index * 1_000_000_007)
        self.words.draw(number)
        while True:
            batches = self._batches(number, step)
            if following is not None:
                self.prefetch(number + 1, following)
            total = torch.zeros((), dtype=torch.float64, device=self.processes.device)
            failed = 0
            try:
                for batch, counts in batches:
                    loss = backward(self.model, batch.to(self.processes.device), 1 / step.targets if counts else 0.0, self.words)
                    total += loss if counts else 0
                    self.masters.add_gradients()
            except (RuntimeError, MemoryError) as e:
                # Where the base is sharded, the other processes wait within the pass that failed here, and cannot be told.
                if not out_of_memory(e) or self.processes.sharded:
                    raise
                failed = 1
            received = signals or []
            sums = torch.stack([total, *(total.new_tensor(float(n)) for n in (failed, received[:1] == [2], received[:1] == [15]))])
            loss_sum, failures, interrupted, terminated = self.processes.all_reduce(sums).tolist()
            if not failures:
                break
            self._halve(step)
        self.processes.all_reduce_many([m.grad for m in self.masters.masters.values()])
        mean = loss_sum / step.targets
        norm = self.masters.step(rate, self.options.max_grad_norm) if math.isfinite(mean) else self.masters.clear_gradients()
        if not self.processes.cuda:
            give_back()
        return mean, norm, [15] if terminated else [2] if interrupted else []

    def _halve(self, step: Step) -> None:
        import torch

        self.masters.clear_gradients()
        if self.processes.cuda:
            torch.cuda.empty_cache()
        longest = max(len(self.inputs.data[i].ids) for i in step.members)
        largest = max(self.cost(m) - PASS for m in self.micro_batches_of(step, self.limit))
        if largest <= longest:
            raise TellmtError(
                "not enough memory for one example",
                place="training",
                found=f"{longest:,} tokens in it",
                valid="gradient_checkpointing = true or quantisation in [train], a smaller max_tokens in [mix], or a smaller base",
            )
        self.limit = max(SMALLEST, min(self.limit, largest) // 2)
        self.processes.say(
            f"out of memory: micro-batches of at most {self.limit:,} tokens from here on, and more of them; a step stays {self.options.batch_tokens:,} tokens"
        )

    def close(self) -> None:
        self._prefetcher.shutdown(wait=True, cancel_futures=True)
