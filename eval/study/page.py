"""A study's summary as a page of Markdown.

Reads the summary that the report of `tellmt study` writes as summary.json, and nothing else, so that every figure on the page is in that file.
"""

from __future__ import annotations

import json
from typing import Any

from eval.study.over_general import picture_name
from eval.study.power import VERDICTS
from eval.study.summary import size_text

NONE = "–"


def study_page(summary: dict[str, Any], directory: str, pictures: list[str]) -> str:
    sections = [head_section(summary, directory), needed_section(summary, pictures), missing_section(summary), scores_section(summary), tuning_section(summary)]
    sections += [general_tokens_section(summary, pictures), losses_section(summary, pictures), tokens_section(summary, pictures)]
    return "\n\n".join(section for section in sections if section) + "\n"


def markdown_table(columns: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows])


def number_cell(x: float | None, digits: int = 2, sign: bool = False) -> str:
    return NONE if x is None else f"{x:{'+' if sign else ''}.{digits}f}"


def count_cell(x: float | None) -> str:
    return NONE if x is None else f"{x:,.0f}"


def seed_statistics(s: dict[str, Any] | None, digits: int = 2) -> str:
    if s is None:
        return NONE
    if s["sd"] is None:
        return number_cell(s["mean"], digits)
    return f"{number_cell(s['mean'], digits)} ({number_cell(s['low'], digits)}–{number_cell(s['high'], digits)}, sd {number_cell(s['sd'], digits)})"


def comma_list(values: list[Any]) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values) or NONE


def p_value_cell(p: float | None) -> str:
    return NONE if p is None else f"{p:.4f}"


def segment_counts(sizes: list[int]) -> str:
    return " or ".join(f"{n:,}" for n in sizes)


def names_in_brackets(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def bounded_reading(side: str, x: float | None, digits: int = 2) -> str:
    """A reading of the curve, after "> " or "< " where the curve ends before it."""
    return f"{side} {x:,.{digits}f}".strip()


def picture(pictures: list[str], name: str, alt: str) -> str:
    return f"![{alt}]({name})" if name in pictures else ""


def head_section(s: dict[str, Any], directory: str) -> str:
    seeds = comma_list(s["seeds"])
    lines = [f"# Study: {s['study']}", ""]
    lines.append(f"{s['runs']} runs and {s['tuning_runs']} tuning runs, seeds {seeds}. This command made the page:")
    lines += ["", "```sh", f"tellmt study STUDY.toml --report-only -o {directory}", "```", ""]
    for pair, about in s["pairs"].items():
        lines += [f"- {pair}: {segment_counts(about['segments'])} dev segments{names_in_brackets(about['names'])}"] if about["segments"] else []
    if s["finished"]:
        lines.append(f"- runs finished between {s['finished'][0]} and {s['finished'][1]}")
    for title, key in (("base", "bases"), ("machine", "machines"), ("versions", "versions")):
        for value in s[key]:
            lines.append(f"- {title}: {one_line_value(value)}")
    lines += ["", "sacreBLEU's signatures:", ""]
    for pair, about in s["pairs"].items():
        lines += [f"    {pair} {'BLEU' if m == 'bleu' else 'chrF2'}: {signature}" for m, signature in about["signatures"].items()]
    return "\n".join(lines)


def one_line_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v if not isinstance(v, (dict, list)) else json.dumps(v)}" for k, v in value.items())
    return str(value)


def missing_section(s: dict[str, Any]) -> str:
    lines = ["## What is missing", ""]
    if s["unit"] == "tokens":
        lines.append("What is missing is not listed for a study by tokens.")
    else:
        lines += [f"- {m}" for m in s["missing"]] or ["Nothing: every run that the study asks for is there."]
    if s["notes"]:
        lines += ["", "What was left out, or does not agree:", "", *(f"- {n}" for n in s["notes"])]
    return "\n".join(lines)


def scores_section(s: dict[str, Any]) -> str:
    reference = s["reference_arm"]
    about = f"""## Outcomes per pair and size

The figures are means over seeds, with (lowest–highest, standard deviation) where there are two seeds or more. *nats* is the loss of the held-out references per
target token; lower is better. *cut* is the mean number of outputs that ended at the token limit.

Δ is an arm minus `{reference}` with the same seed, as a mean over seeds with the 95% t-interval over the differences per seed: it speaks for other seeds.
*seen from*
is the smallest difference that these seeds would have seen in {s["power"]:.0%} of studies with this spread; where an interval holds zero, a smaller
difference is not ruled out. A single run without training is compared with every seed of `{reference}`."""
    return "\n\n".join([about, *(scores_table(t, reference, s["unit"]) for t in s["tables"])])


def scores_table(t: dict[str, Any], reference: str, unit: str) -> str:
    title = f"### {t['pair']}, {size_text(t['size'], unit)}"
    columns = ["arm", "task pairs", "task tokens", "general tokens", "rate × passes", "seeds", "nats", f"Δ nats to {reference}", "seen from"]
    columns += ["chrF2", f"Δ chrF2 to {reference}", "seen from", "BLEU", "cut"]
    rows = []
    for r in t["rows"]:
        rate = f"{comma_list(r['learning_rates'])} × {comma_list(r['passes'])}" if r["trained"] else NONE
        counts = [count_cell(x) for x in (r["task_pairs"], r["task_tokens"]["mean"], r["general_tokens"]["mean"])] if r["trained"] else [NONE] * 3
        difference = r["against"] or {"nats": None, "chrf2": None}
        cells = [seed_statistics(r["nats"]["all"], 3), *difference_cells(difference["nats"], 3)]
        cells += [seed_statistics(r["chrf2"]["all"]), *difference_cells(difference["chrf2"], 2), seed_statistics(r["bleu"]["all"])]
        cells.append(number_cell(r["truncated"]["mean"], 1) if r["chrf2"]["all"] else NONE)
        rows.append([r["arm"], *counts, rate, comma_list(r["seeds"]) if r["trained"] else NONE, *cells])
    foot = f"{segment_counts(sorted({r['segments'] for r in t['rows']}))} segments."
    if not t["reference_there"]:
        foot += f" `{reference}` has no run here, so nothing is compared."
    return "\n\n".join([title, markdown_table(columns, rows), foot])


def difference_cells(a: dict[str, Any] | None, digits: int) -> list[str]:
    if a is None:
        return [NONE, NONE]
    if a["mean"] is None:
        return ["no seed in common", NONE]
    ends = a["interval"]
    between = f" [{number_cell(ends[0], digits, True)}, {number_cell(ends[1], digits, True)}]" if ends else " (1 seed, no interval)"
    return [number_cell(a["mean"], digits, True) + between, number_cell(a["seen_from"], digits)]


def tuning_section(s: dict[str, Any]) -> str:
    if not s["tuning"]:
        return "## Tuning\n\nThere is no tuning run yet."
    rows, remarks_on_arms = [], []
    for t in s["tuning"]:
        tried = []
        for e in t["tried"]:
            text = f"{e['learning_rate']:g}: {number_cell(e['nats'], 3)}" + (f" / {number_cell(e['chrf2'])}" if e["chrf2"] is not None else "")
            tried.append(f"**{text}**" if e["chosen"] else text)
        remarks = [] if t["used"] else [f"not run yet: the best by {t['by']}"]
        if t["used"] and not any(e["chosen"] and e["learning_rate"] == t["best"] for e in t["tried"]):
            remarks.append(f"{t['best']:g} is better by {t['by']}")
        if t["at_edge"]:
            remarks.append("at the edge of what was tried")
        ratio = NONE if t["ratio"] is None else f"{t['ratio']:g}"
        seeds = sorted({n for e in t["tried"] for n in e["seeds"]})
        rows.append([t["pair"], size_text(t["size"], s["unit"]), t["arm"], ratio, comma_list(seeds), "; ".join(tried), ", ".join(remarks)])
    numbers: dict[str, set[int]] = {}
    for t in s["tuning"]:
        numbers.setdefault(t["arm"], set()).add(len(t["tried"]))
    if len({n for each in numbers.values() for n in each}) > 1:
        remarks_on_arms.append(
            "The arms were not all tried at the same number of rates: " + ", ".join(f"{a} {comma_list(sorted(n))}" for a, n in numbers.items()) + "."
        )
    if s["tuned_as"]:
        remarks_on_arms.append("These arms use the rate of another arm: " + ", ".join(f"{a} of {other}" for a, other in s["tuned_as"].items()) + ".")
    tuned = {p: x for p, x in s["pairs"].items() if x["tuning_segments"]}
    sets = "; ".join(f"{p}: {segment_counts(x['tuning_segments'])} segments{names_in_brackets(x['tuning_names'])}" for p, x in tuned.items())
    if all(x["tuning_names"] and x["names"] and not set(x["names"]) & set(x["tuning_names"]) for x in tuned.values()):
        other = "The tables above are scored on other segments."
    else:
        other = "It is not recorded that the tables above are scored on other segments. If they are not, tuning flatters an arm, the more rates were tried."
    about = f"""## Tuning

Each learning rate is followed by the nats per token at its best look, and by chrF2 where there is one; the rate that the runs use is bold. The scores are
on a slice of the training side, never on a test set ({sets}).
{other}"""
    columns = ["pair", "size", "arm", "general to task", "seeds", "rates tried: nats (/ chrF2)", ""]
    return "\n\n".join([about, *remarks_on_arms, markdown_table(columns, rows)])


def needed_section(s: dict[str, Any], pictures: list[str]) -> str:
    reference, unit = s["reference_arm"], s["unit"]
    parts = ["## How much task data plain fine-tuning needs"]
    if unit == "tokens":
        parts.append(
            """This study was made before sizes went by pairs. Its budgets count the tokens of task examples with their anchors, so arms with
other words around a pair had other numbers of pairs, its rates were chosen by chrF2 on a seed that is compared too, and no arm stopped at its best
loss. It is shown as it was made, and read on chrF2."""
        )
    primary = [r for r in s["needed"] if r["primary"]]
    parts += [primary_text(r, reference) for r in primary]
    if s["primary"] and not primary:
        p = s["primary"]
        parts.append(
            f"**The primary figure is not there yet**: {p['arm']} at {p['size']:,} pairs, general to task {p['ratio']:g}, {p['pair']}; "
            f"the answer needs {p.get('seeds', 2)} seeds."
        )
    parts.append(picture(pictures, "study-task-data.png", "outcome against task data, one line per arm"))
    if not s["needed"]:
        parts.append(f"What `{reference}` needs cannot be read off yet: its curve or another arm is missing.")
        return "\n\n".join(p for p in parts if p)
    parts.append(
        f"""The ratio says how much task data `{reference}` needs to equal an arm, as a multiple of the arm's own. Below 1 the arm is the worse of the two.
The curve of `{reference}` is straight between its sizes over the logarithm, for each seed by itself, and read where its mean first reaches the arm's mean.
The brackets hold every size at which the mean difference over seeds is not surely other than zero (95%, Student's t on paired seeds, with the error
of other segments where losses per segment are kept). `> x` means beyond the largest size, which is x times the arm's data; `< x` means below the smallest."""
    )
    rows = []
    for r in s["needed"]:
        ends = f"{bounded_reading(r['low_side'], r['low'])} to {bounded_reading(r['high_side'], r['high'])}" if len(r["seeds"]) > 1 else "one seed, no interval"
        ratio, needs = bounded_reading(r["side"], r["ratio"]), bounded_reading(r["side"], r["ratio"] * r["at"], 0)
        score = number_cell(r["score"]) if unit == "tokens" else number_cell(-r["score"], 3)
        amount = NONE if r["ratio_of_general"] is None else f"{r['ratio_of_general']:g}"
        rows.append([r["pair"], r["arm"], amount, count_cell(r["at"]), comma_list(r["seeds"]), score, needs, f"{ratio} [{ends}]"])
    outcome = "its chrF2" if unit == "tokens" else "its nats"
    columns = ["pair", "arm", "general to task", f"its {unit}", "seeds", outcome, f"`{reference}` needs", "ratio [95%]"]
    return "\n\n".join(p for p in [*parts, markdown_table(columns, rows)] if p)


def primary_text(r: dict[str, Any], reference: str) -> str:
    """The primary figure, its answer, and what a study like this would have seen."""
    p = r["primary"]
    ends = f"{bounded_reading(r['low_side'], r['low'])} to {bounded_reading(r['high_side'], r['high'])}"
    text = f"**{reference} needs {bounded_reading(r['side'], r['ratio'])} times the pairs of {r['arm']}** at {r['at']:,.0f} pairs and "
    text += f"{r['ratio_of_general']:g} general tokens to a task token "
    text += f"({r['pair']}, {len(r['seeds'])} seeds, 95% interval {ends}). Margin {p['margin']:g}: **{p['answer']}**. "
    text += "Nearly ten times, the papers' most, is " + ("ruled out here." if p["claim_ruled_out"] else "not ruled out.")
    if p["power"]:
        first = p["power"][0]
        rows = [[f"{x['truth']:g}", *(number_cell(x[v]) for v in VERDICTS)] for x in p["power"]]
        text += f"\n\nHow often these seeds and this spread (sd {first['sd']:.3f} nats, {first['slope']:.3f} nats a doubling of pairs) give each answer, "
        text += "by what is true:\n\n"
        text += markdown_table(["true ratio", *VERDICTS], rows)
    return text


def general_tokens_section(s: dict[str, Any], pictures: list[str]) -> str:
    if not s["general"]:
        return "## General tokens\n\nNo arm has runs at two amounts of general data and one size yet."
    rows = []
    for g in s["general"]:
        for p in g["points"]:
            ratio = NONE if p["ratio"] is None else f"{p['ratio']:g}"
            amount_cells = [ratio, count_cell(p["general_tokens"]), comma_list(p["seeds"])]
            rows.append(
                [g["pair"], size_text(g["size"], s["unit"]), g["arm"], *amount_cells, seed_statistics(p["nats"]["all"], 3), seed_statistics(p["chrf2"]["all"])]
            )
    columns = ["pair", "size", "arm", "general to task", "general tokens", "seeds", "nats", "chrF2"]
    plot = picture(pictures, "study-general-tokens.png", "outcome against general tokens, one panel per pair and size")
    about = "Each amount has its own training run with the task data of its size, so a jump between two amounts is a jump between models, not within a run."
    return "\n\n".join(p for p in ["## General tokens", about, plot, markdown_table(columns, rows)] if p)


def losses_section(s: dict[str, Any], pictures: list[str]) -> str:
    if not s["losses"]:
        return "## Loss per example\n\nNo arm has losses per segment at two amounts of general data and one size yet."
    about = """## Loss per example

The change of a dev segment is its nats per token minus those at the smallest amount of general data, as a mean over the seeds that all amounts have. The
quantization hypothesis (Michaud et al., arXiv 2303.13506) says that a model learns skills whole, one by one, so that an example's loss falls at once or
not at all. Two tests examine this:

- *one mode*: Silverman's test (1981) of whether the changes at an amount have one mode (peaks below a tenth of the highest do not count). A small p says
  that the changes fall into groups, such as changed and unchanged.
- *in one step*: the mean share of an example's squared change that lies in its largest step between neighbouring amounts, compared with that share when
  the changes of each step are shuffled between examples. A small p says that examples change in one step more than the sizes of the steps explain.

The tests have limits. A segment's loss is a mean over its tokens, in which many small jumps look smooth, so a large p is no evidence against the
hypothesis. There are few amounts and each is another model, so a jump can only be placed between two amounts. Groups may be kinds of text instead of
skills. Short segments are noisier than long ones, which hides steps. The p-values are not corrected for their number."""
    parts = [about]
    rows = []
    for x in s["losses"]:
        where = [x["pair"], size_text(x["size"], s["unit"]), x["arm"]]
        for c in x["changes"]:
            low, middle, high = c["deciles"]
            deciles = f"{number_cell(low, 3, True)}, {number_cell(middle, 3, True)}, {number_cell(high, 3, True)}"
            falling = f"{c['falling']} of {x['segments']}"
            mean_change = [number_cell(c["mean"], 3, True), number_cell(c["sd"], 3)]
            rows.append([*where, count_cell(c["general_tokens"]), *mean_change, deciles, falling, p_value_cell(c["p_one_mode"])])
    parts.append(markdown_table(["pair", "size", "arm", "general tokens", "mean change", "sd", "10%, 50%, 90%", "falling", "one mode: p"], rows))
    rows = []
    for x in s["losses"]:
        steps = x["steps"] or {"largest": None, "shuffled": None, "p": None}
        figures = [number_cell(steps["largest"], 3), number_cell(steps["shuffled"], 3), p_value_cell(steps["p"])]
        run_cells = [x["pair"], size_text(x["size"], s["unit"]), x["arm"], str(x["segments"]), comma_list(x["seeds"])]
        rows.append([*run_cells, count_cell(x["amounts"][0]), number_cell(x["seed_sd"], 3), *figures])
    columns = ["pair", "size", "arm", "segments", "seeds", "smallest amount", "sd between seeds", "share in largest step", "shuffled", "in one step: p"]
    parts.append(markdown_table(columns, rows))
    parts.append(
        "*sd between seeds* is how much another seed alone changes a segment's nats per token. – stands where there are fewer than two seeds or three amounts."
    )
    for x in s["losses"]:
        name, size = picture_name(x["pair"], x["size"], x["arm"]), size_text(x["size"], s["unit"])
        parts.append(picture(pictures, f"study-losses-{name}.png", f"change in loss per dev segment, {x['pair']}, {size}, {x['arm']}"))
    return "\n\n".join(p for p in parts if p)


def tokens_section(s: dict[str, Any], pictures: list[str]) -> str:
    if not s["jumps"]:
        return "## Loss per target token\n\nNo arm has the losses of tokens at three amounts of general data yet."
    about = """## Loss per target token

The units are target tokens of the held-out references, not segments, whose means hide jumps. *In one step* is the mean share of a token's squared change
that lies in its largest step,
against the same with each step's changes shuffled among tokens of the same quarter of loss. A token that moves by more than three standard errors over
seeds is *monogenic* where more than half
of its squared change lies in one step. It is a sign of jumps where p < 0.01 and the share is above the shuffled one by 0.05, over amounts and along
training both."""
    rows = []
    for x in s["jumps"]:
        steps = x["steps"] or {"largest": None, "shuffled": None, "p": None}
        cells = [
            x["pair"],
            size_text(x["size"], s["unit"]),
            x["arm"],
            NONE if x["ratio"] is None else f"{x['ratio']:g}",
            x["along"],
            comma_list(x["seeds"]),
            count_cell(x["tokens"]),
        ]
        cells += [number_cell(steps["largest"], 3), number_cell(steps["shuffled"], 3), p_value_cell(steps["p"]), p_value_cell(x["p_one_mode"])]
        rows.append([*cells, count_cell(x["moved"]), count_cell(x["monogenic"]), count_cell(x["monogenic_by_chance"]), "yes" if x["sign"] else "no"])
    columns = [
        "pair",
        "size",
        "arm",
        "general to task",
        "along",
        "seeds",
        "tokens",
        "in one step",
        "shuffled",
        "p",
        "one mode: p",
        "moved",
        "monogenic",
        "by chance",
        "sign",
    ]
    parts = [about, markdown_table(columns, rows)]
    parts += [picture(pictures, n, "losses of single tokens, and the shares of their largest steps") for n in pictures if n.startswith("study-tokens-")]
    return "\n\n".join(p for p in parts if p)
