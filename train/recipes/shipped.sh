#!/usr/bin/env bash
# An adapter that comes with tellmt, from corpora to adapters/PAIR. It can be stopped at any point and started again. Run it in the environment (. .venv/bin/activate).
#
#     train/recipes/shipped.sh DATA OUT is-en|en-is [FIRST]
#
# Two trainings: one pass over everything without hints (PAIR.toml), then further with word hints (PAIR-hints.toml) from a lexicon of the same pairs and of a dictionary. FIRST is
# an adapter of the first training, which is done here without it. DATA holds general/p3-train.jsonl.gz, lexicon/ensk.is-lexicon.is-en.tsv and what corpora.sh beside this file
# names; OUT receives every stage's files. newstest2021 is scored once, at the end. The gate looks at a dev split of NTREX, and the published adapter, with its scores and
# verdict on its card, is what is copied.
set -euo pipefail
data=$1 out=$2/$3 pair=$3 first=${4:-}
here=$(cd "$(dirname "$0")" && pwd)
source "$here/corpora.sh"
if [ "$pair" = is-en ]; then sides=(is en) direction=--dictionary; else sides=(en is) direction=--reversed; fi

tellmt base fetch gemma-3-270m
build_corpora "$data" "$out" "$pair"
if [ -z "$first" ]; then
    tellmt mix --recipe "$here/$pair.toml" --corpus "${corpora[@]}" --general "$data/general/p3-train.jsonl.gz" -o "$out/first.mixed"
    tellmt train --recipe "$here/$pair.toml" --mixed "$out/first.mixed" -o "$out/first"
    first=$out/first
fi
build_pud "$out"
tellmt lexicon build "${corpora[@]}" $direction "$data/lexicon/ensk.is-lexicon.is-en.tsv" -o "$out/lexicon"
tellmt mix --recipe "$here/$pair-hints.toml" --corpus "${corpora[@]}" --lexicon "$out/lexicon" -o "$out/mixed"
tellmt train --recipe "$here/$pair-hints.toml" --mixed "$out/mixed" --from "$first" -o "$out/adapter"
tellmt decoding "$out/adapter" --corpus "$out/ntrex"
news=$data/en-is/newstest2021
tellmt score "$out/adapter" --source "$news/newstest2021.$pair.src.${sides[0]}" --reference "$news/newstest2021.$pair.ref.A.${sides[1]}" --name newstest2021 \
    ${SCORE_OPTIONS:-} -o "$out/scores"
export TELLMT_REGISTRY=$out/registry
id=$(tellmt publish "$out/adapter" --corpus "$out/ntrex" --scores "$out/scores/scores.json" --no-shipped --json | python -c 'import json, sys; print(json.load(sys.stdin)["id"])')
python "$here/../../scripts/ship.py" "$TELLMT_REGISTRY/adapters/$id" --scores "$out/scores/scores.json" \
    --credit "Its lexicon has words of ensk.is (sveinbjornt/ensk.is), an English-Icelandic dictionary in the public domain."
