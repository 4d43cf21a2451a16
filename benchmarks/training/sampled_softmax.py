#!/usr/bin/env python3
"""What the sampled softmax of training misses: its loss beside that over the whole vocabulary, before and after a training, and the speed of both.

Trains a base twice on the same examples in the same order, in this process: with the words of the data and a sample of the others (`[train] negatives`), and
with the base's own likeliest words beside them (train.likely_words); with --full over all words too. Prints Markdown to standard output. Two losses of one
line are of the same positions; `held out` is the loss of the dev split over all words, which the sampling has no part in. On a machine that others use, look
at the tokens of a second of the processor.

    python -m benchmarks.training.sampled_softmax
    python -m benchmarks.training.sampled_softmax --tokens 40000 --corpus CORPUS --full
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.training.bench_train import prepare

# Draws of the sample that a sampled loss is the mean of.
DRAWS = 8
# BaseTokenizer, padding included, in one forward pass of what is only measured.
BATCH_TOKENS = 512


def some(data: Sequence[Any], positions: int, seed: int) -> list[Any]:
    """Examples with this many response positions together, or a few more."""
    chosen: list[Any] = []
    for i in random.Random(f"measured:{seed}").sample(range(len(data)), len(data)):
        if sum(len(e.ids) - e.start for e in chosen) >= positions:
            break
        chosen.append(data[i])
    return chosen


def states_of(model: Any, data: Sequence[Any], pad: int) -> tuple[Any, Any]:
    """The hidden states (n, d) that predict the response tokens of these examples, and the tokens (n,)."""
    import torch

    from train.model import collate, response_states
    from train.plan import micro_batches

    states, labels = [], []
    model.eval()
    with torch.no_grad():
        for batch in micro_batches(list(range(len(data))), data, BATCH_TOKENS):
            collated = collate([data[i] for i in batch], pad).to(str(next(model.parameters()).device))
            states.append(response_states(model, collated))
            labels.append(collated.labels)
    model.train()
    return torch.cat(states), torch.cat(labels)


def full_loss(stepper: Any, states: Any, labels: Any) -> float:
    """The mean cross-entropy (nats) over the whole vocabulary."""
    from train.output_layer import output_layer, output_losses

    return float(output_losses(states, output_layer(stepper.model.get_base_model()), labels).double().mean())


def sampled_loss(stepper: Any, states: Any, labels: Any) -> tuple[float, float]:
    """The mean cross-entropy (nats) as training estimates it, over several draws; and the probability that it gives to the words that are drawn."""
    import torch

    from train.output_layer import output_loss

    words, losses, drawn = stepper.words, [], []
    for step in range(DRAWS):
        words.draw(1_000_000 + step)
        losses.append(float(output_loss(states, words.layer, words.places(labels), words.correction)[0]) / len(labels))
        if words.correction is not None:
            with torch.no_grad():
                shares = torch.softmax(words.layer.logits(states) + words.correction, -1)
            drawn.append(float(shares[:, -stepper.options.negatives :].sum(-1).mean()))
    return statistics.mean(losses), statistics.mean(drawn) if drawn else 0.0


def outside(stepper: Any, states: Any) -> float:
    """The probability that the whole softmax gives to the words that are not always included."""
    import torch

    from train.output_layer import output_layer, word_chunks

    words = stepper.words
    if words.all:
        return 0.0
    layer = output_layer(stepper.model.get_base_model())
    inside = []
    with torch.no_grad():
        for part in word_chunks(states, layer.weight):
            inside.append(torch.softmax(layer.logits(states[part]), -1)[:, words.included].sum(-1))
    return 1 - float(torch.cat(inside).mean())


def train_once(stepper: Any, plan: Sequence[Any], recipe: Any) -> tuple[float, float]:
    """Take every step. Returns tokens a second, and tokens a second of the processor; the first step, which may compile, is left out."""
    from train.plan import learning_rate

    wall, busy, tokens = 0.0, 0.0, 0
    for number, step in enumerate(plan):
        began, used = time.monotonic(), time.process_time()
        stepper.step(number, step, learning_rate(number, len(plan), recipe.train), plan[number + 1] if number + 1 < len(plan) else None)
        if number:
            wall, busy, tokens = wall + time.monotonic() - began, busy + time.process_time() - used, tokens + step.tokens
    return tokens / max(wall, 1e-9), tokens / max(busy, 1e-9)


def measure(name: str, inputs: Any, recipe: Any, held_out: Sequence[Any], options: argparse.Namespace) -> dict[str, Any]:
    from train.distributed import ProcessGroup
    from train.plan import make_plan
    from train.stepper import Stepper

    processes = ProcessGroup()
    processes.threads(options.threads)
    plan = make_plan(inputs.data, recipe.train, recipe.seed)[: options.steps or None]
    stepper = Stepper(inputs, recipe, processes)
    began, used = time.monotonic(), time.process_time()
    likely = stepper.include_likely() if name == "likely words" else []
    looked = time.monotonic() - began, time.process_time() - used
    data = some(inputs.data, options.positions, recipe.seed)
    row: dict[str, Any] = {"name": name, "likely": len(likely), "seconds": looked[0], "cpu_seconds": looked[1]}
    for when in ("before", "after"):
        if when == "after":
            row["speed"], row["cpu_speed"] = train_once(stepper, plan, recipe)
        states, labels = states_of(stepper.model, data, inputs.base.eos_ids[0])
        sampled, drawn = sampled_loss(stepper, states, labels)
        row[when] = {"full": full_loss(stepper, states, labels), "sampled": sampled, "outside": outside(stepper, states), "drawn": drawn}
        if when == "after":
            row[when]["held_out"] = full_loss(stepper, *states_of(stepper.model, held_out, inputs.base.eos_ids[0]))
    row["words"] = len(stepper.words.layer.weight)
    stepper.close()
    row["weights"] = {n: t.detach().clone() for n, t in stepper.masters.masters.items()}
    return row


def apart(a: dict[str, Any], b: dict[str, Any]) -> float:
    """How far two trained adapters lie apart, relative to the first one's length."""
    difference = math.sqrt(sum(float(((a[n] - b[n]).double() ** 2).sum()) for n in a))
    return difference / math.sqrt(sum(float((t.double() ** 2).sum()) for t in a.values()))


def lines_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| softmax over | | full | as trained on | outside, true | outside, as drawn | held out |", "|---|---|---:|---:|---:|---:|---:|"]
    for r in rows:
        for when in ("before", "after"):
            m = r[when]
            held_out = f"{m['held_out']:.4f}" if "held_out" in m else ""
            lines.append(f"| {r['name']} | {when} | {m['full']:.3f} | {m['sampled']:.3f} | {m['outside']:.1%} | {m['drawn']:.1%} | {held_out} |")
    lines += ["", "| softmax over | words in a step | tokens/s | tokens/s of the processor | looking for likely words |", "|---|---:|---:|---:|---:|"]
    for r in rows:
        looking = f"{r['likely']:,} in {r['seconds']:.1f} s ({r['cpu_seconds']:.1f} s of the processor)" if r["likely"] else ""
        lines.append(f"| {r['name']} | {r['words']:,} | {r['speed']:.0f} | {r['cpu_speed']:.0f} | {looking} |")
    for r in rows[1:]:
        distance = apart(rows[0]["weights"], r["weights"])
        lines.append(f"\nThe adapters of `{rows[0]['name']}` and `{r['name']}` lie {distance:.3f} of the first one's length apart.")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=12_000, help="tokens of prompts and responses to train on, once  [default: 12000]")
    parser.add_argument("--corpus", type=Path, help="a directory made by corpus build; its dev split is held out  [default: the sample in examples/]")
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--positions", type=int, default=384, help="response positions that losses are compared on  [default: 384]")
    parser.add_argument("--steps", type=int, default=0, help="optimiser steps, at most; 0 takes all")
    parser.add_argument("--threads", type=int, default=0, help="0 takes every core")
    parser.add_argument("--full", action="store_true", help="train over all words too: takes twice as long as one of the others")
    options = parser.parse_args()
    from tell.corpus.directory import open_corpus
    from tell.model.anchor import Anchor
    from tell.model.tokenizer import BaseTokenizer
    from tell.records import Example
    from train.config import read_recipe
    from train.plan import Tokenised

    with tempfile.TemporaryDirectory() as scratch:
        settings = argparse.Namespace(corpus=options.corpus, base=options.base, tokens=options.tokens, compile="off")
        corpus, inputs = prepare(Path(scratch), settings)
        recipe = read_recipe(Path(scratch) / "recipe.toml")
        anchor = Anchor.model_validate(inputs.mix["anchor"])
        dev = [Example(f"{i}", "task", anchor.prompt(p.source), anchor.opening, p.target) for i, p in enumerate(open_corpus(corpus).pairs("dev"))]
        held_out = [Tokenised(ids, start, True) for ids, start in BaseTokenizer(inputs.base, anchor.chat).example_ids(dev)]
    held_out = some(held_out, 2 * options.positions, 0)
    whole = recipe.model_copy(update={"train": recipe.train.model_copy(update={"negatives": 0})})
    ways = [("data and sample", recipe), ("likely words", recipe), *([("all words", whole)] if options.full else [])]
    rows = [measure(name, inputs, way, held_out, options) for name, way in ways]
    print("\n".join(lines_of(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
