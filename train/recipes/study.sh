#!/usr/bin/env bash
# The study of docs/results/study-design.md, from corpora to report. It can be stopped at any point and started again.
#
#     train/recipes/study.sh DATA OUT [tellmt study's own options]
#
# The night on two cores is `study.sh DATA OUT --jobs 2`; `--dry-run --jobs 2` says what each stage costs, `--base smollm2-135m` is the other base (OUT/cpu-pairs-smollm2-135m),
# and `--cell is-en/tell/500/10/1` runs one finished cell again, beside what is recorded: copy docs/results/study-pairs to OUT/cpu-pairs for that. STUDY=FILE takes another study file.
#
# DATA is laid out as for shipped.sh, with general/, ud.en-cy.tsv and lexicon/. newstest2021 and the test documents of the TELL authors are not touched, except to keep
# them out of the corpora. Held out for the outcome are PUD and documents of NTREX (UD Welsh-CCG for Welsh, NTREX alone for Irish); the tuning segments are other documents of NTREX.
set -euo pipefail
data=$(realpath "$1") out=$2 here=$(realpath "$(dirname "$0")")
shift 2
study=${STUDY:-$here/study-cpu.toml} base=gemma-3-270m name=
for ((i = 1; i <= $#; i++)); do [ "${!i}" != --base ] || { next=$((i + 1)) && base=${!next} && name=-$base; }; done
tellmt=${TELLMT:-tellmt}
news=$data/en-is/newstest2021
against=()
for f in is-en.src.is is-en.ref.A.en en-is.src.en en-is.ref.A.is; do against+=("$news/newstest2021.$f"); done
mkdir -p "$out/data" "$out/parts"
ln -sfn "$data/general/p3-train.jsonl.gz" "$out/data/p3-train.jsonl.gz"
ln -sfn "$data/lexicon/ensk.is-lexicon.is-en.tsv" "$out/data/ensk.is-lexicon.is-en.tsv"

# NTREX by documents: FROM and UNTIL are lines, and a document belongs where it begins.
part() { # LANGUAGE CODE FROM UNTIL NAME
    paste "$data/ntrex/DOCUMENT_IDS.tsv" "$data/ntrex/ntrex.eng.txt" "$data/ntrex/ntrex.$1.txt" |
        awk -F '\t' -v from="$3" -v until="$4" -v OFS='\t' -v code="$2" 'BEGIN { print "document", "en", code }
            $1 != document { document = $1; inside = NR >= from && NR < until } inside { print }' > "$out/parts/$5.tsv"
}
build() { "$tellmt" corpus build --pair "$pair" "$@"; }
all=100000
for pair in is-en en-is cy-en en-ga; do
    to=$out/corpora/$pair
    case $pair in *is*) language=isl code=is held=150 ;; cy-en) language=cym code=cy held=0 ;; en-ga) language=gle code=ga held=1000 ;; esac
    if [ $pair = en-ga ]; then tune=200; else tune=300; fi
    part $language $code 1 $((1 + tune)) "$pair-tune"
    part $language $code $((1 + tune)) $((1 + tune + held)) "$pair-held"
    part $language $code $((1 + tune + held)) $all "$pair-ntrex"
    # The held-out texts of both sides, which no training pair may repeat.
    kept=("$out/parts/$pair-held.tsv")
    case $pair in
        *is*) { printf 'document\ten\tis\n'; awk -F '\t' -v OFS='\t' '{ print "pud" int(NR / 5), $0 }' "$data/en-is/pud.en-is.tsv"; } > "$out/parts/$pair-pud.tsv"
            kept+=("$out/parts/$pair-pud.tsv") ;;
        cy-en) { printf 'document\ten\tcy\n'; awk -F '\t' -v OFS='\t' 'NR <= 1000 { print "ud" int(NR / 5), $0 }' "$data/ud.en-cy.tsv"; } > "$out/parts/$pair-held.tsv"
            { printf 'document\ten\tcy\n'; awk -F '\t' -v OFS='\t' 'NR > 1000 { print "ud" int(NR / 5), $0 }' "$data/ud.en-cy.tsv"; } > "$out/parts/$pair-ud.tsv" ;;
    esac
    build "${kept[@]}" --dev 0 --test $all --against "${against[@]}" -o "$to/held"
    build "$out/parts/$pair-tune.tsv" --dev $all --test 0 --against "${against[@]}" -o "$to/tune"
    for side in 2 3; do cut -f $side "${kept[@]}" "$out/parts/$pair-tune.tsv" > "$out/parts/$pair-reserved.$side"; done
    train() { build "$@" --dev 0 --test 0 --against "${against[@]}" "$out/parts/$pair-reserved.2" "$out/parts/$pair-reserved.3"; }
    train "$out/parts/$pair-ntrex.tsv" -o "$to/ntrex"
    case $pair in
        *is*)
            train "$data/en-is/tell-paper/dev-is-en.jsonl" -o "$to/dev1"
            train "$data/en-is/tell-paper/dev-en-is.jsonl" -o "$to/dev2"
            if [ $pair = is-en ]; then sides=(is en); else sides=(en is); fi
            train "$data/en-is/flores/flores.is-en.${sides[0]}" "$data/en-is/flores/flores.is-en.${sides[1]}" -o "$to/flores"
            train "$data/en-is/tatoeba/tatoeba.en-is.tsv" --columns en,is -o "$to/tatoeba" ;;
        cy-en) train "$out/parts/$pair-ud.tsv" -o "$to/ud" ;;
    esac
done
"$tellmt" base fetch "$base"
"$tellmt" select --general "$out/data/p3-train.jsonl.gz" --method random -k 4000 -o "$out/data/p3-4k"
cp "$study" "$out/$(basename "$study")"
cd "$out"
"$tellmt" study "$(basename "$study")" -o "cpu-pairs$name" "$@"
