"""The check of an adapter's values: every finite number is accepted, and one NaN or infinity is found wherever it stands."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from tell.adapter.card import WEIGHTS
from tell.adapter.weights import BLOCK, all_finite, check_weights
from tell.errors import AdapterError
from tell.files import sha256_file
from tests.support.poisons import NAN32, RANK, A, B, safetensors, tensor

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
