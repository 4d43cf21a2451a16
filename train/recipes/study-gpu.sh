#!/usr/bin/env bash
# The study of docs/results/study-design.md on one large GPU, in runs of nine minutes: the most decisive cells first. The next call goes on where this one stopped.
#
#     train/recipes/study-gpu.sh STATE OUT [MINUTES [JOBS]]
#
# STATE is what `study.sh DATA STATE --dry-run` made beforehand on a machine with the data: corpora, general data, the study file. It may hold the results of earlier calls
# (STATE/cpu-pairs, or STATE/study.tar.gz as an earlier call left it in OUT), and is left with those of this one. The base lies in TELLMT_CACHE. Nothing is fetched.
#
# The runs of the first minute show the speed, in tokens a second of one run beside JOBS - 1 others. Runs that would not be finished in time by that speed are not begun, and smaller ones
# behind them are; what is not finished after MINUTES is stopped and goes on from its checkpoint, if STATE is there the next time. OUT/study.tar.gz has everything but adapters, made anew
# after every finished run, and OUT/report.tar.gz the tables and plots. Scores with an engine are left out (--no-scores): they would take longer than the trainings.
#
# PYTHON names the Python with torch, transformers and peft, and STUDY and TELLMT_STUDY_OPTIONS are for a dry run without a GPU (tests/eval/study/test_gpu_scripts.py).
set -euo pipefail
state=$(realpath "$1") out=$2 minutes=${3:-9} jobs=${4:-6}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
study=${STUDY:-$here/study-cpu.toml}
name=${STUDY_NAME:-cpu-pairs}
# A run is over before a compiler would have paid for itself: each process would spend most of a minute on it.
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 TORCH_COMPILE_DISABLE=${TORCH_COMPILE_DISABLE:-1}
# Engines are entry points, which a checkout that is not installed has only with its metadata.
[ -d "$root/tellmt.egg-info" ] || (cd "$root" && "$python" -c "from setuptools import setup; setup()" -q egg_info > /dev/null 2>&1) || echo "no metadata could be written: engines will not be found"
began=$(date +%s)
mkdir -p "$out"
out=$(realpath "$out")
[ "$(realpath "$study")" = "$state/$(basename "$study")" ] || cp "$study" "$state/$(basename "$study")"
cd "$state"
if [ -f study.tar.gz ] && [ ! -f "$name/results.jsonl" ]; then tar -xzf study.tar.gz; fi

saved() { # What has to outlast the machine, in one file that is replaced whole.
    [ -f "$name/results.jsonl" ] || return 0
    tar --exclude=adapter --exclude='adapter.run' --exclude=mixed --exclude=task --exclude=general --exclude=lexicon --exclude=report \
        -czf "$out/.study.part" "$name" 2> /dev/null || true
    mv "$out/.study.part" "$out/study.tar.gz"
}
watch_results() { # $1: the process of the study. Saves after every finished run.
    local lines=0 now
    while kill -0 "$1" 2> /dev/null; do
        now=$(wc -l < "$name/results.jsonl" 2> /dev/null || echo 0)
        if [ "$now" != "$lines" ]; then
            lines=$now
            saved
            echo "$(($(date +%s) - began)) s: $lines runs finished"
        fi
        sleep 5
    done
}
# shellcheck disable=SC2086
"$python" -m tellmt study "$(basename "$study")" -o "$name" --jobs "$jobs" --minutes "$minutes" --speed 3000 --no-scores ${TELLMT_STUDY_OPTIONS:-} &
running=$!
trap 'kill -TERM $running 2> /dev/null || true' INT TERM
watch_results $running
code=0
wait $running || code=$?
saved
[ ! -d "$name/report" ] || tar -czf "$out/report.tar.gz" -C "$name" report
exit $code
