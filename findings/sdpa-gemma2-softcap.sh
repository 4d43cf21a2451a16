#!/usr/bin/env bash
# transformers 5.19 with torch 2.13, Gemma 2 loaded with attn_implementation="sdpa".
#
# Guess before looking: Gemma 2 caps the scores of its attention with a tanh, which torch's scaled_dot_product_attention cannot do, so asking for it raises, or
# falls back to the plain attention, or at least warns.
# Seen: none of the three. The class says that it supports sdpa, the model loads, and the cap is left out without a word: log-probabilities of a small random
# Gemma 2 are those of the same model with attn_logit_softcapping=None, and another 0.1 nats and more from the plain ("eager") attention's.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
# On Linux the general build of torch brings CUDA libraries; one for processors alone is taken where the package indexes set up here have it.
"$folder/env/bin/pip" install -q --disable-pip-version-check 'transformers==5.19.0' 'torch==2.13.0' 'numpy==2.2.6'

cat > "$folder/measure.py" <<'PYTHON'
"""Gemma 2 with and without the cap of its attention, by both kinds of attention."""

import contextlib
import io
import logging
import warnings

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

IDS = torch.randint(3, 256, (1, 64), generator=torch.Generator().manual_seed(2))


def log_probs(attention, cap):
    torch.manual_seed(1)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    config = Gemma2Config(vocab_size=256, initializer_range=0.5, query_pre_attn_scalar=8, attn_logit_softcapping=cap, attn_implementation=attention, **sizes)
    model = Gemma2ForCausalLM(config).eval()
    assert model.config._attn_implementation == attention
    with torch.no_grad():
        return model(IDS).logits[0].log_softmax(-1)


said, handler = io.StringIO(), None
handler = logging.StreamHandler(said)
logging.getLogger("transformers").addHandler(handler)
with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(said):
    warnings.simplefilter("always")
    fused = log_probs("sdpa", 2.0)
words = [str(w.message) for w in caught] + said.getvalue().split("\n")
warned = [w for w in words if "cap" in w.lower() or "attention" in w.lower()]
plain, uncapped = log_probs("eager", 2.0), log_probs("eager", None)
from_plain, from_uncapped = (float((fused - other).abs().max()) for other in (plain, uncapped))
print(f"Gemma 2 by sdpa, largest difference in nats: {from_plain:.1g} from eager, {from_uncapped:.1g} from eager without the cap; warnings about it: {len(warned)}")
if not (from_plain > 0.1 and from_uncapped < 1e-3 and not warned):
    raise SystemExit("the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/measure.py" 2> "$folder/errors" || { tail -5 "$folder/errors"; exit 1; }
