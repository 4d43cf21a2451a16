"""A study that never ran: hypotheses of known quality, in the files that `tellmt study` leaves behind.

A hypothesis is its reference with some words replaced; the share that is kept rises with the logarithm of the task pairs, and an arm that is worth
`gain` times its pairs keeps what the reference arm keeps at `gain` times as many.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

NEWS = """
the of and to a in that it was for on with as his they at be this from have or by one had not but what all were when we there can an your which their
said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first
been government minister parliament weather fishing volcano harbour reykjavik election children school language hospital police winter summer family
evening
"""
WORDS = NEWS.split()
RATES = (3e-4, 1e-3, 3e-3)
ALL = 7_000
# Tokens of a task pair.
PAIR = 60
# What the arm's pairs are worth, in the reference arm's.
GAINS = {"sft": 1.0, "tell": 3.0, "no-anchor": 2.0, "no-shuffle": 0.7, "tell-ltd": 3.3, "ltd-task": 1.3}
BARE = {"base": 0.08, "base-3": 0.13}
SIGNATURES = {
    "bleu": "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
    "chrf2": "nrefs:1|bs:1000|seed:12345|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0",
}


def kept(pairs: float) -> float:
    return 0.12 + 0.2 * math.log10(pairs / 16)


def corrupted(references: list[str], share: float, noise: str) -> list[str]:
    """Each word stays with probability `share`; with the same noise, more of them stay where `share` is higher."""
    draw = random.Random(noise)
    return [" ".join(word if draw.random() < share else draw.choice(WORDS) for word in line.split()) for line in references]


def smooth(segment: int, general: float, draw: random.Random) -> float:
    return -0.12 * (0.6 + 0.8 * ((segment * 37) % 100) / 100) * math.log10(1 + general / 1000) + draw.gauss(0, 0.03)


def jumping(segment: int, general: float, draw: random.Random) -> float:
    """Half of the segments fall by 1 at an amount of their own; the rest stay."""
    at = (3_000, 20_000, 200_000)[segment % 3]
    return (-1.0 if (segment * 37) % 2 and general >= at else 0.0) + draw.gauss(0, 0.08)


class Fixture:
    def __init__(self, directory: Path, pairs: Iterable[str] = ("is-en",), segments: int = 120, seeds: Iterable[int] = (1, 2, 3)):
        self.directory, self.pairs, self.seeds = directory, list(pairs), list(seeds)
        self.sizes: list[int | None] = [150, 500, 1_500, None]
        self.references = {}
        for pair in self.pairs:
            draw = random.Random(pair)
            lines = [" ".join(draw.choices(WORDS, k=draw.randint(6, 22))).capitalize() + "." for _ in range(segments)]
            self.references[pair] = lines
            own = directory / "dev" / pair
            own.mkdir(parents=True)
            (own / "reference.txt").write_text("\n".join(lines) + "\n")
            (own / "source.txt").write_text("\n".join(line[::-1] for line in lines) + "\n")
        # size -> how losses of `tell` move with general data
        self.changes: dict[int | None, Callable[[int, float, random.Random], float]] = {}
        # The losses of a segment's tokens, by segment, number and general tokens; None for runs that did not keep them.
        self.tokens: Callable[[int, int, float, random.Random], list[float]] | None = None
        self.arms = dict.fromkeys([*BARE, *GAINS], None)
        self.write_study()

    def write_study(self, **more: Any) -> None:
        sizes = ["all" if n is None else n for n in self.sizes]
        study = {
            "name": "synthetic",
            "pairs": self.pairs,
            "unit": "pairs",
            "arms": {a: {"kind": "base" if a in BARE else "train"} for a in self.arms},
            "reference_arm": "sft",
            "primary": {"pair": "is-en", "arm": "tell", "size": 500, "ratio": 1.0, "margin": 1.5, "seeds": 3},
            "stages": [
                {"name": "bare", "arms": list(BARE), "seeds": self.seeds},
                {"name": "plain", "arms": ["sft", "ltd-task"], "sizes": sizes, "ratios": [0.0], "seeds": self.seeds},
                {"name": "mixed", "arms": [a for a in GAINS if a not in ("sft", "ltd-task")], "sizes": sizes, "ratios": [1.0], "seeds": self.seeds},
            ],
        }
        (self.directory / "study.json").write_text(json.dumps({**study, **more}))

    def add(
        self,
        arm: str,
        pair: str,
        size: int | None,
        seed: int,
        share: float,
        ratio: float = 1.0,
        rate: float = 1e-3,
        role: str = "run",
        noise: str | None = None,
        train: bool = True,
    ) -> str:
        references = self.references[pair]
        name = hashlib.sha256(repr((arm, pair, size, seed, ratio, rate, role)).encode()).hexdigest()[:12]
        hypotheses = corrupted(references, share, noise or name)
        pairs = size or ALL
        task = pairs * PAIR
        general = round(task * ratio)
        own = self.directory / "runs" / name
        own.mkdir(parents=True, exist_ok=True)
        (own / "hypotheses.txt").write_text("\n".join(hypotheses) + "\n")
        draw = random.Random(f"losses {name}")
        losses: list[dict[str, Any]] = []
        for n, line in enumerate(references, 1):
            tokens = len(line.split())
            per_token = 3.2 - 2 * share + 0.3 * ((n * 13) % 50) / 50 + self.changes.get(size, smooth)(n, general, draw)
            losses.append({"line": n, "tokens": tokens, "nats": per_token * tokens, **({"each": self.tokens(n, tokens, general, draw)} if self.tokens else {})})
        (own / "losses.jsonl").write_text("".join(json.dumps(x) + "\n" for x in losses))
        row = {
            "id": name,
            "role": role,
            "arm": arm,
            "pair": pair,
            "size": size,
            "ratio": ratio,
            "seed": seed,
            "learning_rate": rate if train else None,
            "passes": 3 if train else None,
            "recipe": {"mix": {"seed": seed}},
            "commands": [["tellmt", "mix"], ["tellmt", "train"]],
            "counts": {"task": {"examples": pairs, "tokens": task}, "general": {"examples": general // 110, "tokens": general}} if train else None,
            "train": {"steps": task // 2000, "tokens": 2 * (task + general), "seconds": (task + general) / 900, "final_loss": 1.9} if train else None,
            "dev": {
                "name": "ntrex/dev" if role == "tune" else "ntrex/test",
                "segments": len(references),
                "bleu": round(BLEU().corpus_score(hypotheses, [references]).score, 4),
                "chrf2": round(CHRF().corpus_score(hypotheses, [references]).score, 4),
                "signatures": SIGNATURES,
                "nats_per_token": sum(x["nats"] for x in losses) / sum(x["tokens"] for x in losses),
                "truncated": int(20 * (1 - share)),
            },
            "base": {"id": "gemma-3-270m", "revision": "a5fd3b62"},
            "versions": {"tellmt": "0.1.0", "torch": "2.13.0"},
            "machine": "2 cores",
            "finished": f"2026-11-21T10:{seed:02}:00Z",
        }
        with (self.directory / "results.jsonl").open("a") as f:
            f.write(json.dumps(row) + "\n")
        return name

    def bare(self) -> None:
        for pair in self.pairs:
            for arm, share in BARE.items():
                self.add(arm, pair, None, self.seeds[0], share, ratio=0.0, train=False)

    def grid(self, arms: Iterable[str] = GAINS, sizes: Iterable[int | None] | None = None, shared_noise: bool = False) -> None:
        """Every arm at every size and seed. With shared noise a seed replaces the same words in every arm, so that curves are exact."""
        for pair in self.pairs:
            for arm in arms:
                for size in self.sizes if sizes is None else sizes:
                    for seed in self.seeds:
                        share = kept((size or ALL) * GAINS[arm])
                        self.add(arm, pair, size, seed, share, ratio=0.0 if arm in ("sft", "ltd-task") else 1.0, noise=str(seed) if shared_noise else None)

    def tuned(self, arms: Iterable[str] = GAINS) -> None:
        for pair in self.pairs:
            for arm in arms:
                for rate in RATES:
                    share = kept(500 * GAINS[arm]) - 0.05 * abs(math.log10(rate / 1e-3))
                    self.add(arm, pair, 500, 101, share, ratio=0.0 if arm == "sft" else 1.0, rate=rate, role="tune")

    def ratios(self, sizes: Iterable[int | None], ratios: Iterable[float] = (0.0, 0.25, 4.0)) -> None:
        """Runs of `tell` at other amounts of general data than the grid's."""
        for pair in self.pairs:
            for size in sizes:
                for ratio in ratios:
                    for seed in self.seeds:
                        share = kept((size or ALL) * GAINS["tell"]) - 0.015 * abs(math.log2(ratio or 0.1))
                        self.add("tell", pair, size, seed, share, ratio=ratio)
