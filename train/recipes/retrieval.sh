#!/usr/bin/env bash
# What nearest pairs are worth where a corpus repeats itself: adapters from scratch on everyday sentences, many of which are alike, with and without nearest pairs and
# word hints, scored on sentences of the same kind that nothing was learned from. It can be stopped at any point and started again. Run it in the environment
# (. .venv/bin/activate).
#
#     train/recipes/retrieval.sh DATA OUT [TOKENS] [MIN_SCORE...]
#
# DATA holds en-is/{tatoeba,newstest2021}; OUT receives every stage's files. newstest2021 is never scored: the corpus is cleaned against it. TOKENS is the most that
# an arm trains on, 0 for all. Each MIN_SCORE is an arm, scored on the dev split, so that dev chooses; on the test split the first of them is scored.
set -euo pipefail
data=$1 out=$2 tokens=${3:-0}
thresholds=("${@:4}")
[ ${#thresholds[@]} -gt 0 ] || thresholds=(0.5)
here=$(cd "$(dirname "$0")" && pwd)
news=$data/en-is/newstest2021 corpus=$out/tatoeba
against=()
for f in is-en.src.is is-en.ref.A.en en-is.src.en en-is.ref.A.is; do against+=("$news/newstest2021.$f"); done
tellmt corpus build "$data/en-is/tatoeba/tatoeba.en-is.tsv" --columns en,is --against "${against[@]}" --pair is-en --dev 200 --test 200 -o "$corpus"
tellmt lexicon build "$corpus" -o "$out/lexicon"
budget=()
[ "$tokens" = 0 ] || budget=(--task-tokens "$tokens")

arm() { # NAME SPLITS LINE...
    local name=$1 splits=$2 place=$out/$1 split
    shift 2
    mkdir -p "$place"
    { cat "$here/is-en.toml"; printf '%s\n' "$@"; } > "$place/recipe.toml"
    tellmt mix --recipe "$place/recipe.toml" --corpus "$corpus" "${budget[@]}" -o "$place/mixed"
    tellmt train --recipe "$place/recipe.toml" --mixed "$place/mixed" -o "$place/adapter"
    for split in $splits; do
        tellmt score "$place/adapter" --corpus "$corpus" --split "$split" --no-base --engine ct2 -o "$out/$split/$name"
    done
}
hints=('[hints]' 'lexicon = "../lexicon"')
arm control "dev test" ''
arm hints "dev test" "${hints[@]}"
for threshold in "${thresholds[@]}"; do
    [ "$threshold" = "${thresholds[0]}" ] && splits="dev test" || splits=dev
    arm "retrieval-$threshold" "$splits" '[retrieval]' "min_score = $threshold"
done
arm hints-retrieval "dev test" "${hints[@]}" '[retrieval]' "min_score = ${thresholds[0]}"
for split in dev test; do
    others=("$out/$split"/*hints* "$out/$split"/retrieval-*)
    tellmt compare "$out/$split/control" "${others[@]}"
done
