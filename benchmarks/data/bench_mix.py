#!/usr/bin/env python3
"""Time `tellmt mix` on a million examples made from scratch: seconds, CPU seconds, peak memory.

Writes a corpus and a general pool of made-up sentences into a temporary directory (about 700 MB), or into --keep, where a second run finds them.
Needs a prepared base: its tokenizer does much of the work.

    python -m benchmarks.data.bench_mix
    python -m benchmarks.data.bench_mix --base smollm2-135m --task 100000 --order interleave
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TELLMT = [sys.executable, "-m", "tellmt"]


def vocabulary(seed: int, letters: str) -> list[str]:
    """Words of one to four syllables, the frequent ones short."""
    rng = random.Random(seed)
    syllables = [c + v for c in letters for v in ("a", "e", "i", "o", "u", "an", "er", "il", "on", "ur")]
    return ["".join(rng.choices(syllables, k=1 + min(3, n.bit_length() // 4))) for n in range(20_000)]


class Sentences:
    """Sentences of made-up words, as frequent as words are (Zipf)."""

    def __init__(self, seed: int, letters: str):
        self.rng, self.words = random.Random(seed), vocabulary(seed, letters)
        weights, total = [], 0.0
        for n in range(len(self.words)):
            total += 1 / (n + 10)
            weights.append(total)
        self.weights = weights

    def __call__(self, low: int, high: int) -> str:
        return " ".join(self.rng.choices(self.words, cum_weights=self.weights, k=self.rng.randint(low, high))).capitalize() + "."


def make(folder: Path, task: int, general: int) -> None:
    source, target = Sentences(1, "bdfghklmnprstvð"), Sentences(2, "bcdfghklmnprstw")
    with (folder / "corpus.tsv").open("w", encoding="utf-8") as f:
        f.write("document\tis\ten\n")
        for i in range(task):
            f.write(f"d{i // 20}\t{source(6, 20)}\t{target(6, 20)}\n")
    with (folder / "general.jsonl").open("w", encoding="utf-8") as f:
        for i in range(general):
            f.write(json.dumps({"task": f"t{i % 300}", "prompt": f"{target(4, 12)}\n{target(6, 24)}", "completion": target(2, 20)}) + "\n")
    subprocess.run([*TELLMT, "corpus", "build", folder / "corpus.tsv", "--pair", "is-en", "-o", folder / "corpus"], check=True, stdout=subprocess.DEVNULL)


def general_tokens(folder: Path, base: str, examples: int) -> int:
    """Tokens that about this many of the pool's examples have."""
    from tell.model.anchor import general_prompt
    from tell.model.base import find_base
    from tell.model.tokenizer import BaseTokenizer
    from tell.records import Example

    with (folder / "general.jsonl").open(encoding="utf-8") as f:
        rows = [json.loads(line) for line, _ in zip(f, range(4000), strict=False)]
    ids = BaseTokenizer(find_base(base)).example_ids([Example("", "general", general_prompt(r["prompt"]), "", r["completion"]) for r in rows])
    return round(examples * 1.01 * sum(len(i) for i, _ in ids) / len(ids))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--task", type=int, default=400_000, help="pairs in the corpus")
    parser.add_argument("--examples", type=int, default=1_000_000, help="task and general examples together, at least")
    parser.add_argument("--order", default="shuffled")
    parser.add_argument("--keep", type=Path, help="make the data here, or use what is here already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "corpus" / "corpus.json").exists():
            print("making the data", file=sys.stderr)
            make(folder, options.task, options.examples - options.task + options.examples // 10)
        pairs = json.loads((folder / "corpus" / "corpus.json").read_text())["splits"]["train"]["pairs"]
        budget = general_tokens(folder, options.base, options.examples - pairs)
        (folder / "recipe.toml").write_text(f'pair = "is-en"\nbase = "{options.base}"\n[mix]\ngeneral_tokens = {budget}\norder = "{options.order}"\n')
        command = ["mix", "--recipe", "recipe.toml", "--corpus", "corpus", "--general", "general.jsonl", "--force", "-o", "mixed", "--json"]
        start = time.monotonic()
        # wait4 gives the time and memory of this one child.
        child = subprocess.Popen([*TELLMT, *command], cwd=folder, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            return 1
        counts = json.loads((folder / "mixed" / "mix.json").read_text())["counts"]
        examples = sum(c["examples"] for c in counts.values())
        size = (folder / "mixed" / "mixed.jsonl").stat().st_size
        unit = 1 if sys.platform == "darwin" else 1024
        figures = {
            "examples": examples,
            "task": counts["task"]["examples"],
            "tokens": sum(c["tokens"] for c in counts.values()),
            "bytes": size,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_mib": round(used.ru_maxrss * unit / 2**20),
            "base": options.base,
            "order": options.order,
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(figures))
        return 0 if examples >= options.examples else 1


if __name__ == "__main__":
    sys.exit(main())
