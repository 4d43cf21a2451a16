"""A study's summary as a page of Markdown.

Reads the summary that the report of `tellmt study` writes as summary.json, and nothing else, so that every figure on the page is in that file.
"""

from __future__ import annotations

import json
from typing import Any

from eval.study.summary import budget_text, picture_name

NONE = "–"


def study_page(summary: dict[str, Any], directory: str, pictures: list[str]) -> str:
    sections = [head_section(summary, directory), missing_section(summary), scores_section(summary), tuning_section(summary)]
    sections += [task_tokens_section(summary, pictures), general_tokens_section(summary, pictures), losses_section(summary, pictures)]
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
    lines += [f"- {m}" for m in s["missing"]] or ["Nothing: every run that the study asks for is there."]
    if s["notes"]:
        lines += ["", "What was left out, or does not agree:", "", *(f"- {n}" for n in s["notes"])]
    return "\n".join(lines)


def scores_section(s: dict[str, Any]) -> str:
    test, reference = s["test"], s["reference_arm"]
    about = f"""## Scores per pair and budget

The figures are means over seeds, with (lowest–highest, standard deviation) where there are two seeds or more. *nats* is the dev loss per token of the
reference; lower is better. *cut* is the mean number of outputs that ended at the token limit.

Δ is an arm's chrF2 minus that of `{reference}` with the same seed, as a mean over seeds with the 95% t-interval over the differences per seed. This
interval is the only figure here that covers other seeds. *p* comes from paired approximate randomisation on chrF2 ({test["trials"]:,} trials, seed
{test["seed"]}, two-sided, ties counted as at least as extreme). The test pools the hypotheses of all common seeds as paired segments. *p Holm* is
corrected over the comparisons of the table. The pooled test asks whether exactly these models differ on text like this: it does not see the variance
between seeds. It also counts each segment once per seed. † marks a p that is below 0.05 only because of that: when the outputs of all seeds for a
segment are swapped together, p is 0.05 or more. A single run without training is compared with every seed of `{reference}`."""
    return "\n\n".join([about, *(scores_table(t, reference) for t in s["tables"])])


def scores_table(t: dict[str, Any], reference: str) -> str:
    title = f"### {t['pair']}, {budget_text(t['budget'])}"
    columns = ["arm", "task tokens", "general tokens", "rate × epochs", "seeds", "chrF2", "BLEU", "nats", "cut"]
    columns += [f"Δ chrF2 to {reference}", "p", "p Holm"]
    rows = []
    for r in t["rows"]:
        rate = f"{comma_list(r['learning_rates'])} × {comma_list(r['epochs'])}" if r["trained"] else NONE
        token_counts = [count_cell(r["task_tokens"]["mean"]), count_cell(r["general_tokens"]["mean"])] if r["trained"] else [NONE, NONE]
        nats = seed_statistics(r["nats"], 3) + (f" ({r['nats_missing']} without)" if r["nats"] and r["nats_missing"] else "")
        figures = [seed_statistics(r["chrf2"]), seed_statistics(r["bleu"]), nats, number_cell(r["truncated"]["mean"], 1)]
        rows.append([r["arm"], *token_counts, rate, comma_list(r["seeds"]) if r["trained"] else NONE, *figures, *difference_cells(r)])
    foot = f"{segment_counts(sorted({r['segments'] for r in t['rows']}))} segments; {t['comparisons']} comparisons in the family."
    if not t["reference_there"]:
        foot += f" `{reference}` has no run here, so nothing is compared."
    return "\n\n".join([title, markdown_table(columns, rows), foot])


def difference_cells(r: dict[str, Any]) -> list[str]:
    a = r["against"]
    if a is None:
        return [NONE, NONE, NONE]
    if a["chrf2"] is None:
        return ["no seed in common", NONE, NONE]
    between = f" [{number_cell(a['interval'][0], 2, True)}, {number_cell(a['interval'][1], 2, True)}]" if a["interval"] else " (1 seed, no interval)"
    mark = "†" if a["p"] is not None and a["p"] < 0.05 <= a["p_by_segment"] else ""
    return [number_cell(a["chrf2"], 2, True) + between, p_value_cell(a["p"]) + mark, p_value_cell(a["p_holm"])]


def tuning_section(s: dict[str, Any]) -> str:
    if not s["tuning"]:
        return "## Tuning\n\nThere is no tuning run yet."
    rows, remarks_on_arms = [], []
    for t in s["tuning"]:
        tried = []
        for e in t["tried"]:
            text = f"{e['learning_rate']:g}: {number_cell(e['chrf2'])} / {number_cell(e['nats'], 3)}"
            tried.append(f"**{text}**" if e["chosen"] else text)
        remarks = [] if t["used"] else ["not run yet: the best by chrF2"]
        if t["used"] and not any(e["chosen"] and e["learning_rate"] == t["best_chrf2"] for e in t["tried"]):
            remarks.append(f"{t['best_chrf2']:g} is better by chrF2")
        if t["at_edge"]:
            remarks.append("at the edge of what was tried")
        ratio = NONE if t["ratio"] is None else f"{t['ratio']:g}"
        seeds = sorted({n for e in t["tried"] for n in e["seeds"]})
        rows.append([t["pair"], budget_text(t["budget"]), t["arm"], ratio, comma_list(seeds), "; ".join(tried), ", ".join(remarks)])
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

Each learning rate is followed by its chrF2 / nats per token; the rate that the runs use is bold. The scores are on a slice of the training side, never
on a test set ({sets}).
{other}"""
    columns = ["pair", "budget", "arm", "general to task", "seeds", "rates tried: chrF2 / nats", ""]
    return "\n\n".join([about, *remarks_on_arms, markdown_table(columns, rows)])


def task_tokens_section(s: dict[str, Any], pictures: list[str]) -> str:
    reference, draws = s["reference_arm"], s["bootstrap"]
    parts = ["## Task tokens"]
    fixed = {a: r for a, r in s["main_ratio"].items() if r is not None}
    if fixed:
        parts.append("Ratio of general to task tokens at which each arm is drawn: " + ", ".join(f"{a} {r:g}" for a, r in fixed.items()) + ".")
    parts.append(picture(pictures, "study-task-tokens.png", "chrF2 against task tokens, one line per arm"))
    if not s["needed"]:
        parts.append(f"The tokens that `{reference}` needs cannot be read off yet: its curve or another arm is missing.")
        return "\n\n".join(p for p in parts if p)
    parts.append(
        f"""The ratio says how many task tokens `{reference}` needs to equal an arm, as a multiple of the arm's own. Below 1 the arm is the worse of the two.
The mean curve of `{reference}` is read where it first reaches the arm's mean chrF2; between budgets it is a straight line over the logarithm of tokens.
The brackets hold the 95% percentile interval of {draws["resamples"]:,} bootstrap resamples (seed {draws["seed"]}). They resample the dev segments,
with the same draw for all runs, and the seeds within each point. With few seeds the interval is too narrow; with one it covers the segments only.
`> x` means beyond the largest budget, which is x times the arm's tokens; `< x` means below the smallest budget."""
    )
    rows = []
    for n in s["needed"]:
        for r in n["readings"]:
            ends = f"{bounded_reading(r['low_side'], r['low'])} to {bounded_reading(r['high_side'], r['high'])}"
            ratio, needs = bounded_reading(r["side"], r["ratio"]), bounded_reading(r["side"], r["ratio"] * r["tokens"], 0)
            arm_cells = [n["pair"], n["arm"], budget_text(r["budget"]), count_cell(r["tokens"]), str(r["seeds"]), number_cell(r["score"])]
            rows.append([*arm_cells, needs, f"{ratio} [{ends}]"])
    columns = ["pair", "arm", "budget", "its task tokens", "seeds", "its chrF2", f"`{reference}` needs", "ratio [95%]"]
    return "\n\n".join(p for p in [*parts, markdown_table(columns, rows)] if p)


def general_tokens_section(s: dict[str, Any], pictures: list[str]) -> str:
    if not s["general"]:
        return "## General tokens\n\nNo arm has runs at two amounts of general data and one budget yet."
    rows = []
    for g in s["general"]:
        for p in g["points"]:
            ratio = NONE if p["ratio"] is None else f"{p['ratio']:g}"
            amount_cells = [ratio, count_cell(p["general_tokens"]), comma_list(p["seeds"])]
            rows.append([g["pair"], budget_text(g["budget"]), g["arm"], *amount_cells, seed_statistics(p["chrf2"]), seed_statistics(p["nats"], 3)])
    columns = ["pair", "budget", "arm", "general to task", "general tokens", "seeds", "chrF2", "nats"]
    plot = picture(pictures, "study-general-tokens.png", "chrF2 against general tokens, one panel per pair and budget")
    about = "Each amount has its own training run with the task data of its budget, so a jump between two amounts is a jump between models, not within a run."
    return "\n\n".join(p for p in ["## General tokens", about, plot, markdown_table(columns, rows)] if p)


def losses_section(s: dict[str, Any], pictures: list[str]) -> str:
    if not s["losses"]:
        return "## Loss per example\n\nNo arm has losses per segment at two amounts of general data and one budget yet."
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
        where = [x["pair"], budget_text(x["budget"]), x["arm"]]
        for c in x["changes"]:
            low, middle, high = c["deciles"]
            deciles = f"{number_cell(low, 3, True)}, {number_cell(middle, 3, True)}, {number_cell(high, 3, True)}"
            falling = f"{c['falling']} of {x['segments']}"
            mean_change = [number_cell(c["mean"], 3, True), number_cell(c["sd"], 3)]
            rows.append([*where, count_cell(c["general_tokens"]), *mean_change, deciles, falling, p_value_cell(c["p_one_mode"])])
    parts.append(markdown_table(["pair", "budget", "arm", "general tokens", "mean change", "sd", "10%, 50%, 90%", "falling", "one mode: p"], rows))
    rows = []
    for x in s["losses"]:
        steps = x["steps"] or {"largest": None, "shuffled": None, "p": None}
        figures = [number_cell(steps["largest"], 3), number_cell(steps["shuffled"], 3), p_value_cell(steps["p"])]
        run_cells = [x["pair"], budget_text(x["budget"]), x["arm"], str(x["segments"]), comma_list(x["seeds"])]
        rows.append([*run_cells, count_cell(x["amounts"][0]), number_cell(x["seed_sd"], 3), *figures])
    columns = ["pair", "budget", "arm", "segments", "seeds", "smallest amount", "sd between seeds", "share in largest step", "shuffled", "in one step: p"]
    parts.append(markdown_table(columns, rows))
    parts.append(
        "*sd between seeds* is how much another seed alone changes a segment's nats per token. – stands where there are fewer than two seeds or three amounts."
    )
    for x in s["losses"]:
        name = picture_name(x["pair"], x["budget"], x["arm"])
        parts.append(picture(pictures, f"study-losses-{name}.png", f"change in loss per dev segment, {x['pair']}, {budget_text(x['budget'])}, {x['arm']}"))
    return "\n\n".join(p for p in parts if p)
