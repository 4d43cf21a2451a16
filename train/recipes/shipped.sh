#!/usr/bin/env bash
# An adapter that comes with tellmt, from corpora to adapters/PAIR. It can be stopped at any point and started again. Run it in the environment (. .venv/bin/activate).
#
#     train/recipes/shipped.sh DATA OUT is-en|en-is
#
# DATA holds en-is/{tell-paper,flores,tatoeba,newstest2021}, ntrex/ and general/p3-train.jsonl.gz; OUT receives every stage's files.
# newstest2021 is only ever scored, once: every corpus is cleaned against both of its directions, and no choice was made on it. The gate looks at
# a dev split of NTREX, and the published adapter, with its scores and verdict on its card, is what is copied.
set -euo pipefail
data=$1 out=$2/$3 pair=$3
here=$(dirname "$0")
recipe=$here/$pair.toml
news=$data/en-is/newstest2021
against=()
for f in is-en.src.is is-en.ref.A.en en-is.src.en en-is.ref.A.is; do against+=("$news/newstest2021.$f"); done
if [ "$pair" = is-en ]; then sides=(is en isl eng); else sides=(en is eng isl); fi
build() { tellmt corpus build --against "${against[@]}" --pair "$pair" --test 0 "$@"; }

tellmt base fetch gemma-3-270m
build "$data/en-is/tell-paper/dev-is-en.jsonl" --dev 0 -o "$out/dev1"
build "$data/en-is/tell-paper/dev-en-is.jsonl" --dev 0 -o "$out/dev2"
build "$data/en-is/flores/flores.is-en.${sides[0]}" "$data/en-is/flores/flores.is-en.${sides[1]}" --dev 0 -o "$out/flores"
build "$data/ntrex/ntrex.${sides[2]}.txt" "$data/ntrex/ntrex.${sides[3]}.txt" --docs "$data/ntrex/DOCUMENT_IDS.tsv" --dev 100 -o "$out/ntrex"
build "$data/en-is/tatoeba/tatoeba.en-is.tsv" --columns en,is --dev 0 -o "$out/tatoeba"
corpora=()
for c in dev1 dev2 flores ntrex tatoeba; do corpora+=("$out/$c"); done
tellmt mix --recipe "$recipe" --corpus "${corpora[@]}" --general "$data/general/p3-train.jsonl.gz" -o "$out/mixed"
tellmt train --recipe "$recipe" --mixed "$out/mixed" -o "$out/adapter"
tellmt decoding "$out/adapter" --corpus "$out/ntrex"
tellmt score "$out/adapter" --source "$news/newstest2021.$pair.src.${sides[0]}" --reference "$news/newstest2021.$pair.ref.A.${sides[1]}" --name newstest2021 \
    ${SCORE_OPTIONS:-} -o "$out/scores"
export TELLMT_REGISTRY=$out/registry
id=$(tellmt publish "$out/adapter" --corpus "$out/ntrex" --scores "$out/scores/scores.json" --no-shipped --json | python -c 'import json, sys; print(json.load(sys.stdin)["id"])')
python "$here/../../scripts/ship.py" "$TELLMT_REGISTRY/adapters/$id" --scores "$out/scores/scores.json"
