"""The GPU driver: vLLM's AsyncLLM in this process, adapters as LoRA requests. The same code runs on vLLM's CPU build.

Reads the base's checkpoint and adapter directories, which must not change while they are loaded: vLLM may read one again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serve.engines import checkpoint, vllm_classes
from serve.engines.in_flight import CallsInFlight
from tell.errors import AdapterError, EngineError, RequestError, TellmtError
from tell.extras import has_gpu, installed, need
from tell.model.base import Base
from tell.model.engine import EngineOptions, EngineTraits, Generation, Prompt
from tell.model.stopping import StopTokens
from tell.model.tokenizer import BaseTokenizer

# The ranks vLLM has buffers for.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Distinct adapters in one batch on a GPU. Each takes buffers there at the full rank.
MAX_PER_BATCH = 8
# Seconds that vLLM's processes have to end by themselves before they are killed.
SHUTDOWN = 20.0
# Set where the user has not set them: vLLM sends nothing anywhere, asks no hub, and logs errors only.
_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "TOKENIZERS_PARALLELISM": "false"}
# GiB of key and value cache; by default vLLM takes half of the machine's memory.
_CPU_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "2"}


def _reason(e: Exception) -> str:
    """The first line of what vLLM raised; of a setting that it refuses the reason, which pydantic has on a later one, before the settings themselves."""
    lines = [line.strip() for line in str(e).split("\n") if line.strip()] or [""]
    return next((line for line in lines if " [type=" in line), lines[0]).partition(" [type=")[0]


@contextlib.contextmanager
def _children_without_sigint() -> Iterator[None]:
    """Processes started in the block get no SIGINT. Ctrl-C reaches a terminal's whole process group, and would end vLLM's before the requests end."""
    from multiprocessing import resource_tracker

    # Starting the tracker unblocks SIGINT, so it is started before.
    resource_tracker.ensure_running()
    earlier_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier_mask)


class VllmEngine:
    name = "vllm"
    # It batches by itself, and wants many. With more adapters in it than one batch can hold, busy adapters would overtake quiet ones.
    traits = EngineTraits(
        libraries=("vllm", "vllm-cpu"),
        adapters_per_batch=MAX_PER_BATCH,
        segments_per_call=64,
        calls_at_once=12,
        segments_per_step=256,
        penalises_prompt=True,
    )

    @staticmethod
    def refusal(base: Base) -> str | None:
        """Why adapters of this base cannot be served; None where they can, or where vLLM has the class from transformers. Needs no vLLM."""
        return checkpoint.layers_refusal(base) or vllm_classes.refusal(base.architecture)

    def __init__(self, options: EngineOptions):
        self.base = options.base
        self._options = options
        self._context = min(options.max_context, options.base.context)
        self._llm: Any = None
        self._starting: asyncio.Future[None] | None = None
        self._loras: dict[str, Any] = {}
        # Unloaded adapters that vLLM still holds because calls run on them.
        self._leaving: set[str] = set()
        # vLLM identifies an adapter by a number, which must never be reused for another.
        self._numbers = itertools.count(1)
        self._requests = itertools.count(1)
        self._loading = asyncio.Lock()
        self._calls = CallsInFlight()

    async def start(self) -> None:
        """Start vLLM and its process. Raises MissingExtra, or EngineError when the base is broken or vLLM does not come up."""
        for name, value in {**_ENVIRONMENT, **({} if has_gpu() else _CPU_ENVIRONMENT)}.items():
            os.environ.setdefault(name, value)
        if self._options.threads and not has_gpu():
            cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: self._options.threads]))
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", cores)
        if self._options.max_rank > RANKS[-1]:
            raise EngineError("vLLM holds no such rank", found=str(self._options.max_rank), valid=f"at most {RANKS[-1]}")
        # Shielded: vLLM's process comes up even when the caller no longer waits, and `close` must find it.
        self._starting = asyncio.ensure_future(asyncio.to_thread(self._open))
        await asyncio.shield(self._starting)

    def _open(self) -> None:
        need("vllm", "gpu" if has_gpu() else "vllm-cpu")
        if self.base.architecture in vllm_classes.WITH_TORCHVISION and not installed("torchvision"):
            raise EngineError("vLLM needs torchvision for this base", found="not installed", valid="the build of torchvision that belongs to the torch here")
        self._shapes = checkpoint.check_checkpoint(self.base)
        try:
            tokens = BaseTokenizer(self.base)
        except TellmtError as e:
            raise EngineError(e.thing, place=e.place, found=e.found) from None
        self._stop_tokens = StopTokens(tokens, tokens.vocabulary().items())
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            # Not returned: an idle thread keeps the last object that it returned, and vLLM complains when it is freed at exit.
            with _children_without_sigint():
                self._llm = AsyncLLM.from_engine_args(self._arguments(AsyncEngineArgs))
        except Exception as e:  # vLLM raises whatever went wrong, from ValueError to RuntimeError; the log above has its child's own words
            raise EngineError("vLLM could not start", place=str(self.base.path), found=f"{type(e).__name__}: {_reason(e)}") from e

    def _arguments(self, arguments: Any) -> Any:
        return arguments(
            model=str(self.base.path),
            # Prompts arrive as ids and leave as ids: the base's own tokenizer.json is used, on both engines alike.
            skip_tokenizer_init=True,
            trust_remote_code=False,
            dtype="auto" if has_gpu() else "bfloat16",
            max_model_len=self._context,
            max_num_seqs=self._options.max_batch,
            enable_lora=True,
            max_loras=self._adapter_slots(),
            max_lora_rank=next(r for r in RANKS if r >= self._options.max_rank),
            # More than may be loaded: vLLM reads an adapter that it has evicted again at step time, and dies if that fails.
            max_cpu_loras=self._options.max_adapters + 2,
            enforce_eager=not has_gpu(),
            # Of a class that reads images too, what reads text: no image is sent, and the rest would take memory and files that a base may lack.
            language_model_only=True,
            **self._on_cpu(),
            disable_log_stats=True,
            use_tqdm_on_load=False,
            seed=0,
        )

    def _on_cpu(self) -> dict[str, Any]:
        """What its build for processors needs to be told to compute this class rightly."""
        arguments: dict[str, Any] = {}
        if not has_gpu() and self.base.architecture in vllm_classes.NO_PREFIXES_ON_CPU:
            arguments["enable_prefix_caching"] = False
        if not has_gpu() and self.base.architecture in vllm_classes.ROTATED_IN_TORCH_ON_CPU:
            arguments["compilation_config"] = {"custom_ops": ["-rotary_embedding"]}
        return arguments

    def _adapter_slots(self) -> int:
        """How many adapters vLLM can apply in one batch.

        Its CPU build adds what lies in the last slot to prompts that ask for no adapter (seen in 0.32; vllm-project/vllm pull 48421), so
        there the last slot is never filled: vLLM fills the first free one, and no more than max_adapters are ever loaded.
        """
        return min(self._options.max_adapters, MAX_PER_BATCH) if has_gpu() else self._options.max_adapters + 1

    async def load(self, adapter_id: str, path: Path) -> None:
        """Give an adapter to vLLM. Raises AdapterError when it does not fit the base or vLLM refuses it."""
        llm = self._running_llm()
        async with self._loading:
            if adapter_id in self._loras:
                return
            held_adapters = len(self._loras) + len(self._leaving)
            if held_adapters >= self._options.max_adapters:
                raise AdapterError("too many adapters are loaded", found=str(held_adapters), valid=f"at most {self._options.max_adapters}")
            await asyncio.to_thread(self._check_adapter, adapter_id, path)
            from vllm.lora.request import LoRARequest

            lora = LoRARequest(adapter_id, next(self._numbers), str(path.absolute()))
            try:
                added = await llm.add_lora(lora)
                listed = added and lora.lora_int_id in await llm.list_loras()
            except Exception as e:  # what the child process raised comes back as a plain Exception
                self._running_llm()
                lines = [line for line in str(e).split("\n") if line.strip()] or [type(e).__name__]
                raise AdapterError("vLLM refused the adapter", place=str(path), found=lines[-1]) from None
            if not listed:
                raise AdapterError("vLLM did not take the adapter", place=str(path))
            self._loras[adapter_id] = lora

    def _check_adapter(self, adapter_id: str, path: Path) -> None:
        adapter = checkpoint.open_fitting(self.base, self._shapes, adapter_id, path, self._options.max_rank)
        checkpoint.check_acts(adapter)

    async def unload(self, adapter_id: str) -> None:
        """Unload an adapter when the calls that use it have ended. New calls for it are refused at once."""
        lora = self._loras.pop(adapter_id, None)
        if lora is None:
            return
        self._leaving.add(adapter_id)
        try:
            await self._calls.drained(adapter_id)
            if await self.healthy():
                await self._llm.remove_lora(lora.lora_int_id)
        except Exception as e:  # the child's error, as in load
            raise EngineError("vLLM could not remove an adapter", place=adapter_id, found=str(e)) from None
        finally:
            self._leaving.discard(adapter_id)

    def loaded(self) -> list[str]:
        return sorted(self._loras)

    async def healthy(self) -> bool:
        return self._llm is not None and not self._llm.errored

    def _running_llm(self) -> Any:
        if self._llm is None or self._llm.errored:
            raise EngineError("the engine is not running", found="vLLM has ended" if self._llm else "not started")
        return self._llm

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        """Raises AdapterError when the adapter is not loaded, RequestError when a prompt does not fit the context."""
        self._running_llm()
        lora = None if adapter_id is None else self._loras.get(adapter_id)
        if adapter_id is not None and lora is None:
            raise AdapterError("the adapter is not loaded", found=adapter_id, valid=", ".join(self.loaded()) or "none is")
        if too_long := [p for p in prompts if len(p.ids) + p.max_tokens > self._context]:
            tokens = f"{len(too_long[0].ids)} + {too_long[0].max_tokens} tokens"
            raise RequestError("prompt and output do not fit the context", found=tokens, valid=f"at most {self._context}")
        # vLLM serves in order of arrival: a long call keeps only as many prompts in its queue as fit one batch, so others get in between.
        places = asyncio.Semaphore(self._options.max_batch)
        return await self._calls.gather(adapter_id, [self._generate_one(p, lora, places) for p in prompts])

    async def _generate_one(self, prompt: Prompt, lora: Any, places: asyncio.Semaphore) -> Generation:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        sampling = prompt.sampling
        params = SamplingParams(
            temperature=sampling.temperature if sampling else 0.0,
            top_k=sampling.top_k if sampling else 0,
            top_p=sampling.top_p if sampling else 1.0,
            seed=sampling.seed if sampling else None,
            max_tokens=prompt.max_tokens,
            repetition_penalty=prompt.repetition_penalty,
            stop_token_ids=self._stop_tokens.ids(prompt.one_line),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async with places:
            final: Any = None
            token_ids = TokensPrompt(prompt_token_ids=list(prompt.ids))
            try:
                async for output in self._llm.generate(token_ids, params, f"tellmt-{next(self._requests)}", lora_request=lora):
                    final = output
            except asyncio.CancelledError:
                if self._llm is None:
                    raise EngineError("the engine was closed") from None
                raise
            except Exception as e:  # EngineDeadError, EngineGenerateError, or a refused request: all are the engine's
                raise EngineError("vLLM failed on a request", found=f"{type(e).__name__}: {e}") from None
        if final is None:
            raise EngineError("vLLM returned nothing for a request")
        return self._stop_tokens.generation(list(final.outputs[0].token_ids), prompt)

    async def close(self) -> None:
        """Fail the calls that run and end vLLM's processes."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
            self._starting = None
        llm, self._llm = self._llm, None
        self._calls.cancel()
        self._loras.clear()
        if llm is not None:
            await asyncio.sleep(0)
            with contextlib.suppress(asyncio.CancelledError):
                await self._calls.ended()
            # Before its process ends, or vLLM logs that end as an error.
            if handler := llm.output_handler:
                handler.cancel()
            await asyncio.to_thread(llm.shutdown, SHUTDOWN)
            # Reaps processes that have ended; without this those that vLLM had to kill stay as zombies.
            multiprocessing.active_children()
            # It is in reference cycles, and complains when it is freed only as the interpreter ends.
            handler = llm = None
            gc.collect()
