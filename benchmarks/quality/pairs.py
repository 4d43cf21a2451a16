#!/usr/bin/env python3
"""What `tellmt pair add` makes of 500, 1,000 and 1,900 sentence pairs: scores and time, for several languages, in both directions.

Reads NTREX-128 (DIR/ntrex.eng.txt, DIR/ntrex.LANG.txt line by line, DIR/DOCUMENT_IDS.tsv). Whole documents of at most 97 segments together are held out of
every run and scored at its end; the others are given to the command in nested sizes, as a user would give them. Writes OUT/results.jsonl, a row a
direction as it is done, so that an interrupted study goes on; then OUT/pairs.md and OUT/pairs.png.

    python -m benchmarks.quality.pairs DIR OUT
    python -m benchmarks.quality.pairs DIR OUT --languages cy --sizes 500 --one-way
    python -m benchmarks.quality.pairs DIR OUT --languages cy --sizes 500 --one-way --dictionary cym-en.txt
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# BCP 47 -> the name in NTREX's files, and in English.
LANGUAGES = {"ga": ("gle", "Irish"), "cy": ("cym", "Welsh"), "eu": ("eus", "Basque"), "is": ("isl", "Icelandic")}
SIZES = (500, 1000, 1900)
HELD_OUT = 97
# By (hints, dictionary): words of the legend, and the line.
KINDS = {(False, False): ("", "dotted"), (True, False): (", hints", "solid"), (True, True): (", hints and dictionary", "dashed")}

Rows = list[tuple[str, str, str]]


def read(data: Path, code: str) -> Rows:
    """(document, sentence, English) of every segment."""
    files = [data / f"ntrex.{LANGUAGES[code][0]}.txt", data / "ntrex.eng.txt", data / "DOCUMENT_IDS.tsv"]
    texts = [p.read_text(encoding="utf-8").strip("\n").split("\n") for p in files]
    return [(doc, a, b) for a, b, doc in zip(*texts, strict=True)]


def divided(rows: Rows) -> tuple[Rows, Rows]:
    """(for training, held out), in whole documents; the same documents for every language, in an order by hash."""
    order = sorted({r[0] for r in rows}, key=lambda d: hashlib.sha256(d.encode()).hexdigest())
    held: set[str] = set()
    have = 0
    for doc in order:
        if have + (n := sum(r[0] == doc for r in rows)) <= HELD_OUT:
            held.add(doc)
            have += n
    rank = {doc: i for i, doc in enumerate(order)}
    rest = sorted((r for r in rows if r[0] not in held), key=lambda r: rank[r[0]])
    return rest, [r for r in rows if r[0] in held]


def tellmt(*words: object, env: dict[str, str]) -> Any:
    """Run a command; its result. What it says goes to stderr; exit code 1 with a result is one too (a gate that refused)."""
    done = subprocess.run([sys.executable, "-m", "tellmt", *map(str, words), "--json"], stdout=subprocess.PIPE, text=True, env=env, check=False, cwd=ROOT)
    return json.loads(done.stdout) if done.stdout.strip() else {"code": done.returncode}


def given(code: str, size: int, rest: Rows, here: Path) -> Path:
    """Write the first `size` rows as a user would give them."""
    here.mkdir(parents=True, exist_ok=True)
    table = here / "corpus.tsv"
    table.write_text(f"doc\t{code}\ten\n" + "".join(f"{d}\t{a}\t{b}\n" for d, a, b in rest[:size]), encoding="utf-8")
    return table


def measured_run(code: str, size: int, rest: Rows, held: Rows, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Add the pair from `size` rows and score both directions on the held-out rows."""
    out, one_way, base, dictionary, hints = options.out, options.one_way, options.base, options.dictionary, not options.no_hints
    here = out / f"{code}-{size}{'-dictionary' if dictionary else ''}{'' if hints else '-plain'}"
    table = given(code, size, rest, here)
    for name, column in ((code, 1), ("en", 2)):
        (here / f"held.{name}").write_text("".join(r[column] + "\n" for r in held), encoding="utf-8")
    env = {**os.environ, "TELLMT_PAIRS": str(here / "pairs"), "TELLMT_REGISTRY": str(here / "registry")}
    words = ["pair", "add", f"{code}-en", table, *(["--one-way"] if one_way else []), *(["--base", base] if base else [])]
    words += [*(["--dictionary", dictionary.absolute()] if dictionary else []), *([] if hints else ["--no-hints"])]
    began = time.monotonic()
    tellmt(*words, env=env)
    seconds = time.monotonic() - began
    rows = []
    for direction in [f"{code}-en"] if one_way else [f"{code}-en", f"en-{code}"]:
        home = here / "pairs" / f"{code}-en" / direction
        done = json.loads((home / "done.json").read_bytes())
        source, reference = (here / f"held.{name}" for name in direction.split("-"))
        scored = tellmt("score", home / "adapter", "--source", source, "--reference", reference, "--name", "held-out", "-o", home / "held", env=env)
        card = json.loads((home / "adapter" / "card.json").read_bytes())
        rows.append(
            {
                "language": code,
                "size": size,
                "direction": direction,
                "segments": scored["segments"],
                "hints": hints,
                "dictionary": dictionary.name if dictionary else None,
                "splits": done["splits"],
                "training": {k: card["training"][k] for k in ("tokens", "steps", "seconds", "device", "dtype")},
                "penalty": card["decoding"]["repetition_penalty"],
                "seconds": done["seconds"],
                "trained_now": done["trained_now"],
                "seconds_of_the_command": round(seconds, 1),
                "systems": {n: {m: {k: s[m][k] for k in ("score", "ci", "signature")} for m in ("bleu", "chrf")} for n, s in scored["systems"].items()},
                "paired": scored["paired"],
                "live": done["live"],
                "refused": done["refused"],
            }
        )
    return rows


def setting(row: dict[str, Any]) -> tuple[str, int, bool, str | None]:
    """What a row is of; rows from before there were hints have none."""
    return row["language"], row["size"], row.get("hints", False), row.get("dictionary")


def page(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [
        "| direction | pairs given | hints | trained on | penalty | chrF2, bare base | without hints | chrF2, adapter | BLEU, adapter | p | minutes | live |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for r in sorted(rows, key=lambda r: (r["language"], r["direction"].startswith("en-"), r["size"], *map(str, setting(r)[2:]))):
        chrf = {name: f"{s['chrf']['score']:.1f} ± {s['chrf']['ci']:.1f}" for name, s in r["systems"].items()}
        hints = ("own lines and a dictionary" if r.get("dictionary") else "own lines") if r.get("hints") else "none"
        bleu = r["systems"]["adapter"]["bleu"]
        figures = [f"{r['penalty']:g}", chrf["base"], chrf.get("adapter-without-hints", ""), chrf["adapter"], f"{bleu['score']:.1f} ± {bleu['ci']:.1f}"]
        figures += [f"{r['paired']['p']:.4f}", f"{r['seconds'] / 60:.0f}"]
        lines.append(f"| {r['direction']} | {r['size']:,} | {hints} | {r['splits']['train']:,} | {' | '.join(figures)} | {'yes' if r['live'] else 'no'} |")
    return "\n".join(lines) + "\n"


def picture(rows: list[dict[str, Any]]) -> bytes:
    """chrF2 on the held-out documents against pairs given, a line a direction, with its 95% intervals; the bare base at 0 pairs."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    colours = dict(zip(LANGUAGES, ("#D55E00", "#0072B2", "#009E73", "#000000"), strict=True))
    for axes, into in zip(figure.subplots(1, 2, sharey=True), (True, False), strict=True):
        for code in LANGUAGES:
            of_language = [r for r in rows if r["language"] == code and r["direction"].endswith("-en") == into]
            for kind, (words, style) in KINDS.items():
                points = sorted((r for r in of_language if (r.get("hints", False), bool(r.get("dictionary"))) == kind), key=lambda r: r["size"])
                if points:
                    scores = [points[0]["systems"]["base"]["chrf"], *(r["systems"]["adapter"]["chrf"] for r in points)]
                    y, ci = ([s[k] for s in scores] for k in ("score", "ci"))
                    label = f"{LANGUAGES[code][1]}{words}"
                    axes.errorbar([0, *(r["size"] for r in points)], y, yerr=ci, label=label, color=colours[code], marker="o", capsize=3, linestyle=style)
        axes.set_title("into English" if into else "from English")
        axes.set_xlabel("sentence pairs given (0: the bare base)")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    figure.axes[0].set_ylabel("chrF2")
    image = io.BytesIO()
    figure.savefig(image, dpi=150, metadata={"Software": None})
    return image.getvalue()


def show(rows: list[dict[str, Any]], out: Path) -> None:
    (out / "pairs.md").write_text(page(rows), encoding="utf-8")
    (out / "pairs.png").write_bytes(picture(rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--languages", nargs="+", choices=list(LANGUAGES), default=["ga", "cy", "eu"])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--one-way", action="store_true", help="into English alone")
    parser.add_argument("--dictionary", type=Path, help="of the languages, for hints; give one language then")
    parser.add_argument("--no-hints", action="store_true", help="without word hints, as before there were any")
    parser.add_argument("--base", help="base model [default: that of tellmt]")
    options = parser.parse_args()
    kind = (not options.no_hints, options.dictionary.name if options.dictionary else None)
    results = options.out / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().split("\n") if line] if results.exists() else []
    for size in options.sizes:
        for code in options.languages:
            if {r["direction"] for r in rows if setting(r) == (code, size, *kind)} >= {f"{code}-en", *(() if options.one_way else (f"en-{code}",))}:
                continue
            print(f"== {LANGUAGES[code][1]}, {size:,} pairs", file=sys.stderr, flush=True)
            rest, held = divided(read(options.data, code))
            new = measured_run(code, size, rest, held, options)
            rows = [r for r in rows if setting(r) != (code, size, *kind)] + new
            results.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
            show(rows, options.out)
    # Rows that were measured elsewhere and put together are drawn too.
    show(rows, options.out)
    print(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
