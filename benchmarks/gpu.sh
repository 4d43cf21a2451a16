#!/usr/bin/env bash
# Every figure that is owed for a GPU, in runs of nine minutes: parts in the order of their worth, each written when it is done. The next call begins with the first that is missing.
#
#     benchmarks/gpu.sh OUT [MINUTES]
#
# Bases and shipped adapters are here already (TELLMT_CACHE, adapters/); nothing is fetched. OUT gets NAME.json (what the part prints), NAME.log (the end of what it says) and
# parts.tsv (name, seconds, exit code). A part that fails is tried again by the next call, after those that were not tried yet; one that does not fit into what is left is not
# begun. PARTS="train hotload" does these alone, SIZE=tiny takes a few of everything on any machine (whether it works, not how well), and PYTHON names the Python.
#
#   train        training against TRL as it comes and at its best (Liger's kernels): tokens/s, memory, at the same held-out loss
#   adapters     vLLM with 1, 8 and 64 adapters in one batch
#   throughput   the service against the raw engine, at 1, 8, 32 requests
#   hotload      how long requests wait while an adapter is loaded, and until a promotion is live
#   batch        `tellmt translate` against the raw engine
#   mixed        eight adapters through the service against one
#   train-4b     training on the shape of Gemma 3 4B with random weights, against TRL at its best: speed and memory alone
#   adapters-4b  vLLM on that shape with no, 1 and 8 adapters
#   studies      tokens/s of one training by its micro-batch, for the plans of studies
set -uo pipefail
out=$1 limit=$(awk "BEGIN { print int(60 * ${2:-9}) }") began=$(date +%s)
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3} size=${SIZE:-full}
mkdir -p "$out"
out=$(realpath "$out")
cd "$root"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
# Engines are entry points, which a checkout that is not installed has only with its metadata.
[ -d "$root/tellmt.egg-info" ] || (cd "$root" && "$python" -c "from setuptools import setup; setup()" -q egg_info > /dev/null 2>&1) || echo "no metadata could be written: engines will not be found"
big=${BIG:-${TMPDIR:-/tmp}/tellmt-4b}
if [ "$size" = tiny ]; then
    quick=(--quick) tokens=2500 sizes=(--hidden 64 --layers 2 --heads 2 --kv-heads 1 --head 32 --wide 128) many=(--requests 4 --prompt 16 --output 4 --rounds 1)
    few=1,2 engine=${ENGINE:-auto}
else
    quick=() tokens=60000 sizes=() many=() few=1,8,64 engine=${ENGINE:-vllm}
fi

shaped() {
    [ -f "$big/config.json" ] && return
    "$python" -m benchmarks.training.shaped_base "$big" "${sizes[@]}" >&2 && "$python" -m tellmt base fetch "$big" >&2
}
do_train() { "$python" -m benchmarks.training.bench_train --tokens $tokens --json; }
do_adapters() { "$python" -m benchmarks.serving.many_adapters --adapters $few "${many[@]}"; }
do_throughput() { "$python" -m benchmarks.serving.bench_serve --engine "$engine" --only throughput "${quick[@]}" --json; }
do_hotload() { "$python" -m benchmarks.serving.bench_serve --engine "$engine" --only hotload,live "${quick[@]}" --json; }
do_batch() { "$python" -m benchmarks.serving.bench_batch --engine "$engine" --only speed "${quick[@]}" --json; }
do_mixed() { "$python" -m benchmarks.serving.bench_serve --engine "$engine" --only mixed "${quick[@]}" --json; }
# Random weights end at no loss worth comparing, so the ratio of losses is void there and its exit code says so: the figures of each side are what counts.
do_train-4b() { shaped && { "$python" -m benchmarks.training.bench_train --base "$big" --tokens $((tokens / 2)) --only ours,trl-best --json || [ $? = 1 ]; }; }
do_adapters-4b() { shaped && "$python" -m benchmarks.serving.many_adapters --base "$big" --adapters 0,${few%,*} "${many[@]}"; }
do_studies() { "$python" -m benchmarks.training.bench_train --tokens $tokens --only ours --compile off --json; }

# A part is not begun with less than this left: seconds that it takes at most, by estimate. It is stopped when the time is over.
declare -A most=([train]=150 [adapters]=120 [throughput]=150 [hotload]=120 [batch]=120 [mixed]=120 [train-4b]=180 [adapters-4b]=150 [studies]=60)
order=(${PARTS:-train adapters throughput hotload batch mixed train-4b adapters-4b studies})
failed() { [ -f "$out/parts.tsv" ] && awk -v name="$1" '$1 == name && $3 != 0 { found = 1 } END { exit !found }' "$out/parts.tsv"; }
for again in no yes; do
    for name in "${order[@]}"; do
        [ ! -f "$out/$name.json" ] || continue
        if [ $again = no ]; then ! failed "$name" || continue; else failed "$name" || continue; fi
        left=$((limit - ($(date +%s) - began)))
        if [ "$left" -lt "${most[$name]}" ] && [ "$size" != tiny ]; then
            echo "$name: needs up to ${most[$name]} s, $left are left: not begun"
            continue
        fi
        [ "$left" -gt 0 ] || break
        start=$(date +%s)
        echo "$name: begun with $left s left"
        # In a group of its own, so that a part that is stopped takes its engine along.
        setsid --wait timeout --kill-after 10 "$left" bash -c "python='$python' tokens=$tokens few=$few engine='$engine' big='$big' quick=(${quick[*]}) sizes=(${sizes[*]}) many=(${many[*]}); $(declare -f shaped "do_$name"); do_$name" \
            > "$out/.$name.part" 2> "$out/.$name.err"
        code=$?
        tail -c 20000 "$out/.$name.err" > "$out/$name.log"
        [ $code != 0 ] || mv "$out/.$name.part" "$out/$name.json"
        rm -f "$out/.$name.err" "$out/.$name.part"
        printf '%s\t%s\t%s\n' "$name" $(($(date +%s) - start)) $code >> "$out/parts.tsv"
        echo "$name: exit $code after $(($(date +%s) - start)) s"
        # What failed in this call is not tried twice in it.
        [ $code = 0 ] || order=($(printf '%s\n' "${order[@]}" | grep -vx -- "$name"))
    done
done
missing=0
for name in ${PARTS:-train adapters throughput hotload batch mixed train-4b adapters-4b studies}; do [ -f "$out/$name.json" ] || missing=$((missing + 1)); done
echo "$missing parts are missing"
[ $missing = 0 ]
