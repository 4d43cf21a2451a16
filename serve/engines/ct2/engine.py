"""The CPU driver: ctranslate2, int8, one model per adapter with the LoRA merged into it.

Reads models that `serve.engines.ct2.convert` writes into the cache. Concurrent callers share batches; one batch runs at a time, on all cores.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serve.engines import checkpoint
from serve.engines.ct2.batching import GenerateCall, PromptQueue, QueuedPrompt, StopFlag
from serve.engines.ct2.convert import FOLDER, MODEL_FORMAT, Conversion, convert_model
from serve.engines.ct2.corrections import corrections_of
from serve.engines.ct2.model_cache import ModelLock, limit_bytes, lock_model, prune
from serve.engines.ct2.trial import prompt_limit, trial
from serve.engines.ct2.vocabulary import Vocabulary
from serve.engines.in_flight import CallsInFlight
from tell.adapter.card import Adapter
from tell.errors import AdapterError, EngineError, RequestError, TellmtError
from tell.extras import need
from tell.machine import cores, give_back
from tell.model.base import Base
from tell.model.engine import EngineOptions, EngineTraits, Generation, Prompt
from tell.model.stopping import StopTokens
from tell.model.tokenizer import BaseTokenizer

# The engine waits for callers that it has just answered: for this share of the last batch's time, at most LONGEST seconds, and not beyond QUIET seconds in
# which nothing came.
SHARE, LONGEST, QUIET = 0.02, 0.1, 0.01
# After a pause the engine waits for prompts that come less than PAUSE seconds apart, BURST seconds in all.
PAUSE, BURST = 0.001, 0.005
# A batch younger than this many seconds is run again when MANY times as many prompts wait: the first tokens of a single prompt take about as long.
YOUNG, MANY = 0.15, 3
# Seconds that the bare base stays loaded after it was asked last; it comes back from the cache in one or two.
BASE_IDLE = 60.0
# Seconds without a prompt after which freed memory goes back to the system.
WORK_IDLE = 10.0


class Ct2Engine:
    name = "ct2"
    traits = EngineTraits(
        libraries=("ctranslate2",), model_format=MODEL_FORMAT, model_folder=FOLDER, whole_batches=True, starts_quickly=True, own_vocabulary=True
    )

    @staticmethod
    def refusal(base: Base) -> str | None:
        """Why this base cannot be served; None where it can. Tried on a cut-down copy, in seconds."""
        for module in ("ctranslate2", "torch", "transformers"):
            need(module, "cpu")
        return checkpoint.layers_refusal(base) or trial(base).reason

    @staticmethod
    def variant(base: Base) -> str:
        """What is written otherwise for this base since there are corrections, for the keys of what was translated before; empty for most."""
        return ", ".join(f"with the {name}" for name in corrections_of(base))

    def __init__(self, options: EngineOptions):
        self.base = options.base
        self._options = options
        self.threads = options.threads or cores()
        self._waiting = PromptQueue(options.max_batch)
        # ctranslate2 generators by adapter id; None is the bare base.
        self._models: dict[str | None, Any] = {}
        # Locks that keep their directories in the cache.
        self._locks: dict[str | None, ModelLock] = {}
        self._calls = CallsInFlight()
        # What unloads the bare base when no call has used it for BASE_IDLE seconds.
        self._base_timer: asyncio.TimerHandle | None = None
        # Conversions take more memory than the base in float32 each, so one at a time.
        self._converting = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._arrived = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._running: list[QueuedPrompt] = []
        # Whether the running batch is to be broken off and run again with what came since, and when it first began.
        self._rerun, self._batch_began = StopFlag(), 0.0
        # By adapter as the models are. ctranslate2 takes tokens by name; models of the whole vocabulary share its names.
        self._vocabularies: dict[str | None, Vocabulary] = {}
        self._names: list[str] = []
        self._closed = False
        # Tokens of the longest prompt that ctranslate2 computes as the base does (serve.engines.ct2.trial).
        self.max_prompt = min(options.max_context, options.base.context)

    async def start(self) -> None:
        """Check what is needed. Raises MissingExtra, or EngineError when the base's checkpoint is broken."""
        need("ctranslate2", "cpu")
        for module in ("safetensors", "tokenizers"):
            need(module, "cpu")

        def read() -> tuple[dict[str, list[int]], BaseTokenizer, StopTokens]:
            shapes = checkpoint.check_checkpoint(self.base)
            try:
                tokens = BaseTokenizer(self.base)
            except TellmtError as e:
                raise EngineError(e.thing, place=e.place, found=e.found) from None
            stop_tokens = StopTokens(tokens, tokens.vocabulary().items())
            # Of the vocabulary's names, which take as much as the tokenizer.
            give_back()
            return shapes, tokens, stop_tokens

        self._limit = limit_bytes()
        self._shapes, self._tokens, self._stop_tokens = await asyncio.to_thread(read)
        self.max_prompt = min(self.max_prompt, await asyncio.to_thread(prompt_limit, self.base))
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ct2")
        self._runner = asyncio.create_task(self._run(), name="ct2 batches")

    async def load(self, adapter_id: str, path: Path) -> None:
        """Merge, convert and open an adapter; at once when the cache has it. Raises AdapterError."""
        self._check_running()
        if adapter_id in self._models:
            return
        if len(self.loaded()) >= self._options.max_adapters:
            raise AdapterError("too many adapters are loaded", found=str(len(self.loaded())), valid=f"at most {self._options.max_adapters}")
        adapter = await asyncio.to_thread(checkpoint.open_fitting, self.base, self._shapes, adapter_id, path, self._options.max_rank)
        await self._run_until_closed(self._open(adapter))

    async def _run_until_closed(self, work: Any) -> None:
        """Run `work` as a task that `close` can end."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if self._closed:
                raise EngineError("the engine was closed") from None
            raise
        finally:
            self._tasks.discard(task)

    async def _open(self, adapter: Adapter | None) -> None:
        key = adapter.id if adapter else None
        async with self._converting:
            if key in self._models:
                return
            path = await convert_model(Conversion(self.base, adapter, self.threads))
            while (lock := lock_model(path)) is None:
                # Another process has just evicted it from the cache.
                await asyncio.sleep(0.05)
                path = await convert_model(Conversion(self.base, adapter, self.threads))
            try:
                model = await asyncio.to_thread(self._generator, path)
                vocabulary = await asyncio.to_thread(self._vocabulary, path)
            except (RuntimeError, ValueError, OSError, MemoryError) as e:
                lock.release()
                error_type = AdapterError if adapter else EngineError
                raise error_type("the converted model cannot be opened; delete it and try again", place=str(path), found=str(e)) from None
            except BaseException:
                lock.release()
                raise
            self._models[key], self._locks[key], self._vocabularies[key] = model, lock, vocabulary
            await asyncio.to_thread(prune, path.parent, self._limit)
            # What reading the file took beside the model.
            await asyncio.to_thread(give_back)

    def _generator(self, path: Path, threads: int = 0) -> Any:
        import ctranslate2

        return ctranslate2.Generator(str(path), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads or self.threads)

    def _vocabulary(self, path: Path) -> Vocabulary:
        vocabulary = Vocabulary.read(path, self._names or None)
        if vocabulary.whole:
            self._names = vocabulary.whole
        return vocabulary

    async def unload(self, adapter_id: str) -> None:
        """Unload an adapter when the calls that use it have ended. New calls for it are refused at once."""
        await self._unload(adapter_id)

    def _unload_base_later(self) -> None:
        """Unload the bare base when nothing has asked it for a while. It is compared with at each load, and then seldom asked; it is as large as an adapter."""
        if not self._closed:
            self._base_timer = asyncio.get_running_loop().call_later(BASE_IDLE, self._unload_base)

    def _unload_base(self) -> None:
        task = asyncio.ensure_future(self._unload(None))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _unload(self, adapter_id: str | None) -> None:
        model = self._models.pop(adapter_id, None)
        if model is None:
            return
        lock = self._locks.pop(adapter_id)
        del self._vocabularies[adapter_id]
        await self._calls.drained(adapter_id)
        if self._executor and not self._closed:
            # In the thread that runs batches: a batch whose callers have gone may still be at its last step with this model.
            await asyncio.get_running_loop().run_in_executor(self._executor, model.unload_model)
            # 24 models of 275 MB, two loaded at a time: 0.8 GB with this, 1.2 to 1.4 GB and growing without.
            await asyncio.to_thread(give_back)
        lock.release()

    def loaded(self) -> list[str]:
        return sorted(a for a in self._models if a is not None)

    async def healthy(self) -> bool:
        return self._runner is not None and not self._runner.done() and not self._closed

    def _check_running(self) -> None:
        if self._closed or self._runner is None or self._runner.done():
            raise EngineError("the engine is not running")

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        """Raises AdapterError when the adapter is not loaded, RequestError when a prompt does not fit the context."""
        self._check_running()
        if not prompts:
            return []
        context = min(self._options.max_context, self.base.context)
        if too_long := [p for p in prompts if len(p.ids) + p.max_tokens > context]:
            raise RequestError(
                "prompt and output do not fit the context", found=f"{len(too_long[0].ids)} + {too_long[0].max_tokens} tokens", valid=f"at most {context}"
            )
        if longer := [p for p in prompts if len(p.ids) > self.max_prompt]:
            found, valid = f"{len(longer[0].ids)} tokens", f"at most {self.max_prompt}: ctranslate2 computes longer prompts of this base wrongly"
            raise RequestError("the prompt is too long", found=found, valid=valid)
        if adapter_id is None and self._base_timer:
            self._base_timer.cancel()
        try:
            with self._calls.using(adapter_id):
                return await self._generate(prompts, adapter_id)
        finally:
            if adapter_id is None and not self._calls.in_use(None):
                self._unload_base_later()

    async def _generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        if adapter_id is None and None not in self._models:
            await self._run_until_closed(self._open(None))
        model = self._models.get(adapter_id)
        if model is None:
            raise AdapterError("the adapter is not loaded", found=str(adapter_id), valid=", ".join(self.loaded()) or "none is")
        # The call holds its model: `unload` affects new calls only.
        call = GenerateCall(adapter_id, model, self._vocabularies[adapter_id], [None] * len(prompts), asyncio.get_running_loop().create_future())
        self._waiting.add(call, list(prompts))
        self._arrived.set()
        self._rerun_if_young()
        try:
            return await call.future
        finally:
            call.stop.is_set = True
            self._waiting.remove(call)

    async def _run(self) -> None:
        try:
            await self._batches()
        finally:
            self._fail_calls("the engine has ended")

    def _fail_calls(self, why: str) -> None:
        """Fail every call that waits or runs: no answer would ever come."""
        for call in {*self._waiting.clear(), *(i.call for i in self._running)}:
            call.fail(EngineError(why))

    async def _batches(self) -> None:
        loop = asyncio.get_running_loop()
        last_size, last_seconds = 0, 0.0
        while True:
            await self._wait_for_prompts(last_size, last_seconds)
            batch = self._waiting.take()
            if not batch:
                last_size = 0
                continue
            began = loop.time()
            if not self._rerun.is_set:
                self._batch_began = began
            self._running, self._rerun = batch, StopFlag()
            try:
                outputs = await loop.run_in_executor(self._executor, self._run_batch, batch)
            except Exception as e:  # ctranslate2 raises RuntimeError, MemoryError or ValueError; the calls fail, the engine goes on
                for item in batch:
                    self._waiting.remove(item.call)
                    item.call.fail(EngineError("ctranslate2 failed on a batch", found=f"{type(e).__name__}: {e}"))
            else:
                if self._rerun.is_set:
                    self._waiting.put_back(batch)
                for item, ids in zip(batch, outputs, strict=True):
                    if not item.call.gone and not self._rerun.is_set:
                        item.call.done(item.index, self._stop_tokens.generation(ids, item.prompt))
            last_size, last_seconds = (0, 0.0) if self._rerun.is_set else (len(batch), loop.time() - began)
            self._running = []

    async def _wait_for_prompts(self, last_size: int, last_seconds: float) -> None:
        """Return when there is something to run and nothing worth waiting for.

        A batch cannot be joined, so one that begins a moment too early costs its prompts' neighbours a whole batch's time. Worth waiting for are the callers
        of the `last_size` prompts just answered, who often ask again at once: for a small part of `last_seconds`. After a pause, prompts that arrive together
        are too.
        """
        loop = asyncio.get_running_loop()
        idle = not last_size or not len(self._waiting)
        expected = len(self._waiting) + last_size
        end = loop.time() + min(last_seconds * SHARE, LONGEST)
        while len(self._waiting) < min(expected, self._options.max_batch) and (remaining := end - loop.time()) > 0:
            idle = False
            if not await self._wait_for_call(min(remaining, QUIET)):
                break
        if not len(self._waiting):
            if last_size and not await self._wait_for_call(WORK_IDLE):
                # Large batches leave some hundreds of megabytes of working memory, which the C library would keep.
                await loop.run_in_executor(self._executor, give_back)
            if not len(self._waiting):
                await self._wait_for_call(None)
            idle = True
        if idle and len(self._waiting) < self._options.max_batch:
            end = loop.time() + BURST
            while loop.time() < end and await self._wait_for_call(PAUSE):
                pass

    async def _wait_for_call(self, seconds: float | None) -> bool:
        """Whether a call arrived within so many seconds."""
        self._arrived.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    def _rerun_if_young(self) -> None:
        """Break off a batch that has only begun when far more prompts have come since: all of them are done sooner together, at the cost of a moment."""
        young = asyncio.get_running_loop().time() - self._batch_began < YOUNG
        if self._running and young and self._waiting.count(self._running[0].call.adapter_id) >= MANY * len(self._running):
            self._rerun.is_set = True

    def _run_batch(self, batch: list[QueuedPrompt]) -> list[list[int]]:
        """The ids that the model produced for each prompt, with the one that ended it. Runs in the engine's thread."""
        tokens_left = [item.prompt.max_tokens for item in batch]

        rerun, stop_flags = self._rerun, [item.call.stop for item in batch]

        def stop(step: Any) -> bool:
            n: int = step.batch_id
            tokens_left[n] -= 1
            return rerun.is_set or stop_flags[n].is_set or tokens_left[n] <= 0

        one_line, penalty, sampling = batch[0].prompt.kind
        # Its random generator belongs to its thread and is seeded once, so a prompt's own seed cannot be used.
        temperature, top_k, top_p = sampling or (1.0, 1, 1.0)
        vocabulary: Vocabulary = batch[0].call.vocabulary
        results = batch[0].call.model.generate_batch(
            [vocabulary.names(item.prompt.ids) for item in batch],
            max_length=max(tokens_left),
            end_token=vocabulary.rows(self._stop_tokens.ids(one_line)),
            return_end_token=True,
            include_prompt_in_result=False,
            repetition_penalty=penalty,
            beam_size=1,
            sampling_temperature=temperature,
            sampling_topk=top_k,
            sampling_topp=top_p,
            callback=stop,
        )
        return [vocabulary.base_ids(r.sequences_ids[0])[: item.prompt.max_tokens] for item, r in zip(batch, results, strict=True)]

    async def close(self) -> None:
        """Stop the batch that runs, fail the calls that wait, and end the threads and child processes."""
        if self._closed:
            return
        self._closed = True
        if self._base_timer:
            self._base_timer.cancel()
        self._fail_calls("the engine was closed")
        tasks = [*self._tasks, *([self._runner] if self._runner else [])]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, TellmtError):
                await task
        if self._executor:
            await asyncio.to_thread(self._executor.shutdown)
        models = list(self._models.values())
        self._models.clear()
        for model in models:
            await asyncio.to_thread(model.unload_model)
        for lock in self._locks.values():
            lock.release()
