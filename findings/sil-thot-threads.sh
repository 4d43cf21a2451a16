#!/usr/bin/env bash
# sil-thot 3.5.3, FastAlignModel, on a machine with two cores or more.
#
# Guess before looking: EM has no random numbers, so the same pairs give the same alignments each time.
# Seen: they do not. Three runs over the same 4,000 pairs gave three different sets of alignments, with the same lexical probabilities; with OMP_NUM_THREADS=1 all
# runs are equal. The variable is read when the library loads (its own copy of libgomp): set after the import it does nothing. Nothing in the API sets threads or
# a seed for this model.
#
# On one core this says so and checks nothing (exit 0).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ "$(nproc)" -lt 2 ]; then
    echo "not checked: this machine has one core"
    exit 0
fi
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check 'sil-thot==3.5.3'
cat > "$folder/align.py" <<'PYTHON'
"""Aligns 4,000 made pairs, whose words are in another order on the other side, and prints a hash of the alignments."""

import hashlib
import random

from thot.alignment import FastAlignModel

draw = random.Random(1)
pairs = []
for _ in range(4000):
    words = [min(int(draw.expovariate(0.01)), 900) for _ in range(draw.randint(5, 25))]
    target = [w for w in words if draw.random() < 0.9]
    draw.shuffle(target)
    pairs.append(([f"s{w}" for w in words], [f"t{w}" for w in target] or ["t"]))
model = FastAlignModel()
model.variational_bayes = True
for source, target in pairs:
    model.add_sentence_pair(source, target)
model.start_training()
for _ in range(5):
    model.train()
model.end_training()
found = [matrix.to_list() for _, matrix in model.get_best_alignments([s for s, _ in pairs], [t for _, t in pairs])]
print(hashlib.sha256(repr(found).encode()).hexdigest()[:12])
PYTHON

runs() { for _ in 1 2 3 4; do "$folder/env/bin/python" "$folder/align.py"; done | sort -u | wc -l; }
many=$(env -u OMP_NUM_THREADS bash -c "$(declare -f runs); folder=$folder; runs")
one=$(OMP_NUM_THREADS=1 bash -c "$(declare -f runs); folder=$folder; runs")
echo "sil-thot 3.5.3, four runs each: $many different results with all threads, $one with one"
if [ "$one" != 1 ]; then
    echo "the behaviour has changed: one thread is not enough" >&2
    exit 1
fi
if [ "$many" = 1 ]; then
    echo "the behaviour has changed: several threads give the same alignments" >&2
    exit 1
fi
