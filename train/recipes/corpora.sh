# The corpora that the shipped adapters learn from, for shipped.sh and hints.sh beside this file, which read it with `source`.
#
# DATA holds en-is/{tell-paper,flores,tatoeba,newstest2021,pud.en-is.tsv} and ntrex/. newstest2021 is only ever scored: every corpus is cleaned against both of its
# directions. Of PUD every fifth line is kept out of all corpora, for choosing; its first 200 are $out/pud.held.{en,is}.

build_corpora() { # DATA OUT PAIR; sets the array `corpora`: OUT/{dev1,dev2,flores,ntrex,tatoeba}, and for `build` `against` and `pair`
    local data=$1 out=$2 news=$1/en-is/newstest2021 sides=(is en isl eng) f
    pair=$3 against=()
    [ "$pair" = is-en ] || sides=(en is eng isl)
    for f in is-en.src.is is-en.ref.A.en en-is.src.en en-is.ref.A.is; do against+=("$news/newstest2021.$f"); done
    mkdir -p "$out"
    awk -F '\t' 'NR % 5 == 2' "$data/en-is/pud.en-is.tsv" | head -n 200 > "$out/pud.held.tsv"
    cut -f 1 "$out/pud.held.tsv" > "$out/pud.held.en"
    cut -f 2 "$out/pud.held.tsv" > "$out/pud.held.is"
    awk -F '\t' 'NR % 5 != 2' "$data/en-is/pud.en-is.tsv" > "$out/pud.tsv"
    build() { tellmt corpus build --against "${against[@]}" --pair "$pair" --test 0 "$@"; }
    build "$data/en-is/tell-paper/dev-is-en.jsonl" --dev 0 -o "$out/dev1"
    build "$data/en-is/tell-paper/dev-en-is.jsonl" --dev 0 -o "$out/dev2"
    build "$data/en-is/flores/flores.is-en.${sides[0]}" "$data/en-is/flores/flores.is-en.${sides[1]}" --dev 0 -o "$out/flores"
    build "$data/ntrex/ntrex.${sides[2]}.txt" "$data/ntrex/ntrex.${sides[3]}.txt" --docs "$data/ntrex/DOCUMENT_IDS.tsv" --dev 100 -o "$out/ntrex"
    build "$data/en-is/tatoeba/tatoeba.en-is.tsv" --columns en,is --dev 0 -o "$out/tatoeba"
    corpora=("$out/dev1" "$out/dev2" "$out/flores" "$out/ntrex" "$out/tatoeba")
}

build_pud() { # OUT, after build_corpora: adds the lines of PUD that are not kept out
    build "$1/pud.tsv" --columns en,is --dev 0 -o "$1/pud"
    corpora+=("$1/pud")
}
