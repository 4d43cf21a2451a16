#!/usr/bin/env bash
# The real Icelandic-English run, from corpora to newstest2021 scores. It can be stopped at any point and started again.
#
#     train/recipes/is-en.sh DATA OUT
#
# DATA holds en-is/{tell-paper,flores,tatoeba,newstest2021}, ntrex/ and general/p3-train.jsonl.gz; OUT receives every stage's files.
# newstest2021 is only ever scored: every corpus is cleaned against both of its directions, and no choice here was made on it.
set -euo pipefail
data=$1 out=$2
tellmt=${TELLMT:-tellmt}
recipe=$(dirname "$0")/is-en.toml
news=$data/en-is/newstest2021
against=()
for f in is-en.src.is is-en.ref.A.en en-is.src.en en-is.ref.A.is; do against+=(--against "$news/newstest2021.$f"); done
build() { "$tellmt" corpus build --pair is-en "${against[@]}" --test 0 "$@"; }

"$tellmt" base fetch gemma-3-270m
build "$data/en-is/tell-paper/dev-is-en.jsonl" --dev 0 -o "$out/dev1"
build "$data/en-is/tell-paper/dev-en-is.jsonl" --dev 0 -o "$out/dev2"
build "$data/en-is/flores/flores.is-en.is" "$data/en-is/flores/flores.is-en.en" --dev 0 -o "$out/flores"
build "$data/ntrex/ntrex.isl.txt" "$data/ntrex/ntrex.eng.txt" --docs "$data/ntrex/DOCUMENT_IDS.tsv" --dev 200 -o "$out/ntrex"
build "$data/en-is/tatoeba/tatoeba.en-is.tsv" --columns en,is --dev 0 -o "$out/tatoeba"
corpora=()
for c in dev1 dev2 flores ntrex tatoeba; do corpora+=(--corpus "$out/$c"); done
"$tellmt" mix --recipe "$recipe" "${corpora[@]}" --general "$data/general/p3-train.jsonl.gz" -o "$out/mixed"
"$tellmt" train --recipe "$recipe" --mixed "$out/mixed" -o "$out/adapter"
"$tellmt" score "$out/adapter" --source "$news/newstest2021.is-en.src.is" --reference "$news/newstest2021.is-en.ref.A.en" --name newstest2021 -o "$out/scores"
"$tellmt" publish "$out/adapter" --corpus "$out/ntrex" --scores "$out/scores/scores.json"
