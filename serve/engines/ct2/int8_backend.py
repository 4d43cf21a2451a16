"""Which library ctranslate2 multiplies int8 matrices with, where its own choice computes something else.

Reads what the processor can do; sets CT2_USE_MKL before ctranslate2 is loaded, unless the user has set it.
"""

from __future__ import annotations

import os

from tell.machine import processor_flags

VARIABLE = "CT2_USE_MKL"
# Instructions that add the products of int8 numbers in 32 bits.
EXACT = {"avx512_vnni", "avx_vnni"}


def choose_int8_backend() -> None:
    """Take MKL where oneDNN would add int8 products in 16 bits.

    On processors that are not Intel's, ctranslate2 4.8.5 takes oneDNN. Without VNNI that one adds pairs of products in 16 bits (vpmaddubsw), cut off
    at 32,767: a tiny Gemma 3 in int8 was 0.256 nats a token from float32 on an AMD EPYC with AVX2, and with MKL 0.038 (docs/results/serve-
    engines.md).
    """
    flags = processor_flags()
    if "avx2" in flags and not flags & EXACT:
        os.environ.setdefault(VARIABLE, "1")
