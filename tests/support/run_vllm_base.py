"""One class of bases (tests/support/bases.py) in vLLM and in transformers with peft, both in float32: how far apart they are, with and without an adapter.

    python -m tests.support.run_vllm_base DIRECTORY

Reads names of classes, one a line, on its standard input, and prints a JSON object for each. Each is a process of its own: vLLM holds what it took until the
end of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from serve.engines.vllm import VllmEngine
from tell.adapter.card import CONFIG, WEIGHTS, Adapter, BaseRef, Card, open_adapter, write_card
from tell.errors import TellmtError
from tell.files import sha256_file
from tell.languages import parse_pair
from tell.model.anchor import AnchorConfig, render
from tell.model.base import Base
from tell.model.engine import EngineOptions, Prompt
from tests.support.tiny import VOCABULARY, make_tiny_base

RANK = 8
# Tokens of the prompts: within a sliding window of 64, about as long, and three of them. And of each output.
LENGTHS, OUTPUT = (9, 70, 200), 12
CONTEXT = 256
# On a processor vLLM computes their recurrent layers in bfloat16 alone.
IN_BFLOAT16 = ("Qwen 3.5", "Qwen 3.5 with vision")


class Exact(VllmEngine):
    """The driver, in float32: in bfloat16, which it computes in on a processor, what a class leaves out could hide in the rounding."""

    def _arguments(self, arguments: Any) -> Any:
        return super()._arguments(lambda **values: arguments(**{**values, "dtype": "float32"}))


def prompts() -> list[Prompt]:
    """Random words, none of which stands for an image."""
    import torch

    draw = torch.Generator().manual_seed(3)
    return [Prompt((2, *torch.randint(10, VOCABULARY, (n - 1,), generator=draw).tolist()), OUTPUT, False) for n in LENGTHS]


def with_lora(base: Base, path: Path) -> tuple[Any, Adapter]:
    """The model with the layers that training gives it, random ones, and the adapter as a directory."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    from train.config import LoraOptions
    from train.model import load_model, lora_parameters

    model = load_model(base, LoraOptions(rank=RANK, alpha=2 * RANK), "float32", "cpu", 0).eval()
    draw = torch.Generator().manual_seed(5)
    for p in lora_parameters(model).values():
        p.data = torch.randn(p.shape, generator=draw) * 0.1
    path.mkdir(parents=True)
    save_file({n: t.contiguous() for n, t in get_peft_model_state_dict(model).items()}, path / WEIGHTS, {"format": "pt"})
    config = model.peft_config["default"]
    config.inference_mode, config.base_model_name_or_path = True, base.id
    config.save_pretrained(path)
    card = Card(
        pair="is-en", base=BaseRef(id=base.id, revision=base.revision), anchor=render(AnchorConfig(), parse_pair("is-en")), rank=RANK, recipe={}, seed=0,
        data={}, training={}, versions={}, files={n: sha256_file(path / n) for n in (WEIGHTS, CONFIG)},
    )  # fmt: skip
    write_card(path, card)
    return model, open_adapter(path)


def as_in_vllm(name: str, model: Any) -> None:
    """What vLLM is known to do otherwise (docs/bases.md says it too) is done so in the model, so that everything else is compared."""
    import torch

    if name == "Cohere 2":
        # A window of so many tokens before a token, as vLLM says that they were in training; in transformers the token itself is among them.
        model.config.sliding_window += 1
    elif name == "Apertus":
        # The parameters of the activation stay in bfloat16, in which checkpoints of Apertus are.
        for module in model.modules():
            if type(module).__name__ == "XIELUActivation":
                module.to(torch.bfloat16)


async def log_probs(engine: VllmEngine, prompt: Prompt, lora: Any) -> list[float]:
    """(n - 1,) nats: what vLLM gives each token of the prompt but the first."""
    from vllm import SamplingParams, TokensPrompt

    params, final = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False), None
    async for output in engine._llm.generate(TokensPrompt(prompt_token_ids=list(prompt.ids)), params, f"probe-{id(prompt)}-{lora}", lora_request=lora):
        final = output
    return [found[i].logprob for i, found in zip(prompt.ids[1:], final.prompt_logprobs[1:], strict=True)]


async def asked(driver: type[VllmEngine], base: Base, adapter: Adapter) -> dict[str, Any]:
    """Per way, without an adapter and with it: the log-probabilities of the prompts' tokens, and the outputs as ids, of the driver's own `generate`."""
    engine = driver(EngineOptions(base=base, max_adapters=2, max_rank=RANK, max_batch=4, max_context=CONTEXT, threads=1))
    outputs: list[list[int]] = []
    await engine.start()
    try:
        ids_of = engine._stop_tokens.generation
        engine._stop_tokens.generation = lambda ids, prompt: outputs.append(ids) or ids_of(ids, prompt)  # type: ignore[func-returns-value,method-assign]
        await engine.load(adapter.id, adapter.path)
        found = {}
        for way, lora in (("bare", None), ("adapted", adapter.id)):
            outputs.clear()
            for p in prompts():
                await engine.generate([p], lora)
            found[way] = {"prompts": [await log_probs(engine, p, engine._loras.get(lora)) for p in prompts()], "outputs": list(outputs)}
        return found
    finally:
        await engine.close()


def compared(model: Any, found: dict[str, Any]) -> dict[str, float]:
    """In nats, at most: `apart` over the tokens of the prompts; `missed`, how much likelier another token was at any step of an output; and what the adapter
    moves, which shows that there was something to leave out."""
    import torch

    result, own = {}, {}
    for way in ("bare", "adapted"):
        apart = missed = 0.0
        own[way] = []
        with torch.inference_mode(), model.disable_adapter() if way == "bare" else contextlib.nullcontext():
            for p, given, output in zip(prompts(), found[way]["prompts"], found[way]["outputs"], strict=True):
                expected = model(input_ids=torch.tensor([[*p.ids, *output]]), use_cache=False).logits[0].float().log_softmax(-1)
                n = len(p.ids)
                of_prompt = expected[torch.arange(n - 1), torch.tensor(p.ids[1:])]
                own[way].append(of_prompt)
                apart = max(apart, (of_prompt - torch.tensor(given)).abs().max().item())
                after = expected[n - 1 : -1]
                missed = max(missed, (after.max(-1).values - after[torch.arange(len(output)), torch.tensor(output)]).max().item())
        result |= {f"apart_{way}": apart, f"missed_{way}": missed}
    moved = min((a - b).abs().max().item() for a, b in zip(own["bare"], own["adapted"], strict=True))
    return {**result, "moved": moved}


def rounding(base: Base, model: Any) -> float:
    """Nats, at most, over the tokens of the prompts: how far the base in bfloat16 is from itself in float32, without an adapter."""
    import torch

    from train.config import LoraOptions
    from train.model import load_model

    def given(each: Any) -> Any:
        with torch.inference_mode(), each.disable_adapter():
            rows = [each(input_ids=torch.tensor([p.ids]), use_cache=False).logits[0].float().log_softmax(-1) for p in prompts()]
        return torch.cat([r[torch.arange(len(p.ids) - 1), torch.tensor(p.ids[1:])] for r, p in zip(rows, prompts(), strict=True)])

    rounded = load_model(base, LoraOptions(rank=RANK), "bfloat16", "cpu", 0).eval()
    return float((given(rounded) - given(model)).abs().max())


def one(name: str, work: Path) -> dict[str, Any]:
    """What is found for one class, or `error`."""
    from tests.support.bases import make_checkpoint
    from train.fetch_base import fetch_base

    os.environ["TELLMT_CACHE"] = str(work / "cache")
    make_tiny_base(work / "cache")
    base = fetch_base(str(make_checkpoint(name, work / "base", work / "cache")))
    model, adapter = with_lora(base, work / "adapter")
    as_in_vllm(name, model)
    try:
        found = asyncio.run(asked(VllmEngine if name in IN_BFLOAT16 else Exact, base, adapter))
    except TellmtError as e:
        return {"error": str(e)}
    return compared(model, found) | ({"rounding": rounding(base, model)} if name in IN_BFLOAT16 else {})


def loaded() -> None:
    """Load what every class needs. vLLM's own process is forked from this one too: it would load the same for a minute of a busy processor."""
    import torch

    os.environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    # Standard output is for what is found.
    os.environ["VLLM_LOGGING_STREAM"] = "ext://sys.stderr"
    # Threads do not live on in a fork.
    torch.set_num_threads(1)
    import vllm.utils.system_utils

    vllm.utils.system_utils.get_mp_context = lambda: multiprocessing.get_context("fork")
    # It looks at each class in a process of its own, so as not to load CUDA; that process would load everything again.
    importlib.import_module("vllm.model_executor.models.registry")._run_in_subprocess = lambda look: look()
    for module in ("vllm.v1.engine.async_llm", "vllm.v1.worker.cpu_worker", "vllm.lora.request", "peft", "train.model", "train.fetch_base"):
        importlib.import_module(module)
    import transformers

    assert transformers.AutoModelForCausalLM


def main() -> None:
    """For each line on standard input, the name of a class, fork a child that runs it, and print what it found."""
    work = Path(sys.argv[1])
    loaded()
    gc.freeze()
    for line in sys.stdin:
        name = line.rstrip("\n")
        with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as folder:
            result = Path(folder) / "result.json"
            if not (child := os.fork()):
                code = 1
                try:
                    result.write_text(json.dumps(one(name, Path(folder))))
                    code = 0
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(result.read_text() if result.exists() else json.dumps({"error": f"exit {code}"}), flush=True)


if __name__ == "__main__":
    main()
