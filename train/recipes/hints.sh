#!/usr/bin/env bash
# What word hints are worth: the shipped is-en adapter, trained further on the same data for the same number of tokens, without hints and with them, and scored on
# lines that nothing was learned from. It can be stopped at any point and started again. Run it in the environment (. .venv/bin/activate).
#
#     train/recipes/hints.sh DATA OUT [TOKENS]
#
# DATA holds en-is/{tell-paper,flores,tatoeba,newstest2021,pud.en-is.tsv} and ntrex/; OUT receives every stage's files. newstest2021 is never scored: corpora are
# cleaned against it. Every fifth line of PUD, the first 200 of these, is the test; no corpus has PUD.
set -euo pipefail
data=$1 out=$2 tokens=${3:-20000}
here=$(cd "$(dirname "$0")" && pwd)
news=$data/en-is/newstest2021
against=()
for f in is-en.src.is is-en.ref.A.en en-is.src.en en-is.ref.A.is; do against+=("$news/newstest2021.$f"); done
build() { tellmt corpus build --against "${against[@]}" --pair is-en --test 0 "$@"; }

build "$data/en-is/tell-paper/dev-is-en.jsonl" --dev 0 -o "$out/dev1"
build "$data/en-is/tell-paper/dev-en-is.jsonl" --dev 0 -o "$out/dev2"
build "$data/en-is/flores/flores.is-en.is" "$data/en-is/flores/flores.is-en.en" --dev 0 -o "$out/flores"
build "$data/ntrex/ntrex.isl.txt" "$data/ntrex/ntrex.eng.txt" --docs "$data/ntrex/DOCUMENT_IDS.tsv" --dev 100 -o "$out/ntrex"
build "$data/en-is/tatoeba/tatoeba.en-is.tsv" --columns en,is --dev 0 -o "$out/tatoeba"
corpora=()
for c in dev1 dev2 flores ntrex tatoeba; do corpora+=("$out/$c"); done
awk -F '\t' 'NR % 5 == 2' "$data/en-is/pud.en-is.tsv" | head -n 200 > "$out/pud.tsv"
cut -f 1 "$out/pud.tsv" > "$out/pud.en"
cut -f 2 "$out/pud.tsv" > "$out/pud.is"
tellmt lexicon build "${corpora[@]}" -o "$out/lexicon"

arm() { # NAME LINE...
    local name=$1 place=$out/$1
    shift
    mkdir -p "$place"
    { cat "$here/hints.toml"; printf 'task_tokens = %s\n' "$tokens"; printf '%s\n' "$@"; } > "$place/recipe.toml"
    tellmt mix --recipe "$place/recipe.toml" --corpus "${corpora[@]}" -o "$place/mixed"
    tellmt train --recipe "$place/recipe.toml" --mixed "$place/mixed" --from "$here/../../adapters/is-en" -o "$place/adapter"
    tellmt score "$place/adapter" --source "$out/pud.is" --reference "$out/pud.en" --name pud --no-base --engine ct2 -o "$place/scores"
}
arm control
arm hints '[hints]' "lexicon = \"$out/lexicon\""
tellmt compare "$out/control/scores/adapter.hyp.txt" "$out"/hints/scores/adapter*.hyp.txt --source "$out/pud.is" --reference "$out/pud.en" --pair is-en
