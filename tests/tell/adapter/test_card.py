"""Adapter directories: what is verified before an adapter is used, and what the message says when it fails."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tell.adapter.card import CARD, CONFIG, WEIGHTS, Adapter, adapter_id, check_base, open_adapter, read_card, read_header, write_card
from tell.errors import AdapterError
from tell.files import sha256_file
from tests.support.fake_eval_engine import light_adapter, light_base, safetensors

STEM = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapter(tmp_path: Path, isolated: Path) -> Adapter:
    return light_adapter(tmp_path / "adapter", light_base(isolated / "cache"))


def resign(path: Path, **fields: object) -> None:
    """A card that vouches for the files as they are now: what a careless tool, not a disk error, would leave."""
    card = read_card(path)
    write_card(path, card.model_copy(update={"files": {n: sha256_file(path / n) for n in (WEIGHTS, CONFIG)}, **fields}))


def weights(path: Path, shapes: dict[str, list[int]]) -> None:
    (path / WEIGHTS).write_bytes(safetensors(shapes))
    resign(path)


def test_the_id_is_the_content(adapter: Adapter, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "b"
    shutil.copytree(adapter.path, moved)
    assert open_adapter(moved).id == adapter.id and len(adapter.id) == 32
    # the card's formatting is not its content
    (moved / CARD).write_text(json.dumps(json.loads((moved / CARD).read_text())))
    assert open_adapter(moved).id == adapter.id
    for field, value in (("seed", 9), ("notes", ["x"]), ("recipe", {"a": 1}), ("scores", [{"name": "t"}]), ("verdict", {"passed": True})):
        assert adapter_id(adapter.card.model_copy(update={field: value})) != adapter.id


def _cut(name: str, keep: int) -> Callable[[Path], None]:
    def break_(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[:keep] if keep >= 0 else data[: len(data) + keep])

    return break_


def _alter(name: str) -> Callable[[Path], None]:
    def break_(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[-2] ^= 1
        (path / name).write_bytes(bytes(data))

    return break_


def _link(name: str) -> Callable[[Path], None]:
    def break_(path: Path) -> None:
        target = path.parent / f"real-{name}"
        (path / name).rename(target)
        (path / name).symlink_to(target)

    return break_


def _fifo(path: Path) -> None:
    (path / WEIGHTS).unlink()
    os.mkfifo(path / WEIGHTS)


def _header(text: bytes) -> Callable[[Path], None]:
    def break_(path: Path) -> None:
        (path / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text)
        resign(path)

    return break_


def _sparse(path: Path) -> None:
    with (path / CARD).open("r+b") as f:
        f.truncate(5 << 20)


BROKEN: list[tuple[str, Callable[[Path], None], str]] = [
    ("no card: half-written", lambda p: (p / CARD).unlink(), f"no {CARD}"),
    ("no weights", lambda p: (p / WEIGHTS).unlink(), f"no {WEIGHTS}"),
    ("no config", lambda p: (p / CONFIG).unlink(), f"no {CONFIG}"),
    ("an empty directory", lambda p: [f.unlink() for f in p.iterdir()] and None, "incomplete"),
    ("no directory", lambda p: shutil.rmtree(p), "no such adapter directory"),
    ("a byte of the weights", _alter(WEIGHTS), "altered since its card was written"),
    ("a byte of the config", _alter(CONFIG), "altered since its card was written"),
    ("weights cut by one byte", _cut(WEIGHTS, -1), "cut short"),
    ("weights cut in the header", _cut(WEIGHTS, 40), "cut short"),
    ("weights cut in the length", _cut(WEIGHTS, 4), "cut short"),
    ("empty weights", _cut(WEIGHTS, 0), "cut short"),
    ("a card cut short", _cut(CARD, 100), "the card cannot be read"),
    ("a card that is no UTF-8", lambda p: (p / CARD).write_bytes(b"\xff\xfe{}") and None, "the card cannot be read"),
    ("a card that is a list", lambda p: (p / CARD).write_text("[]") and None, "the card cannot be read"),
    ("a card nested too deeply", lambda p: (p / CARD).write_text("[" * 100_000) and None, "the card cannot be read"),
    ("a card too large", _sparse, "too large"),
    ("weights behind a link", _link(WEIGHTS), "not a regular file"),
    ("a config behind a link", _link(CONFIG), "not a regular file"),
    ("a card behind a link", _link(CARD), "not a regular file"),
    ("a pipe for weights", _fifo, "not a regular file"),
    ("a header that is no JSON", _header(b"{nonsense"), "header is damaged"),
    ("a header that is a list", _header(b"[1, 2]"), "header is damaged"),
    ("a header nested too deeply", _header(b"[" * 100_000), "header is damaged"),
    ("a tensor without offsets", _header(b'{"a": {"dtype": "F32"}}'), "header is damaged"),
    ("a tensor without a shape", _header(json.dumps({f"{STEM}.lora_A.weight": {"data_offsets": [0, 0]}}).encode()), "header is damaged"),
    ("a tensor of negative size", _header(b'{"a": {"shape": [-1, 4], "data_offsets": [0, 0]}}'), "header is damaged"),
    ("a tensor that ends before it begins", _header(b'{"a": {"shape": [1, 4], "data_offsets": [9, 0]}}'), "header is damaged"),
    ("no tensors", _header(b"{}"), "no LoRA weights"),
    ("A without B", lambda p: weights(p, {f"{STEM}.lora_A.weight": [4, 8]}), "LoRA shapes do not fit"),
    ("A and B of two ranks", lambda p: weights(p, {f"{STEM}.lora_A.weight": [4, 8], f"{STEM}.lora_B.weight": [8, 2]}), "rank 4"),
    ("another rank than the card's", lambda p: weights(p, {f"{STEM}.lora_A.weight": [2, 8], f"{STEM}.lora_B.weight": [8, 2]}), "rank 4"),
    ("a card of another rank", lambda p: resign(p, rank=8), "rank 8"),
    ("no LoRA at all", lambda p: weights(p, {"model.embed_tokens.weight": [4, 8]}), "no LoRA weights"),
]


@pytest.mark.parametrize(("break_", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_directories(adapter: Adapter, break_: Callable[[Path], None], message: str) -> None:
    break_(adapter.path)
    with pytest.raises(AdapterError) as e:
        open_adapter(adapter.path)
    assert message in str(e.value) and str(adapter.path) in str(e.value)


@pytest.mark.parametrize(
    "change", [{"extra": 1}, {"files": {}}, {"rank": "four"}, {"anchor": {"prefix": "x"}}, {"decoding": {"length_factor": -1}}, {"pair": None}]
)
def test_cards_with_fields_that_do_not_fit(adapter: Adapter, change: dict[str, object]) -> None:
    card = json.loads((adapter.path / CARD).read_text())
    (adapter.path / CARD).write_text(json.dumps(card | change))
    with pytest.raises(AdapterError, match=r"card"):
        open_adapter(adapter.path)


def test_a_card_never_names_files_outside_its_directory(adapter: Adapter, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    card = json.loads((adapter.path / CARD).read_text())
    card["files"] = {"../outside": sha256_file(tmp_path / "outside"), CONFIG: card["files"][CONFIG]}
    (adapter.path / CARD).write_text(json.dumps(card))
    with pytest.raises(AdapterError, match="names other files"):
        open_adapter(adapter.path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda b: struct.pack("<Q", len(b)) + b)))
def test_no_bytes_make_the_header_reader_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    try:
        assert isinstance(read_header(path), dict)
    except AdapterError as e:
        assert str(path) in str(e)


def test_base_and_adapter_must_match(adapter: Adapter) -> None:
    ref = adapter.card.base
    check_base(adapter, ref.id, ref.revision)
    for id, revision in (("other", ref.revision), (ref.id, "0" * 64)):
        with pytest.raises(AdapterError, match="adapter and base do not match") as e:
            check_base(adapter, id, revision)
        assert f"--base {ref.id}" in str(e.value)
