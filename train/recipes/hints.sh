#!/usr/bin/env bash
# What word hints are worth: a shipped adapter, trained further on the same data for the same number of tokens, without hints and with them, and scored on lines that
# nothing was learned from. It can be stopped at any point and started again. Run it in the environment (. .venv/bin/activate).
#
#     train/recipes/hints.sh DATA OUT [TOKENS [PAIR [FROM]]]
#
# The arms: no hints; hints of the corpora's own lexicon; of this and a dictionary's, one candidate a word and two. FROM is the adapter that is trained further, adapters/PAIR
# where it is not given: one that was trained without hints. DATA holds lexicon/ensk.is-lexicon.is-en.tsv and what corpora.sh beside this file names; OUT receives every
# stage's files. newstest2021 is never scored. The test is 200 lines of PUD, which no corpus here has.
set -euo pipefail
data=$1 out=$2/${4:-is-en} tokens=${3:-20000} pair=${4:-is-en}
here=$(cd "$(dirname "$0")" && pwd)
from=${5:-$here/../../adapters/$pair}
source "$here/corpora.sh"
build_corpora "$data" "$out" "$pair"
if [ "$pair" = is-en ]; then direction=--dictionary; else direction=--reversed; fi
tellmt lexicon build "${corpora[@]}" -o "$out/lexicon"
tellmt lexicon build "${corpora[@]}" $direction "$data/lexicon/ensk.is-lexicon.is-en.tsv" -o "$out/lexicon-dictionary"

arm() { # NAME LINE...
    local name=$1 place=$out/$1
    shift
    mkdir -p "$place"
    { sed "s/^pair = .*/pair = \"$pair\"/" "$here/hints.toml"; printf 'task_tokens = %s\n' "$tokens"; printf '%s\n' "$@"; } > "$place/recipe.toml"
    tellmt mix --recipe "$place/recipe.toml" --corpus "${corpora[@]}" -o "$place/mixed"
    tellmt train --recipe "$place/recipe.toml" --mixed "$place/mixed" --from "$from" -o "$place/adapter"
    tellmt score "$place/adapter" --source "$out/pud.held.${pair%-*}" --reference "$out/pud.held.${pair#*-}" --name pud --no-base --engine ct2 -o "$place/scores"
}
arm control
arm hints '[hints]' "lexicon = \"$out/lexicon\""
arm dictionary '[hints]' "lexicon = \"$out/lexicon-dictionary\""
arm dictionary-2 '[hints]' "lexicon = \"$out/lexicon-dictionary\"" 'candidates = 2'
tellmt compare "$out"/{control,hints,dictionary,dictionary-2}/scores/adapter.hyp.txt --source "$out/pud.held.${pair%-*}" --reference "$out/pud.held.${pair#*-}" --pair "$pair"
