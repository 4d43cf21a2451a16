#!/usr/bin/env bash
# The study of docs/results/study.md, from corpora to report. It can be stopped at any point and started again.
#
#     train/recipes/study.sh DATA OUT [STUDY.toml] [tellmt study's own options]
#
# DATA is laid out as for shipped.sh. newstest2021 and the test documents of the TELL authors are not touched, except to keep them out of
# the corpora: learning rates are chosen on NTREX's dev split, arms compared on its test split, both taken from the training side.
set -euo pipefail
data=$(realpath "$1") out=$2 here=$(realpath "$(dirname "$0")")
study=${3:-$here/study.toml}
shift $(($# < 3 ? $# : 3))
tellmt=${TELLMT:-tellmt}
news=$data/en-is/newstest2021
against=()
for f in is-en.src.is is-en.ref.A.en en-is.src.en en-is.ref.A.is; do against+=("$news/newstest2021.$f"); done
mkdir -p "$out/data"
ln -sfn "$data/general/p3-train.jsonl.gz" "$out/data/p3-train.jsonl.gz"

for pair in is-en en-is; do
    to=$out/corpora/$pair
    build() { "$tellmt" corpus build --against "${against[@]}" --pair "$pair" "$@"; }
    if [ $pair = is-en ]; then sides=(is en isl eng); else sides=(en is eng isl); fi
    build "$data/en-is/tell-paper/dev-is-en.jsonl" --dev 0 --test 0 -o "$to/dev1"
    build "$data/en-is/tell-paper/dev-en-is.jsonl" --dev 0 --test 0 -o "$to/dev2"
    build "$data/en-is/flores/flores.is-en.${sides[0]}" "$data/en-is/flores/flores.is-en.${sides[1]}" --dev 0 --test 0 -o "$to/flores"
    build "$data/ntrex/ntrex.${sides[2]}.txt" "$data/ntrex/ntrex.${sides[3]}.txt" --docs "$data/ntrex/DOCUMENT_IDS.tsv" --dev 100 --test 200 -o "$to/ntrex"
    build "$data/en-is/tatoeba/tatoeba.en-is.tsv" --columns en,is --dev 0 --test 0 -o "$to/tatoeba"
done
"$tellmt" base fetch gemma-3-270m
"$tellmt" select --general "$out/data/p3-train.jsonl.gz" --method random -k 4000 -o "$out/data/p3-4k"
cp "$study" "$out/$(basename "$study")"
cd "$out"
"$tellmt" study "$(basename "$study")" -o "$(basename "$study" .toml)" "$@"
