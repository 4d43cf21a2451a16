"""Poisoned adapter directories: functions that spoil a good one, and the message with which each must be refused."""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import CARD, CONFIG, WEIGHTS, read_card, write_card
from tell.files import sha256_file

STEM = "base_model.model.model.layers.0.self_attn.q_proj"
A, B = f"{STEM}.lora_A.weight", f"{STEM}.lora_B.weight"
RANK = 4


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def safetensors(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(shape: list[Any], begin: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, stop]}


GOOD = {A: tensor([RANK, 8], 0, 128), B: tensor([8, RANK], 128, 256)}


def sign(path: Path, **fields: Any) -> None:
    """A card that vouches for the files as they are: whoever makes a poisoned adapter signs it properly."""
    card = read_card(path)
    write_card(path, card.model_copy(update={"files": {n: sha256_file(path / n) for n in (WEIGHTS, CONFIG)}, **fields}))


def weights(header: dict[str, Any] | bytes, data: bytes = bytes(256), **fields: Any) -> Callable[[Path], None]:
    def poison(path: Path) -> None:
        (path / WEIGHTS).write_bytes(safetensors(header, data))
        sign(path, **fields)

    return poison


def values(dtype: str, raw: bytes) -> Callable[[Path], None]:
    """Weights of this type with one value, the last but one of lora_B, that is `raw`."""
    n = len(raw)
    size = RANK * 8 * n
    header = {A: tensor([RANK, 8], 0, size, dtype), B: tensor([8, RANK], size, 2 * size, dtype)}
    return weights(header, bytes(2 * size - 2 * n) + raw + bytes(n))


def card(**fields: Any) -> Callable[[Path], None]:
    def poison(path: Path) -> None:
        text = (path / CARD).read_text()
        (path / CARD).write_text(json.dumps({**json.loads(text), **fields}))

    return poison


def raw_file(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(data) and None


def config(data: bytes) -> Callable[[Path], None]:
    def poison(path: Path) -> None:
        (path / CONFIG).write_bytes(data)
        sign(path)

    return poison


def pickle_instead(path: Path) -> None:
    (path / WEIGHTS).unlink()
    (path / "adapter_model.bin").write_bytes(pickle.dumps(Trap(path.parent / "sprung")))


def pickle_as(name: str, signed: bool) -> Callable[[Path], None]:
    def poison(path: Path) -> None:
        (path / name).write_bytes(pickle.dumps(Trap(path.parent / "sprung")) + bytes(100))
        if signed:
            sign(path)

    return poison


def linked(name: str) -> Callable[[Path], None]:
    def poison(path: Path) -> None:
        real = path.parent / f".real-{name}"
        (path / name).rename(real)
        (path / name).symlink_to(real)

    return poison


def linked_directory(path: Path) -> None:
    real = path.parent / f".real-{path.name}"
    path.rename(real)
    path.symlink_to(real)


def linked_device(path: Path) -> None:
    (path / CARD).unlink()
    (path / CARD).symlink_to("/dev/zero")


def fifo(name: str) -> Callable[[Path], None]:
    def poison(path: Path) -> None:
        (path / name).unlink()
        os.mkfifo(path / name)

    return poison


def sparse(name: str) -> Callable[[Path], None]:
    return lambda path: os.truncate(path / name, 10 << 30)


def altered(name: str) -> Callable[[Path], None]:
    def poison(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[-3] ^= 1
        (path / name).write_bytes(bytes(data))

    return poison


def unreadable(name: str) -> Callable[[Path], None]:
    def poison(path: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root reads files whatever their permissions are")
        (path / name).chmod(0)

    return poison


def renamed_card(path: Path) -> None:
    """Whole in itself, but under the name of other content."""
    write_card(path, read_card(path).model_copy(update={"seed": 77}))


def twin_keys(path: Path) -> None:
    text = (path / CARD).read_text()
    (path / CARD).write_text('{"rank": 4, ' + text.lstrip().removeprefix("{"))


NAN16, NAN32 = struct.pack("<H", 0x7FC0), struct.pack("<f", math.nan)
MARK = "__metadata__"
POISONS: list[tuple[str, Callable[[Path], None], str]] = [
    ("a pickle instead of the weights", pickle_instead, f"no {WEIGHTS}"),
    ("a pickle under the name of the weights", pickle_as(WEIGHTS, True), "not a safetensors file"),
    ("a pickle beside the weights", pickle_as("adapter_model.bin", False), "no part of an adapter; found 'adapter_model.bin'"),
    ("new embeddings beside the weights", pickle_as("new_embeddings.bin", False), "no part of an adapter; found 'new_embeddings.bin'"),
    ("a Python file", raw_file("modeling.py", b"import os"), "no part of an adapter; found 'modeling.py'"),
    ("a folder inside", lambda p: (p / "checkpoint-1").mkdir(), "no part of an adapter; found 'checkpoint-1'"),
    ("weights behind a link", linked(WEIGHTS), "not a regular file"),
    ("a configuration behind a link", linked(CONFIG), "not a regular file"),
    ("a card behind a link", linked(CARD), "not a regular file"),
    ("a directory behind a link", linked_directory, "not a directory"),
    ("a link to a device", linked_device, "not a regular file"),
    ("files named with ..", card(files={f"../{WEIGHTS}": "0" * 64, CONFIG: "0" * 64}), "the card names other files"),
    ("files named absolutely", card(files={"/etc/passwd": "0" * 64, CONFIG: "0" * 64}), "the card names other files"),
    ("files beyond the two", card(files={WEIGHTS: "0" * 64, CONFIG: "0" * 64, "x.py": "0" * 64}), "the card names other files"),
    ("a header longer than the file", raw_file(WEIGHTS, struct.pack("<Q", 1 << 20) + bytes(100)), "not a safetensors file"),
    ("a header of 2^63 bytes", raw_file(WEIGHTS, struct.pack("<Q", 1 << 63) + bytes(100)), "not a safetensors file"),
    ("a header above the limit", lambda p: weights(b"{" + b" " * (17 << 20) + b"}", b"")(p), "not a safetensors file"),
    ("tensors that overlap", weights({A: tensor([RANK, 8], 0, 128), B: tensor([8, RANK], 64, 192)}, bytes(192)), "header is damaged"),
    ("tensors in the same place", weights({A: tensor([RANK, 8], 0, 128), B: tensor([8, RANK], 0, 128)}, bytes(128)), "header is damaged"),
    ("a gap before a tensor", weights({A: tensor([RANK, 8], 8, 136), B: tensor([8, RANK], 136, 264)}, bytes(264)), "header is damaged"),
    ("a gap between tensors", weights({A: tensor([RANK, 8], 0, 128), B: tensor([8, RANK], 136, 264)}, bytes(264)), "header is damaged"),
    ("a tensor beyond the end", weights(GOOD, bytes(200)), "cut short or too long"),
    ("bytes after the last tensor", weights(GOOD, bytes(300)), "cut short or too long"),
    ("a shape larger than its bytes", weights({A: tensor([RANK, 1 << 40], 0, 128), B: GOOD[B]}), "header is damaged"),
    ("a shape smaller than its bytes", weights({A: tensor([RANK, 2], 0, 128), B: GOOD[B]}), "header is damaged"),
    ("a shape of booleans", weights({A: tensor([True, 32], 0, 128), B: GOOD[B]}), "header is damaged"),
    ("a shape of fractions", weights({A: tensor([RANK, 8.0], 0, 128), B: GOOD[B]}), "header is damaged"),
    ("a negative shape", weights({A: tensor([-4, -8], 0, 128), B: GOOD[B]}), "header is damaged"),
    ("weights of whole numbers", weights({A: tensor([RANK, 8], 0, 128, "I32"), B: GOOD[B]}), "header is damaged"),
    ("an unheard-of type", weights({A: tensor([RANK, 8], 0, 128, "F7"), B: GOOD[B]}), "header is damaged"),
    ("one tensor twice", weights((json.dumps(GOOD)[:-1] + ", " + json.dumps(GOOD)[1:]).encode()), "a key that stands twice"),
    ("a name of a megabyte", weights({**GOOD, "x" * (1 << 20): tensor([0], 256, 256)}), "a tensor's name of 1048576 characters"),
    ("a name that commands the terminal", weights({**GOOD, "\x1b[2J": tensor([0], 256, 256)}), "a tensor's name"),
    ("a deep header", weights(b"[" * 200_000, b""), "header is damaged"),
    ("a deep header in its place for remarks", weights(b'{"__metadata__": ' + b"[" * 200_000, b""), "header is damaged"),
    ("a deep configuration", config(b"[" * 200_000), "configuration cannot be read"),
    ("a configuration that is a list", config(b"[]"), "configuration cannot be read"),
    ("a configuration with a key twice", config(b'{"r": 4, "peft_type": "LORA", "r": 400}'), "configuration cannot be read"),
    ("a deep card", raw_file(CARD, b'{"notes": ' + b"[" * 200_000), "the card cannot be read"),
    ("a deep and closed card", raw_file(CARD, b'{"notes": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"), "the card cannot be read"),
    ("a card with a number of a million digits", raw_file(CARD, b'{"seed": ' + b"9" * 1_000_000 + b"}"), "the card cannot be read"),
    ("a card with unknown keys", card(auto_map={"AutoModel": "x.Y"}), "auto_map: Extra inputs are not permitted"),
    ("a card with a key twice", twin_keys, "a key that stands twice"),
    ("a card of a rank the weights have not", lambda p: sign(p, rank=8), "LoRA shapes do not fit the card"),
    ("weights of another rank", weights({A: tensor([2, 16], 0, 128), B: tensor([16, 2], 128, 256)}), "LoRA shapes do not fit the card"),
    ("A and B that do not go together", weights({A: tensor([RANK, 8], 0, 128), B: tensor([RANK, 8], 128, 256)}), "LoRA shapes do not fit the card"),
    ("half of a pair", weights({A: GOOD[A]}, bytes(128)), "LoRA shapes do not fit the card"),
    ("three dimensions", weights({A: tensor([RANK, 2, 4], 0, 128), B: GOOD[B]}), "LoRA shapes do not fit the card"),
    ("no tensor at all", weights({}, b""), "no LoRA weights"),
    ("NaN in float32", values("F32", NAN32), "not numbers"),
    ("a NaN with a sign and a payload", values("F32", struct.pack("<I", 0xFF800001)), "not numbers"),
    ("infinity in float32", values("F32", struct.pack("<f", math.inf)), "not numbers"),
    ("minus infinity in float16", values("F16", struct.pack("<e", -math.inf)), "not numbers"),
    ("NaN in float16", values("F16", struct.pack("<e", math.nan)), "not numbers"),
    ("NaN in bfloat16", values("BF16", NAN16), "not numbers"),
    ("infinity in bfloat16", values("BF16", struct.pack("<H", 0xFF80)), "not numbers"),
    ("NaN in float64", values("F64", struct.pack("<d", math.nan)), "not numbers"),
    ("a byte of the weights changed", altered(WEIGHTS), "altered since its card was written"),
    ("a byte of the configuration changed", altered(CONFIG), "altered since its card was written"),
    ("another card", renamed_card, "does not have the hash it is named by"),
    ("a pipe for weights", fifo(WEIGHTS), "not a regular file"),
    ("a pipe for a card", fifo(CARD), "not a regular file"),
    ("weights of 10 GB that take no room", sparse(WEIGHTS), "too large"),
    ("a configuration of 10 GB", sparse(CONFIG), "too large"),
    ("a card of 10 GB", sparse(CARD), "too large"),
    ("weights that may not be read", unreadable(WEIGHTS), "cannot be read"),
    ("a card that may not be read", unreadable(CARD), "cannot be read"),
]
# Signed anew they have an id of their own; what keeps the old name is damage, or tampering after publication.
KEEPS_NAME = {"another card"}
