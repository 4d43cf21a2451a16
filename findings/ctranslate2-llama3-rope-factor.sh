#!/usr/bin/env bash
# ctranslate2 4.8.5 with transformers 5.19, a Llama whose positions are scaled as Llama 3.1's and 3.2's are (rope_type "llama3").
#
# Guess before looking: a converter that declares the scaling of a model writes all of its numbers, or refuses the model.
# Seen: TransformersConverter writes the kind of scaling (llama3) and its low and high frequency factors, and leaves out the factor itself and the original
# length, for which the engine then takes others. The model converts and loads without a word and computes other positions than the one that it was made of:
# log-probabilities of a small random model of this class are 0.1 and more from transformers' own, 1e-5 with plain positions. With the two numbers added to
# the specification before it is written, the engine, which knows them, is right too.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
# On Linux the general build of torch brings CUDA libraries; one for processors alone is taken where the package indexes set up here have it.
"$folder/env/bin/pip" install -q --disable-pip-version-check 'ctranslate2==4.8.5' 'transformers==5.19.0' 'torch==2.13.0' 'numpy==2.2.6'

cat > "$folder/measure.py" <<'PYTHON'
"""The largest difference of log-probabilities between transformers and ctranslate2: plain positions, scaled ones, scaled ones with what was left out."""

import sys
from pathlib import Path

import ctranslate2
import numpy as np
import torch
from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS, LENGTH = 256, 300
SCALED = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


class Completed(TransformersConverter):
    """Adds the two numbers that the converter leaves out."""

    def _load(self):
        spec = super()._load()
        for layer in spec.decoder.layer:
            # The specification refuses attributes that it did not begin with, and writes all that it has.
            object.__setattr__(layer.self_attention, "rotary_scaling_factor", np.float32(SCALED["factor"]))
            object.__setattr__(layer.self_attention, "original_max_position_embeddings", np.int32(SCALED["original_max_position_embeddings"]))
        return spec


def difference(folder, rope, converter):
    torch.manual_seed(1)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=WORDS, max_position_embeddings=512, initializer_range=0.2, rope_parameters=rope, **sizes)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder / "model")
    names = [f"w{i}" for i in range(WORDS)]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0", bos_token="w1", eos_token="w2").save_pretrained(folder / "model")
    converter(str(folder / "model")).convert(str(folder / "written"), force=True)
    ids = torch.randint(3, WORDS, (LENGTH,), generator=torch.Generator().manual_seed(2)).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
    generator = ctranslate2.Generator(str(folder / "written"), compute_type="float32")
    written = np.array(generator.forward_batch([[names[i] for i in ids]], return_log_probs=True))[0]
    return float(np.abs(expected - written[:, :WORDS]).max())


place = Path(sys.argv[1])
plain = difference(place / "plain", PLAIN, TransformersConverter)
scaled = difference(place / "scaled", SCALED, TransformersConverter)
completed = difference(place / "completed", SCALED, Completed)
print(f"ctranslate2 4.8.5 against transformers, largest difference in nats: plain {plain:.1g}, llama3 {scaled:.1g}, llama3 with its factor {completed:.1g}")
if not (plain < 1e-3 and completed < 1e-3 and scaled > 0.1):
    raise SystemExit("the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/measure.py" "$folder" 2> "$folder/errors" || { tail -5 "$folder/errors"; exit 1; }
