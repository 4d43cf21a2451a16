#!/usr/bin/env python3
"""How many passes a small corpus is worth: a direction of NTREX trained with each of several numbers, scored on the dev split of its own training side.

The corpus is what `tellmt pair add` makes of the first SIZE pairs, so the held-out documents and the frozen test split are not looked at. Writes a row a
run to OUT/passes.jsonl as it is done, and goes on from there; then OUT/passes.md.

    python -m benchmarks.quality.epochs NTREX OUT
    python -m benchmarks.quality.epochs NTREX OUT --directions en-eu --size 1900 --passes 2 3
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.quality.pairs import SIZES, divided, given, read, tellmt
from tell.files import write_atomic
from tell.model.base import DEFAULT_BASE
from tellmt.pair.plan import RecipeBasis, recipe_text


def prepared(data: Path, direction: str, size: int, out: Path) -> tuple[Path, dict[str, str]]:
    """The directory of a direction with its corpus and its training examples, and the environment it was made in."""
    code = direction.removeprefix("en-").removesuffix("-en")
    here = out / f"{code}-{size}"
    table = given(code, size, divided(read(data, code))[0], here)
    env = {**os.environ, "TELLMT_PAIRS": str((here / "pairs").absolute())}
    added = tellmt("pair", "add", f"{code}-en", table.absolute(), "--dry-run", env=env)
    return Path(added["home"]) / direction, env


def measured_run(home: Path, here: Path, passes: int, rate: float, env: dict[str, str]) -> dict[str, Any]:
    """Train with so many passes at `here`, choose how it decodes as `pair add` does, and score it on the dev split."""
    here.mkdir(exist_ok=True)
    write_atomic(here / "recipe.toml", recipe_text(RecipeBasis(home.name, DEFAULT_BASE), passes, rate))
    tellmt("train", "--recipe", here / "recipe.toml", "--mixed", home / "mixed", "-o", here / "adapter", env=env)
    losses = tellmt("losses", here / "adapter", "--corpus", home / "corpus", "--split", "dev", "-o", here / "losses.jsonl", env=env)
    tellmt("decoding", here / "adapter", "--corpus", home / "corpus", env=env)
    scored = tellmt("score", here / "adapter", "--corpus", home / "corpus", "--split", "dev", "--no-base", "-o", here / "dev", env=env)
    card = json.loads((here / "adapter" / "card.json").read_bytes())
    adapter_scores = scored["systems"]["adapter"]
    return {
        "training": {k: card["training"][k] for k in ("tokens", "steps", "seconds", "device", "dtype")},
        "penalty": card["decoding"]["repetition_penalty"],
        "segments": scored["segments"],
        "nats_per_token": losses["nats_per_token"],
        "scores": {m: {k: adapter_scores[m][k] for k in ("score", "ci", "signature")} for m in ("bleu", "chrf")},
    }


def page(rows: list[dict[str, Any]]) -> str:
    names = ["direction", "pairs given", "tokens a pass", "passes", "dev nats/token", "penalty", "dev chrF2", "dev BLEU", "minutes of training"]
    lines = [f"| {' | '.join(names)} |", "|---|" + "---:|" * (len(names) - 1)]
    for r in sorted(rows, key=lambda r: (r["direction"], r["size"], r["passes"])):
        chrf, bleu = (f"{r['scores'][m]['score']:.1f} ± {r['scores'][m]['ci']:.1f}" for m in ("chrf", "bleu"))
        a_pass = r["training"]["tokens"] // r["passes"]
        figures = [f"{r['size']:,}", f"{a_pass:,}", str(r["passes"]), f"{r['nats_per_token']:.3f}", f"{r['penalty']:g}", chrf, bleu]
        lines.append(f"| {r['direction']} | {' | '.join(figures)} | {r['training']['seconds'] / 60:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--directions", nargs="+", default=["en-eu", "eu-en", "en-cy", "cy-en"])
    parser.add_argument("--size", type=int, default=SIZES[-1])
    parser.add_argument("--passes", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--rate", type=float, default=5e-4)
    options = parser.parse_args()
    results = options.out / "passes.jsonl"
    rows = [json.loads(line) for line in results.read_text().split("\n") if line] if results.exists() else []
    for direction in options.directions:
        for passes in options.passes:
            settings = {"direction": direction, "size": options.size, "passes": passes, "learning_rate": options.rate}
            if any(all(r[k] == v for k, v in settings.items()) for r in rows):
                continue
            print(f"== {direction}, {options.size:,} pairs, {passes} passes", file=sys.stderr, flush=True)
            home, env = prepared(options.data, direction, options.size, options.out)
            here = options.out.absolute() / f"{direction}-{options.size}-{passes}-{options.rate:g}"
            rows.append({**settings, **measured_run(home, here, passes, options.rate, env)})
            results.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
            (options.out / "passes.md").write_text(page(rows), encoding="utf-8")
    print(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
