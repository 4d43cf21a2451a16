"""Whether ctranslate2 computes what a base does, and for prompts of which length: tried on a cut-down copy with random weights, in seconds.

Reads the base's config.json; writes `<cache>/trials/<base>-<revision>-ct2.json`. The copy has the base's class and configuration, but a layer of each kind,
narrow, and a small vocabulary, so that a prompt of the greatest length that is served can be compared position by position, in float32. Converting the whole
base tests its int8 weights (serve.engines.ct2.convert), by a bound that rounding needs and that would hide a wrong rotation.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tell.errors import EngineError
from tell.files import key_of, write_json
from tell.model.base import Base, read_config, slug
from tell.paths import cache_dir

# Raised when what is tried changes.
FORMAT = 1
FOLDER = "trials"
# Nats by which the written copy may diverge from the base's own class at any position. Where it is right, 1e-6 is usual.
EXACT = 1e-3
# Tokens of the longest prompt that is tried, and the fewest for which a base is worth serving.
LONGEST, LEAST = 4096, 64
# Tokens that the copy goes on with: they lie beyond a sliding window where the prompt fills it.
OUTPUT = 24
# Characters of an exception's text that are repeated.
SAID = 24
WORDS, WIDTH, INNER = 512, 64, 128
_NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "shared": ("num_key_value_heads", "num_kv_heads"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """`reason` says why the base cannot be served; None where it can, with prompts of at most `prompt` tokens."""

    reason: str | None
    prompt: int


def window(config: dict[str, Any]) -> int | None:
    """The tokens that a base's sliding layers attend to; None where it has none. ctranslate2 computes longer prompts wrongly."""
    text = config.get("text_config") or config
    size = text.get("sliding_window")
    if not isinstance(size, int) or size <= 0 or text.get("use_sliding_window") is False:
        return None
    return size


def prompt_limit(base: Base) -> int:
    """The tokens of the longest prompt that was proved equal for this base; before a trial, those that its windows allow."""
    found = _read(base)
    if found is not None and found.reason is None:
        return found.prompt
    return min(LONGEST, base.context, window(read_config(base)) or LONGEST)


def _file(base: Base) -> Path:
    return cache_dir() / FOLDER / f"{slug(base.id)}-{base.revision[:12]}-ct2.json"


def _key(base: Base) -> str:
    versions = {name: version(name) for name in ("ctranslate2", "transformers")}
    return key_of({"format": FORMAT, "base": base.revision, "context": base.context, "config": read_config(base), **versions})


def _read(base: Base) -> Trial | None:
    try:
        row = json.loads(_file(base).read_text())
        return Trial(row["reason"], int(row["prompt"])) if row["key"] == _key(base) else None
    except (OSError, ValueError, KeyError, TypeError, ImportError):
        return None


def trial(base: Base) -> Trial:
    """The result for this base, from the cache where it was tried before. Takes some seconds of a processor, and torch."""
    if (found := _read(base)) is not None:
        return found
    result = _tried(base)
    _file(base).parent.mkdir(parents=True, exist_ok=True)
    write_json(_file(base), {"key": _key(base), "base": base.id, "reason": result.reason, "prompt": result.prompt})
    return result


def check_trial(base: Base) -> None:
    """Raises EngineError with the reason where ctranslate2 cannot serve this base."""
    if reason := trial(base).reason:
        raise EngineError("ctranslate2 cannot serve this base", place=str(base.path), found=reason, valid="--engine vllm")


def _first(config: dict[str, Any], name: str) -> str | None:
    return next((key for key in _NAMES[name] if isinstance(config.get(key), int)), None)


def cut_down(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of the same class and the same arithmetic: a layer of each kind, two heads of the width they have, and WORDS words."""
    small = dict(config)
    heads, width, layers = _first(config, "heads"), _first(config, "width"), _first(config, "layers")
    if heads is None or width is None or layers is None:
        raise ValueError("a configuration that does not say how many layers and heads it has")
    own = config[width] // config[heads]
    head = config.get("head_dim") or own
    small |= {heads: 2, width: 2 * own if head == own else WIDTH, "vocab_size": WORDS, "initializer_range": 0.2}
    if inner := _first(config, "inner"):
        small[inner] = INNER
    if shared := _first(config, "shared"):
        small[shared] = 2 if config[shared] == config[heads] else 1
    kinds = list(dict.fromkeys(config.get("layer_types") or ()))
    small[layers] = max(2, len(kinds))
    if kinds:
        small["layer_types"] = (kinds * 2)[: small[layers]]
    for key in [k for k in small if k.endswith("token_id") or k.endswith("token_index")]:
        small[key] = {"bos_token_id": 2, "eos_token_id": 1}.get(key, 0)
    return small


def _tokenizer(directory: Path) -> list[str]:
    """A tokenizer of WORDS words for the copy; returns them in order."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = [f"word{i}" for i in range(WORDS)]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=names[3]))
    special = {"pad_token": names[0], "eos_token": names[1], "bos_token": names[2], "unk_token": names[3]}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(directory)
    return names


def _copy(base: Base) -> Any:
    """The cut-down model, in float32, with weights that show what is left out."""
    import torch
    import transformers

    whole = transformers.AutoConfig.from_pretrained(base.path, trust_remote_code=False, local_files_only=True)
    values = whole.to_dict()
    if isinstance(text := values.get("text_config"), dict):
        values["text_config"] = cut_down(text)
        for part in ("vision_config", "audio_config"):
            if isinstance(values.get(part), dict):
                narrow = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
                values[part] |= {k: v for k, v in narrow.items() if k in values[part]}
    else:
        values = cut_down(values)
    config = type(whole).from_dict(values)
    draw = torch.Generator().manual_seed(5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        # Not the fused one, which leaves out what it has no word for.
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            # Norms begin at one and biases at nothing.
            parameter.data += torch.randn(parameter.shape, generator=draw) * 0.2
    return model.eval()


def _tried(base: Base) -> Trial:
    import torch
    import transformers
    from ctranslate2.converters.transformers import _MODEL_LOADERS

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(base.path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as e:
        return Trial(f"{base.architecture}: {str(e).strip().split(chr(10))[0]}", 0)
    if type(config).__name__ not in _MODEL_LOADERS:
        return Trial(f"it has no converter for {base.architecture}", 0)
    # What follows the prompt must have positions too.
    longest = min(LONGEST, base.context - OUTPUT)
    lengths = sorted({longest, min(longest, window(read_config(base)) or longest)}, reverse=True)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        place = Path(folder)
        try:
            own, model = _copy(base), _copy(base)
            names = _tokenizer(place)
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(place)
            found = _compared(own, model, place, names, lengths)
        except OSError as e:
            # A disk that is full says nothing of the base. What transformers itself raises of this kind has no number.
            if e.errno is None:
                return Trial(f"its converter fails on {base.architecture} (OSError)", 0)
            valid = "free space there, or TMPDIR on another disk"
            raise EngineError("ctranslate2 could not be tried on a copy of the base", place=tempfile.gettempdir(), found=e.strerror, valid=valid) from None
        # What the converter expects of a class that has changed since shows in any way.
        except Exception as e:
            said = str(e).strip()
            # A sentence that is not of ours helps where it is short.
            return Trial(f"its converter fails on {base.architecture} ({type(e).__name__}{f': {said}' if 0 < len(said) <= SAID else ''})", 0)
    if isinstance(found, int):
        return Trial(None, min(LONGEST, base.context) if found == longest else found)
    return Trial(f"it computes something else than {base.architecture}: {found}", 0)


def _compared(own: Any, model: Any, place: Path, names: list[str], lengths: list[int]) -> int | str:
    """The first of these lengths at which `model`, which is written and used up, agrees with `own`; or what is found at the last."""
    import ctranslate2
    import torch

    from serve.engines.ct2.writing import write_model

    ids = torch.randint(4, WORDS, (lengths[0],), generator=torch.Generator().manual_seed(6)).tolist()
    write_model(place, model, place / "written", None)
    generator = ctranslate2.Generator(str(place / "written"), device="cpu", compute_type="float32")
    found = "nothing"
    for n in lengths:
        prompt = [names[i] for i in ids[:n]]
        try:
            output = generator.generate_batch([prompt], max_length=OUTPUT, sampling_topk=1, include_prompt_in_result=False, end_token=[])[0].sequences_ids[0]
            divergence = _divergence(generator, prompt, ids[:n], list(output), own)
        except (RuntimeError, ValueError) as e:
            # Beyond a window the answer has not even the shape of one.
            found = f"{type(e).__name__}: {str(e)[:60]}"
            continue
        if divergence <= EXACT and n >= min(LEAST, lengths[0]):
            return n
        found = f"{divergence:.1g} nats apart"
    return found


def _divergence(generator: Any, prompt: list[str], ids: list[int], output: list[int], own: Any) -> float:
    """The largest Kullback-Leibler divergence at any position of a prompt that is read at once; or, where that is more, how much likelier another token was
    than the one that the written model chose after it, step by step."""
    import numpy as np
    import torch

    expected = own(input_ids=torch.tensor([[*ids, *output]]), use_cache=False).logits[0].float().log_softmax(-1).numpy()
    after = expected[len(ids) - 1 : -1]
    missed = float((after.max(-1) - after[np.arange(len(output)), output]).max())
    expected = expected[: len(ids)]
    written = np.array(generator.forward_batch([prompt], return_log_probs=True))[0][:, : expected.shape[-1]]
    return max(float((np.exp(expected) * (expected - written)).sum(-1).max()), missed)
