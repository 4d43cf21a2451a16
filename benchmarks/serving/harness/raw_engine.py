#!/usr/bin/env python3
"""The engine alone, without a service: ctranslate2's `Generator.generate_batch`, or vLLM's `LLM.generate` with a LoRA, in a process of its own.

Reads one job (JSON) and then requests from stdin, a line each; writes one JSON object a line to stdout. It gets the very prompts that the service
makes: the same token ids, the same ids to stop at, greedy. Its time is that of the engine's call alone; texts are made afterwards, as the service does.
Texts that run into their token limit are for the caller to leave out, so nothing here has to watch for limits, which would cost the raw engine time.

`Raw` is the handle that the benchmark holds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


@dataclasses.dataclass(frozen=True, slots=True)
class RawRun:
    """`seconds` of each call; texts and output tokens (EOS left out) by source, as they are numbered in the job."""

    seconds: list[float]
    texts: dict[int, str]
    tokens: dict[int, int]
    # Whether the output ended by itself.
    ended: dict[int, bool]

    @property
    def total(self) -> float:
        return sum(self.seconds)


class Raw:
    """The process. Raises BenchFailed from `harness.load` when it ends."""

    def __init__(self, job: Mapping[str, Any], env: Mapping[str, str], script: Path | None = None):
        command = [sys.executable, *([str(script)] if script else ["-m", "benchmarks.serving.harness.raw_engine"])]
        pipe = subprocess.PIPE
        here = {**os.environ, **env, "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=here, start_new_session=True)
        self._send(job)
        self.versions: dict[str, Any] = self._read()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what it has to say is read next

    def _read(self) -> dict[str, Any]:
        from benchmarks.serving.harness.load import BenchFailed

        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise BenchFailed(f"the raw engine ended with exit code {self.process.wait()}")
        message: dict[str, Any] = json.loads(line)
        if problem := message.get("problem"):
            raise BenchFailed(f"the raw engine: {problem}")
        return message

    def run(self, batches: Sequence[Sequence[int]], most: int = 0) -> RawRun:
        """One call of the engine for each batch. `most` lets the engine cut a batch itself into pieces of so many, in the order that suits it."""
        self._send({"batches": [list(b) for b in batches], "most": most})
        reply = self._read()
        texts, tokens, ended = ({int(k): v for k, v in reply[name].items()} for name in ("texts", "tokens", "ended"))
        return RawRun(reply["seconds"], texts, tokens, ended)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Replay:
    """An engine that has its outputs already: the service's own code then makes the texts of them. `traits`: those of the engine that made them."""

    def __init__(self, generations: list[Any], traits: Any = None):
        self.generations, self.traits = generations, traits

    async def generate(self, prompts: Sequence[Any], adapter_id: str | None) -> list[Any]:
        return self.generations


def open_ct2(job: Mapping[str, Any], base: Any) -> Any:
    """(prompts, most) to the ids of each output, ctranslate2 on the model the service converted."""
    import ctranslate2

    from serve.engines.ct2.vocabulary import Vocabulary
    from tell.machine import cores

    model = Path(job["model"])
    vocabulary = Vocabulary.read(model)
    # As serve.engines.ct2.engine opens it.
    generator = ctranslate2.Generator(str(model), device="cpu", compute_type="int8", inter_threads=1, intra_threads=job["threads"] or cores())

    def generate(prompts: Sequence[Any], stops: list[int], most: int) -> list[list[int]]:
        results = generator.generate_batch(
            [vocabulary.names(p.ids) for p in prompts],
            max_batch_size=most,
            max_length=max(p.max_tokens for p in prompts),
            end_token=vocabulary.rows(stops),
            return_end_token=True,
            include_prompt_in_result=False,
            repetition_penalty=prompts[0].repetition_penalty,
            beam_size=1,
            sampling_topk=1,
        )
        return [vocabulary.base_ids(r.sequences_ids[0])[: p.max_tokens] for p, r in zip(prompts, results, strict=True)]

    return generate


def open_vllm(job: Mapping[str, Any], base: Any) -> Any:
    """The same with vLLM, which schedules by itself: `most` is fixed when it starts."""
    from tell.extras import has_gpu

    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR", "TOKENIZERS_PARALLELISM": "false"}
    for name, value in {**quiet, **({} if has_gpu() else {"VLLM_CPU_KVCACHE_SPACE": "2"})}.items():
        os.environ.setdefault(name, value)
    from vllm import LLM, SamplingParams, TokensPrompt
    from vllm.lora.request import LoRARequest

    # As serve.engines.vllm starts it, for one adapter. Two slots: on CPUs the last one must stay empty.
    llm = LLM(
        model=str(base.path), skip_tokenizer_init=True, trust_remote_code=False, dtype="auto" if has_gpu() else "bfloat16", max_model_len=job["context"],
        max_num_seqs=job["most"], enable_lora=True, max_loras=2, max_lora_rank=16, max_cpu_loras=4, enforce_eager=not has_gpu(), seed=0,
    )  # fmt: skip
    lora = LoRARequest("bench", 1, str(job["adapter"]))

    def generate(prompts: Sequence[Any], stops: list[int], most: int) -> list[list[int]]:
        params = [
            SamplingParams(temperature=0.0, max_tokens=p.max_tokens, repetition_penalty=p.repetition_penalty, stop_token_ids=stops, detokenize=False)
            for p in prompts
        ]
        token_prompts = [TokensPrompt(prompt_token_ids=list(p.ids)) for p in prompts]
        return [list(o.outputs[0].token_ids) for o in llm.generate(token_prompts, params, lora_request=lora, use_tqdm=False)]

    return generate


def main() -> int:
    # Libraries print; what is read here is on a descriptor of its own.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(message: Mapping[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    from tell.adapter.card import open_adapter
    from tell.adapter.translation import translator_of
    from tell.errors import TellmtError
    from tell.model.base import find_base
    from tell.model.engine import engine_traits
    from tell.model.stopping import StopTokens
    from tell.model.tokenizer import BaseTokenizer

    job = json.loads(sys.stdin.readline())
    try:
        adapter = open_adapter(Path(job["adapter"]))
        base = find_base(adapter.card.base.id)
        tokenizer = BaseTokenizer(base)
        endings = StopTokens(tokenizer, tokenizer.vocabulary().items())
        generate = {"ct2": open_ct2, "vllm": open_vllm}[job["engine"]](job, base)
    except (TellmtError, ImportError, OSError, ValueError, RuntimeError) as e:
        tell({"problem": f"{type(e).__name__}: {e}"})
        return 1
    replay = Replay([], engine_traits(job["engine"]))
    translator = translator_of(replay, tokenizer, adapter, job["context"])  # type: ignore[arg-type]
    prompts = [translator.prompt(s) for s in job["sources"]]
    stops = endings.ids(one_line=True)
    tell({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        seconds: list[float] = []
        generations: dict[int, Any] = {}
        for batch in request["batches"]:
            batch_prompts = [prompts[i] for i in batch]
            began = time.perf_counter()
            ids = generate(batch_prompts, stops, request["most"])
            seconds.append(time.perf_counter() - began)
            generations |= {i: endings.generation(x, prompts[i]) for i, x in zip(batch, ids, strict=True)}
        replay.generations = list(generations.values())
        texts = asyncio.run(translator.translate([job["sources"][i] for i in generations]))
        tell(
            {
                "seconds": seconds,
                "texts": {i: t.text for i, t in zip(generations, texts, strict=True)},
                "tokens": {i: g.tokens for i, g in generations.items()},
                "ended": {i: g.finish == "stop" for i, g in generations.items()},
            }
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
