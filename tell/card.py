"""Adapter directories: `adapter_model.safetensors`, `adapter_config.json`, and `card.json`, written last.

A directory without a card is half-written. The card names the SHA-256 of the two other files; the adapter's id is the hash
of all three, so an id stands for exactly one content.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tell.anchors import Anchor
from tell.engine import Decoding
from tell.errors import AdapterError
from tell.files import canonical_json, key_of, sha256_bytes, sha256_file

WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "card.json"
# A rank-16 adapter on every linear layer of an 8B base is about 200 MB.
MAX_WEIGHTS = 2 << 30
MAX_TEXT = 4 << 20
MAX_HEADER = 16 << 20


class BaseRef(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    revision: str
    licence: str = ""
    notice: str = ""


class Card(BaseModel):
    """Everything needed to serve an adapter as it was trained, and to repeat the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    pair: str
    base: BaseRef
    anchor: Anchor
    decoding: Decoding = Decoding()
    rank: int
    recipe: dict[str, Any]
    seed: int
    # Counts and SHA-256 of the data trained on, as `mix` reported them.
    data: dict[str, Any]
    # Steps, tokens, final loss, and what the machine was.
    training: dict[str, Any]
    versions: dict[str, str]
    notes: list[str] = []
    # One entry per test set scored, each with its signatures; filled in by `publish`.
    scores: list[dict[str, Any]] = []
    # What `publish` decided, and on which evidence.
    verdict: dict[str, Any] | None = None
    files: dict[str, str] = Field(description="SHA-256 by file name")

    def dump(self) -> bytes:
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Adapter:
    """A complete, verified adapter directory."""

    id: str
    path: Path
    card: Card

    @property
    def short(self) -> str:
        return self.id[:12]


def adapter_id(card: Card) -> str:
    """The hash of the content: the card, which names the hashes of the other files."""
    return key_of({"card": sha256_bytes(canonical_json(card.model_dump(mode="json")))})[:32]


def _regular(path: Path, limit: int) -> int:
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        raise AdapterError("the adapter is incomplete", place=str(path.parent), found=f"no {path.name}", valid=f"{WEIGHTS}, {CONFIG}, {CARD}") from None
    if not stat.S_ISREG(info.st_mode):
        raise AdapterError("not a regular file", place=str(path), valid="no links, no devices")
    if info.st_size > limit:
        raise AdapterError("too large", place=str(path), found=f"{info.st_size} bytes", valid=f"at most {limit}")
    return info.st_size


def read_header(path: Path) -> dict[str, Any]:
    """The safetensors header: tensor name to dtype, shape and offsets. Raises AdapterError when it is not one or the data is cut short."""
    size = _regular(path, MAX_WEIGHTS)
    with path.open("rb") as f:
        head = f.read(8)
        n = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= n <= min(MAX_HEADER, max(size - 8, 0)):
            raise AdapterError("not a safetensors file, or cut short", place=str(path), found=f"{size} bytes, header of {n}")
        try:
            header: dict[str, Any] = json.loads(f.read(n))
            header.pop("__metadata__", None)
            for tensor in header.values():
                shape, (begin, stop) = tensor["shape"], tensor["data_offsets"]
                if not isinstance(shape, list) or not all(isinstance(x, int) and x >= 0 for x in [*shape, begin, stop]) or begin > stop:
                    raise ValueError(f"shape {shape}, offsets {begin} and {stop}")
            end = max((t["data_offsets"][1] for t in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise AdapterError("the safetensors header is damaged", place=str(path), found=str(e)) from None
    if 8 + n + end != size:
        raise AdapterError("the safetensors data is cut short or too long", place=str(path), found=f"{size} bytes", valid=f"{8 + n + end}")
    return header


def read_card(path: Path) -> Card:
    """The card of an adapter directory, unverified. Raises AdapterError when there is none or it does not parse."""
    if not path.is_dir():
        raise AdapterError("no such adapter directory", place=str(path))
    _regular(path / CARD, MAX_TEXT)
    try:
        return Card.model_validate(json.loads((path / CARD).read_bytes()))
    except (ValueError, ValidationError, RecursionError) as e:
        raise AdapterError("the card cannot be read", place=str(path / CARD), found=str(e).split("\n")[0]) from None


def open_adapter(path: Path) -> Adapter:
    """A verified adapter: every file present, regular, of the hash its card names, the weights a whole safetensors file of the card's rank.

    Raises AdapterError with the file and the reason.
    """
    card = read_card(path)
    if set(card.files) != {WEIGHTS, CONFIG}:
        raise AdapterError("the card names other files", place=str(path / CARD), found=", ".join(card.files), valid=f"{WEIGHTS}, {CONFIG}")
    _regular(path / CONFIG, MAX_TEXT)
    header = read_header(path / WEIGHTS)
    for name, expected in card.files.items():
        if (found := sha256_file(path / name)) != expected:
            raise AdapterError("altered since its card was written", place=str(path / name), found=f"SHA-256 {found[:16]}", valid=expected[:16])
    pairs = [n for n in header if n.endswith(".lora_A.weight")]
    if not pairs:
        raise AdapterError("no LoRA weights", place=str(path / WEIGHTS))
    for name in pairs:
        other = name.replace(".lora_A.", ".lora_B.")
        a, b = header[name]["shape"], header.get(other, {}).get("shape")
        if len(a) != 2 or b is None or len(b) != 2 or a[0] != card.rank or b[1] != card.rank:
            raise AdapterError("LoRA shapes do not fit the card", place=f"{path / WEIGHTS}, {name}", found=f"{a} and {b}", valid=f"rank {card.rank}")
    return Adapter(adapter_id(card), path, card)


def check_base(adapter: Adapter, base_id: str, revision: str) -> None:
    """Raises AdapterError when the adapter was trained on another base than the one that runs."""
    ref = adapter.card.base
    if (ref.id, ref.revision) != (base_id, revision):
        raise AdapterError(
            "adapter and base do not match",
            place=str(adapter.path),
            found=f"trained on {ref.id} at {ref.revision[:12]}, running {base_id} at {revision[:12]}",
            valid=f"start with --base {ref.id}",
        )


def write_card(path: Path, card: Card) -> None:
    """Write card.json into a directory that already holds the other files: the last step of making an adapter."""
    from tell.files import write_atomic

    write_atomic(path / CARD, card.dump())
