"""Poisoned adapter directories: each is refused with its reason, by the registry and by a running service, and the old version goes on answering.

A service's engine is never asked to load one: what it would do with a pickle or a NaN is not waited for.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.engines import checkpoint
from tell.adapter.card import CARD, CONFIG, WEIGHTS, Adapter, adapter_id, open_adapter, read_card, write_card
from tell.adapter.weights import BLOCK, all_finite, check_weights
from tell.errors import AdapterError, EngineError, TellmtError
from tell.files import sha256_file, write_atomic
from tell.registry.registry import Registry
from tests.support.fake_engine import FakeEngine
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Running, publish, running, until

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
        found = json.loads((path / CARD).read_text())
        (path / CARD).write_text(json.dumps({**found, **fields}))

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


class Careful(FakeEngine):
    """Notes what it was asked to load."""

    asked: list[str]

    async def load(self, adapter_id: str, path: Path) -> None:
        self.asked = [*getattr(self, "asked", []), adapter_id]
        await super().load(adapter_id, path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Registry, str]]:
    root = tmp_path_factory.mktemp("poison")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    old = publish(registry, light_adapter(root / "good", base, seed=1))
    with running(base, registry, Careful) as found:
        yield found, registry, old


def poisoned(registry: Registry, root: Path, name: str, poison: Callable[[Path], None]) -> str:
    """Puts it where a registry keeps its adapters, past everything that `add` would have refused. Returns the id it lies under."""
    adapters = registry.root / "adapters"
    made = light_adapter(root / "made", light_base(root / "cache"), seed=2, rank=RANK)
    path = adapters / made.id
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(made.path, path)
    poison(path)
    if name in KEEPS_NAME or path.is_symlink():
        return made.id
    try:
        id = adapter_id(read_card(path))
    except AdapterError:
        return made.id
    if id != made.id:
        shutil.rmtree(adapters / id, ignore_errors=True)
        path.rename(adapters / id)
    return id


@pytest.mark.parametrize(("name", "poison", "wanted"), POISONS, ids=[p[0] for p in POISONS])
def test_poison(served: tuple[Running, Registry, str], tmp_path: Path, name: str, poison: Callable[[Path], None], wanted: str) -> None:
    found, registry, old = served
    state = registry.root / "pairs" / "is-en.json"
    before = state.read_bytes()
    id = poisoned(registry, tmp_path, name, poison)
    lying = registry.root / "adapters" / id
    try:
        with pytest.raises(TellmtError) as e:
            registry.adapter(id)
        assert wanted in str(e.value) and len(str(e.value)) < 1000 and str(e.value).replace("\n", "").isprintable()
        with pytest.raises(TellmtError):
            registry.promote("is-en", id, "why")
        assert state.read_bytes() == before and registry.state("is-en").live == old

        # Somebody writes it into the state by hand.
        aside = state.with_name(".next")
        aside.write_text(json.dumps({**json.loads(before), "live": id, "generation": 99}))
        aside.rename(state)
        status = until(lambda: (s := found.status())["state"] == "refused" and s["wanted"] == id and s)
        assert wanted in status["reason"] and status["adapter"] == old
        assert found.texts("a") == [f"<{old[:8]}>a"]
        assert set(found.engine.asked) == {old} and found.engine.loaded() == [old]
        assert not list(registry.root.rglob("sprung"))
    finally:
        aside = state.with_name(".back")
        aside.write_bytes(before)
        aside.rename(state)
        until(lambda: found.status()["state"] == "live")
        if lying.is_symlink():
            lying.unlink()
        shutil.rmtree(lying, ignore_errors=True)
        for left in (registry.root / "adapters").glob(".real-*"):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


@pytest.mark.parametrize("name", ["a pickle beside the weights", "a folder inside"])
def test_what_lies_beside_an_adapter_is_not_published_with_it(tmp_path: Path, name: str) -> None:
    """A training directory may hold other things; they stay where they are."""
    poison = next(p[1] for p in POISONS if p[0] == name)
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"))
    poison(a.path)
    registry = Registry(tmp_path / "registry")
    assert {p.name for p in registry.adapter(registry.add(a.path, a.card)).path.iterdir()} == {WEIGHTS, CONFIG, CARD}


INSIDE = [p for p in POISONS if "no part of" not in p[2]]


@pytest.mark.parametrize(("name", "poison", "wanted"), INSIDE, ids=[p[0] for p in INSIDE])
def test_none_comes_in_by_the_front_door(tmp_path: Path, name: str, poison: Callable[[Path], None], wanted: str) -> None:
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"), rank=RANK)
    poison(a.path)
    registry = Registry(tmp_path / "registry")
    if name in ("another card", "a directory behind a link"):
        # Its owner may do either in a directory of his own.
        assert registry.adapter(registry.add(a.path, read_card(a.path))).card.pair == "is-en"
        return
    with pytest.raises(AdapterError) as e:
        registry.add(a.path, a.card)
    assert wanted in str(e.value)
    assert registry.ids() == [] and not list(tmp_path.rglob("sprung"))


def test_a_card_of_another_pair(served: tuple[Running, Registry, str], tmp_path: Path) -> None:
    found, registry, old = served
    other = light_adapter(tmp_path / "other", light_base(tmp_path / "cache"), "en-is", seed=5)
    id = registry.add(other.path, other.card)
    with pytest.raises(TellmtError, match="this adapter is for another pair"):
        registry.promote("is-en", id, "why")
    state = registry.root / "pairs" / "is-en.json"
    before = state.read_bytes()
    write_atomic(state, json.dumps({**json.loads(before), "live": id}))
    status = until(lambda: (s := found.status())["state"] == "refused" and s)
    assert "this adapter is for another pair" in status["reason"] and status["adapter"] == old
    write_atomic(state, before.decode())
    until(lambda: found.status()["state"] == "live")
    assert set(found.engine.asked) == {old}


@pytest.mark.parametrize("pair", ["../x", "is", "is-en/../../x", "\x00-en", "is-is", ""])
def test_a_card_of_no_pair(tmp_path: Path, pair: str) -> None:
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"))
    sign(a.path, pair=pair)
    registry = Registry(tmp_path / "registry")
    with pytest.raises(TellmtError):
        registry.add(a.path, read_card(a.path))
    assert registry.ids() == []


# What the base says of the shapes


def _opened(a: Adapter, shapes: dict[str, list[int]], **more: Any) -> Adapter:
    return checkpoint.open_fitting(light_base(a.path.parent / "cache"), shapes, more.get("id", a.id), a.path, more.get("rank", 16))


def test_shapes_that_do_not_fit_the_base(tmp_path: Path) -> None:
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"))
    assert _opened(a, {"layers.0.self_attn.q_proj": [8, 8]}).id == a.id
    for shapes in ({"layers.0.self_attn.q_proj": [8, 9]}, {"layers.0.self_attn.q_proj": [9, 8]}, {"layers.1.self_attn.q_proj": [8, 8]}):
        with pytest.raises(AdapterError, match=r"the shape does not fit the base|the base has no such module"):
            _opened(a, shapes)
    with pytest.raises(AdapterError, match="the adapter's rank cannot be served"):
        _opened(a, {"layers.0.self_attn.q_proj": [8, 8]}, rank=2)
    with pytest.raises((AdapterError, EngineError), match="another adapter"):
        _opened(a, {"layers.0.self_attn.q_proj": [8, 8]}, id="0" * 32)


# Values


FORMATS = {"F16": ("<e", 2), "F32": ("<f", 4), "F64": ("<d", 8)}


@pytest.mark.parametrize("dtype", ["F16", "F32", "F64", "BF16"])
def test_every_number_passes_and_nothing_else(dtype: str) -> None:
    bits = {"F16": (5, 10), "BF16": (8, 7), "F32": (8, 23), "F64": (11, 52)}[dtype]
    exponent, fraction = bits
    size = (1 + exponent + fraction) // 8
    top = (1 << exponent) - 1
    for sign_ in (0, 1):
        for e in (0, 1, top - 1, top):
            for f in (0, 1, 1 << (fraction - 1), (1 << fraction) - 1):
                raw = (sign_ << (exponent + fraction) | e << fraction | f).to_bytes(size, "little")
                if dtype in FORMATS:
                    assert math.isfinite(struct.unpack(FORMATS[dtype][0], raw)[0]) == (e != top)
                # Among neighbours of every kind, and alone: nothing carries over from one value to the next.
                for other in (0, (1 << (8 * size)) - 1 - (1 << fraction), 1):
                    fill = other.to_bytes(size, "little")
                    for at in (0, 1, 7):
                        assert all_finite(fill * at + raw + fill * (7 - at), dtype) == (e != top), (dtype, raw.hex(), fill.hex(), at)


@pytest.mark.parametrize("at", [0, BLOCK // 4 - 1, BLOCK // 4, 3 * BLOCK // 4 - 1, 100_003])
def test_one_value_is_found_wherever_it_stands(tmp_path: Path, at: int) -> None:
    """Blocks are 64 KiB; the tensor is not a whole number of them, and neither is what lies before it."""
    shape = [RANK, 40_001]
    size = 4 * RANK * 40_001
    header = {A: tensor([RANK, 3], 0, 48), B: tensor(shape, 48, 48 + size)}
    good = safetensors(header, struct.pack("<f", 1.5) * (12 + RANK * 40_001))
    path = tmp_path / WEIGHTS
    path.write_bytes(good)
    assert list(check_weights(path, sha256_file(path))) == [A, B]
    begin = len(good) - size + 4 * at
    path.write_bytes(good[:begin] + NAN32 + good[begin + 4 :])
    with pytest.raises(AdapterError, match=r"lora_B\.weight: the weights hold values that are not numbers"):
        check_weights(path, sha256_file(path))
    with pytest.raises(AdapterError, match="altered"):
        check_weights(path, sha256_file(path)[::-1])


def test_a_large_file_is_checked_in_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    size = 64 << 20
    path = tmp_path / WEIGHTS
    path.write_bytes(safetensors({A: tensor([RANK, size // 16], 0, size)}, bytes(size)))
    digest = sha256_file(path)
    tracemalloc.start()
    check_weights(path, digest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_good_adapter_is_none_of_these(tmp_path: Path) -> None:
    """So that no test above passes because everything is refused."""
    a = light_adapter(tmp_path / "a", light_base(tmp_path / "cache"), rank=RANK)
    weights({**GOOD, MARK: {"format": "pt"}})(a.path)
    for dtype, raw in (("F32", struct.pack("<f", -3.4e38)), ("F16", struct.pack("<e", 65504)), ("BF16", struct.pack("<H", 0xFF7F)), ("F64", bytes(8))):
        values(dtype, raw)(a.path)
        assert open_adapter(a.path).card.rank == RANK
