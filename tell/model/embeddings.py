"""Embeddings of texts: the mean of a base's last hidden states, L2-normalised (LTD, arXiv 2305.09246).

Reads a prepared base. Writes and reads `<cache>/embeddings/<base>-<revision>-<dtype>-<pooling>/`: shards of a float32 matrix
(`*.npy`, read as memory maps) and of the keys of its rows (`*.keys`, 16 bytes each, renamed into place last). A text that is in
any shard is not computed again, so a run that was killed goes on, and a pool that overlaps another shares its rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tell.console import progress, say
from tell.errors import BaseModelError
from tell.extras import has_gpu, need
from tell.files import canonical_json, fsync_dir
from tell.machine import bf16
from tell.model.base import Base, read_config, slug
from tell.model.tokenizer import BaseTokenizer
from tell.paths import cache_dir, writable

# Tokens of a text that are read; longer texts are cut, and counted.
MOST = 1024
# Part of the cache's name: another way of pooling is another directory. BOS is read but not averaged: what a causal model makes of
# it is the same for every text, so it would only say how long the text is.
POOLING = f"mean{MOST}"
# Padded tokens in a batch on the CPU, and on a GPU.
BATCH, BATCH_GPU = 4096, 65536
# Tokens in a shard: about a minute of one core, which is what a kill can cost.
SHARD = 1 << 16
KEY = 16


def key_of_text(parts: Sequence[str]) -> bytes:
    return hashlib.sha256(canonical_json(list(parts))).digest()[:KEY]


def _compute_on() -> tuple[str, str]:
    """(device, dtype): bfloat16 where it is multiplied in hardware. Without a GPU torch is not asked, so that it need not be loaded."""
    if has_gpu():
        torch = need("torch", "train")
        if torch.cuda.is_available():
            return "cuda", "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "cpu", "bfloat16" if bf16() == "yes" else "float32"


def store(base: Base, dtype: str) -> Path:
    """The directory of this base's embeddings."""
    return cache_dir() / "embeddings" / f"{slug(base.id)[-60:]}-{base.revision[:16]}-{dtype}-{POOLING}"


def _shards(path: Path, width: int) -> Iterator[tuple[bytes, Any]]:
    """(keys, matrix) of every whole shard. One that is damaged is removed: it can be made again."""
    np = need("numpy", "train")
    for key_file in sorted(path.glob("*.keys")):
        keys = key_file.read_bytes()
        try:
            matrix = np.load(key_file.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            if matrix.shape != (len(keys) // KEY, width) or matrix.dtype != np.float32 or len(keys) % KEY:
                raise ValueError("wrong shape")
        except (OSError, ValueError, EOFError):
            say(f"{key_file}: damaged, its embeddings are computed again")
            key_file.unlink(missing_ok=True)
            key_file.with_suffix(".npy").unlink(missing_ok=True)
            continue
        yield keys, matrix


def _write_shard(path: Path, keys: list[bytes], rows: Any) -> None:
    """The matrix first and the keys last: a shard without keys is not one. Named by its keys, so that two runs cannot clash."""
    np = need("numpy", "train")
    joined = b"".join(keys)
    name = hashlib.sha256(joined).hexdigest()[:24]
    for suffix in (".npy", ".keys"):
        fd, aside = tempfile.mkstemp(dir=path, prefix=f".{name}{suffix}.")
        try:
            with os.fdopen(fd, "wb") as f:
                if suffix == ".npy":
                    np.save(f, rows, allow_pickle=False)
                else:
                    f.write(joined)
                f.flush()
                os.fsync(f.fileno())
            os.chmod(aside, 0o644)
            os.replace(aside, path / f"{name}{suffix}")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
    fsync_dir(path)


CAUSAL = "AutoModelForCausalLM"


def loader_of(base: Base, kind: str = CAUSAL) -> Any:
    """The loader of transformers for a base: the one of this name, or where that one has not the class that the checkpoint names, the one of classes that read
    images too. Of Qwen 3.5 the first would take the text part alone, in which layers have other names than in the checkpoint and in the engines."""
    import transformers
    from transformers.models.auto import modeling_auto

    causal, wider = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(), modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()
    if kind == CAUSAL and base.architecture in wider and base.architecture not in causal:
        kind = "AutoModelForImageTextToText"
    return getattr(transformers, kind)


def from_pretrained(base: Base, attention: str = "sdpa", kind: str = CAUSAL, **options: Any) -> Any:
    """The base by one of transformers' loaders, with this attention, or with the plain one where the class has no other, or would compute something else."""
    loader = loader_of(base, kind)
    options |= {"trust_remote_code": False, "local_files_only": True}
    config = read_config(base)
    config = config.get("text_config") or config
    if config.get("attn_logit_softcapping") or config.get("model_type") == "gemma2":
        # transformers 5.19 leaves the cap of Gemma 2's attention out of sdpa, and says nothing.
        attention = "eager"
    try:
        return loader.from_pretrained(base.path, attn_implementation=attention, **options)
    except ValueError as e:
        if attention == "eager" or "attention" not in str(e).lower():
            raise
        return loader.from_pretrained(base.path, attn_implementation="eager", **options)


def load(base: Base, dtype: str, device: str, kind: str = "AutoModel") -> Any:
    """The base, without its output layer unless another of transformers' classes is named."""
    torch, transformers = need("torch", "train"), need("transformers", "train")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = from_pretrained(base, kind=kind, dtype=getattr(torch, dtype))
    # ImportError: a part that reads images may need a library of its own.
    except (OSError, ValueError, RuntimeError, ImportError) as e:
        raise BaseModelError("the base cannot be loaded", place=str(base.path), found=str(e).strip().split("\n")[0]) from None
    return model.to(device).eval()


def _batches(lengths: list[int], most: int) -> Iterator[list[int]]:
    """Indices by length, longest first (a batch that does not fit into memory shows at once), at most `most` padded tokens together."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _pooled(model: Any, ids: list[list[int]], skip: int, pad: int, device: str) -> Any:
    """One batch: mean over each text's own tokens, in float32, then to length 1."""
    import torch

    length = max(map(len, ids))
    tokens = torch.tensor([x + [pad] * (length - len(x)) for x in ids], device=device)
    mask = torch.tensor([[1] * len(x) + [0] * (length - len(x)) for x in ids], device=device)
    with torch.inference_mode():
        hidden = model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state.float()
        pooled_mask = mask.clone()
        pooled_mask[:, :skip] = 0
        mean = (hidden * pooled_mask.unsqueeze(-1)).sum(1) / pooled_mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()


def _compute(base: Base, dtype: str, device: str, path: Path, ids: list[list[int]], keys: list[bytes]) -> None:
    np = need("numpy", "train")
    model = load(base, dtype, device)
    skip = 0 if base.bos_id is None else 1
    done: list[bytes] = []
    rows: list[Any] = []
    tokens = 0
    with progress() as bar:
        task = bar.add_task("tokens embedded", total=sum(map(len, ids)))
        for batch in _batches([len(x) for x in ids], BATCH_GPU if device == "cuda" else BATCH):
            embeddings = _pooled(model, [ids[i] for i in batch], skip, 0, device)
            if not np.isfinite(embeddings).all():
                bad = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
                raise BaseModelError("the base gives no finite embedding", place=str(base.path), found=f"NaN for a text of {len(ids[batch[bad]])} tokens")
            rows.append(embeddings)
            done += [keys[i] for i in batch]
            tokens += (read := sum(len(ids[i]) for i in batch))
            bar.advance(task, read)
            if tokens >= SHARD:
                _write_shard(path, done, np.concatenate(rows))
                done, rows, tokens = [], [], 0
        if done:
            _write_shard(path, done, np.concatenate(rows))


def embed(base: Base, texts: Sequence[Sequence[str]]) -> tuple[Any, dict[str, Any]]:
    """(n, width) float32 unit rows for the texts, each given in parts that are encoded apart, and how they were computed.

    Raises BaseModelError when the base cannot be loaded or gives numbers that are not finite, MissingExtra without torch.
    """
    np = need("numpy", "train")
    device, dtype = _compute_on()
    path = writable(store(base, dtype), "cache", "TELLMT_CACHE")
    config = read_config(base)
    config = config.get("text_config") or config
    # GPT-2 has another name for it.
    width = int(config["n_embd"] if "n_embd" in config else config["hidden_size"])
    keys = [key_of_text(parts) for parts in texts]
    tokenizer = BaseTokenizer(base)
    most = min(MOST, base.context) - len(tokenizer.bos)
    encoded = iter(tokenizer.encode_batch([p for parts in texts for p in parts]))
    ids = [[t for _ in parts for t in next(encoded)] for parts in texts]
    cut = sum(len(x) > most for x in ids)

    def gather() -> dict[int, Any]:
        at: dict[bytes, list[int]] = {}
        for i, key in enumerate(keys):
            at.setdefault(key, []).append(i)
        for stored, matrix in _shards(path, width):
            hits = [(row, i) for row in range(len(matrix)) for i in at.pop(stored[row * KEY : (row + 1) * KEY], ())]
            if hits:
                to, of = [i for _, i in hits], [row for row, _ in hits]
                embeddings[to] = matrix[of]
        return {i[0]: key for key, i in at.items()}

    embeddings = np.zeros((len(keys), width), dtype=np.float32)
    missing = gather()
    computed = len(missing)
    if missing:
        missing_rows = sorted(missing)
        _compute(base, dtype, device, path, [tokenizer.bos + ids[i][:most] for i in missing_rows], [missing[i] for i in missing_rows])
        missing = gather()
    if missing or not np.isfinite(embeddings).all() or not (np.linalg.norm(embeddings, axis=1) > 0.5).all():
        raise BaseModelError("the embeddings in the cache cannot be used; delete the directory and select again", place=str(path))
    return embeddings, {"dtype": dtype, "pooling": POOLING, "width": width, "computed": computed, "cut_texts": cut, "most_tokens": most}
