#!/usr/bin/env bash
# ctranslate2 4.8.5, compute type int8, on an x86 processor with AVX2 and without VNNI (AVX-512 VNNI or AVX VNNI).
#
# Guess before looking: int8 gives about the same numbers whichever library multiplies, since both are exact integer products.
# Seen: they are not. oneDNN, which ctranslate2 chooses on processors that are not Intel's, adds pairs of products in 16 bits and cuts them off, so a linear
# layer whose products add up comes out wrong: logits 0.064 from float32 in the mean, where MKL (CT2_USE_MKL=1) is 0.002 from it. Nothing warns of it.
# MKL is no way out: on an AMD EPYC with AVX2 it took ten times as long as oneDNN. The variable is read once, when the library loads: set later it does nothing.
#
# Where the processor has VNNI, or is Intel's, this says so and checks nothing (exit 0).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if ! grep -qw avx2 /proc/cpuinfo || grep -qwE 'avx512_vnni|avx_vnni' /proc/cpuinfo || grep -q GenuineIntel /proc/cpuinfo; then
    echo "not checked: this processor has VNNI, or no AVX2, or is Intel's"
    exit 0
fi

python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check 'ctranslate2==4.8.5' 'numpy==2.2.6'

cat > "$folder/measure.py" <<'PYTHON'
"""A decoder of one layer with chosen weights, its logits in int8 against the same model's in float32: prints the mean difference in nats."""

import json
import sys

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerDecoderModelSpec, common_spec

WORDS, WIDTH, HEADS = 64, 256, 4
draw = np.random.default_rng(1)


def weights(rows, columns):
    # Nearly the same sign everywhere, as a layer's weights for one strong feature are: the products add up.
    return (0.05 + 0.01 * draw.standard_normal((rows, columns))).astype("float32")


def write(path):
    model = TransformerDecoderModelSpec.from_config(
        num_layers=1, num_heads=HEADS, pre_norm=True, activation=common_spec.Activation.RELU, rms_norm=True
    )
    decoder = model.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = np.abs(draw.standard_normal((WORDS, WIDTH))).astype("float32") + 0.5
    decoder.position_encodings.encodings = np.zeros((32, WIDTH), dtype="float32")
    decoder.projection.weight = draw.standard_normal((WORDS, WIDTH)).astype("float32") * 0.05
    decoder.layer_norm.gamma = np.ones(WIDTH, dtype="float32")
    layer = decoder.layer[0]
    for norm in (layer.self_attention.layer_norm, layer.ffn.layer_norm):
        norm.gamma = np.ones(WIDTH, dtype="float32")
    layer.self_attention.linear[0].weight = weights(3 * WIDTH, WIDTH)
    layer.self_attention.linear[0].bias = np.zeros(3 * WIDTH, dtype="float32")
    layer.self_attention.linear[1].weight = weights(WIDTH, WIDTH)
    layer.self_attention.linear[1].bias = np.zeros(WIDTH, dtype="float32")
    layer.ffn.linear_0.weight = weights(4 * WIDTH, WIDTH)
    layer.ffn.linear_0.bias = np.zeros(4 * WIDTH, dtype="float32")
    layer.ffn.linear_1.weight = weights(WIDTH, 4 * WIDTH) * draw.choice([-1.0, 1.0], size=(WIDTH, 1)).astype("float32")
    layer.ffn.linear_1.bias = np.zeros(WIDTH, dtype="float32")
    model.config.unk_token, model.config.bos_token, model.config.eos_token = "w0", "w1", "w2"
    model.register_vocabulary([f"w{i}" for i in range(WORDS)])
    model.validate()
    model.optimize(quantization="int8")
    model.save(path)


if sys.argv[1] == "write":
    write(sys.argv[2])
else:
    words = [[f"w{i}" for i in range(3, 23)]]
    logits = {}
    for kind in ("float32", "int8"):
        generator = ctranslate2.Generator(sys.argv[2], compute_type=kind)
        logits[kind] = np.array(generator.forward_batch(words, return_log_probs=True))
    print(json.dumps(float(np.abs(logits["float32"] - logits["int8"]).mean())))
PYTHON

run() { "$folder/env/bin/python" "$folder/measure.py" "$@"; }
mkdir "$folder/model"
run write "$folder/model"
onednn=$(CT2_USE_MKL=0 run measure "$folder/model")
mkl=$(CT2_USE_MKL=1 run measure "$folder/model")
echo "ctranslate2 4.8.5, int8 against float32, mean nats: oneDNN $onednn, MKL $mkl"
python3 - "$onednn" "$mkl" <<'PYTHON'
import sys

onednn, mkl = map(float, sys.argv[1:])
if not onednn > 4 * mkl:
    raise SystemExit("the behaviour has changed: oneDNN is no worse than MKL by the factor that was seen")
PYTHON
