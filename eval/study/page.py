"""A study's summary as a page of Markdown.

Reads the summary that the report of `tellmt study` writes as summary.json, and nothing else, so that every figure on the page is in that file.
"""

from __future__ import annotations

import json
from typing import Any

from eval.study.summary import budget_text, picture_name

NONE = "–"


def page(summary: dict[str, Any], directory: str, pictures: list[str]) -> str:
    parts = [head(summary, directory), gaps(summary), scores(summary), tuning(summary), tokens(summary, pictures), general(summary, pictures)]
    parts.append(losses(summary, pictures))
    return "\n\n".join(p for p in parts if p) + "\n"


def grid(columns: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows])


def number(x: float | None, digits: int = 2, sign: bool = False) -> str:
    return NONE if x is None else f"{x:{'+' if sign else ''}.{digits}f}"


def count(x: float | None) -> str:
    return NONE if x is None else f"{x:,.0f}"


def over_seeds(s: dict[str, Any] | None, digits: int = 2) -> str:
    if s is None:
        return NONE
    if s["sd"] is None:
        return number(s["mean"], digits)
    return f"{number(s['mean'], digits)} ({number(s['low'], digits)}–{number(s['high'], digits)}, sd {number(s['sd'], digits)})"


def listed(values: list[Any]) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values) or NONE


def p_value(p: float | None) -> str:
    return NONE if p is None else f"{p:.4f}"


def segments(sizes: list[int]) -> str:
    return " or ".join(f"{n:,}" for n in sizes)


def of_names(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def sided(side: str, x: float | None, digits: int = 2) -> str:
    """A reading, with "> " or "< " before it where it is an end of the curve."""
    return f"{side} {x:,.{digits}f}".strip()


def picture(pictures: list[str], name: str, alt: str) -> str:
    return f"![{alt}]({name})" if name in pictures else ""


def head(s: dict[str, Any], directory: str) -> str:
    seeds = listed(s["seeds"])
    lines = [f"# Study: {s['study']}", ""]
    lines.append(f"{s['runs']} runs and {s['tuning_runs']} tuning runs, seeds {seeds}. Made by")
    lines += ["", "```sh", f"tellmt study STUDY.toml --report-only -o {directory}", "```", ""]
    for pair, about in s["pairs"].items():
        lines += [f"- {pair}: {segments(about['segments'])} dev segments{of_names(about['names'])}"] if about["segments"] else []
    if s["finished"]:
        lines.append(f"- runs finished between {s['finished'][0]} and {s['finished'][1]}")
    for title, key in (("base", "bases"), ("machine", "machines"), ("versions", "versions")):
        for value in s[key]:
            lines.append(f"- {title}: {inline(value)}")
    lines += ["", "sacreBLEU's signatures:", ""]
    for pair, about in s["pairs"].items():
        lines += [f"    {pair} {'BLEU' if m == 'bleu' else 'chrF2'}: {signature}" for m, signature in about["signatures"].items()]
    return "\n".join(lines)


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v if not isinstance(v, (dict, list)) else json.dumps(v)}" for k, v in value.items())
    return str(value)


def gaps(s: dict[str, Any]) -> str:
    lines = ["## What is missing", ""]
    lines += [f"- {m}" for m in s["missing"]] or ["Nothing of what the study asks for."]
    if s["notes"]:
        lines += ["", "Passed over or at odds:", "", *(f"- {n}" for n in s["notes"])]
    return "\n".join(lines)


def scores(s: dict[str, Any]) -> str:
    test, reference = s["test"], s["reference_arm"]
    about = f"""## Scores per pair and budget

Means over seeds, with (lowest–highest, standard deviation) where there are two seeds or more. *nats* is the dev loss per token of the
reference, lower is better. *cut* is the mean number of outputs that ended at the token limit.

Δ is the mean over seeds of an arm's chrF2 minus that of `{reference}` with the same seed, with the 95% t-interval over the per-seed differences, which
is the one figure here that speaks for other seeds. *p* is of paired approximate randomisation on chrF2 ({test["trials"]:,} trials, seed {test["seed"]},
two-sided, ties counted as at least as extreme) over the hypotheses of all common seeds put together as paired segments; *p Holm* is corrected over the table's
comparisons. The pooled test knows nothing of other seeds and understates their variance: it asks whether these very models differ on text like this.
It also counts each segment once per seed; † marks a difference that is below 0.05 only because of that (every seed's output of a segment
swapped together gives 0.05 or more). A single
run without training stands against every seed of `{reference}`."""
    return "\n\n".join([about, *(one_table(t, reference) for t in s["tables"])])


def one_table(t: dict[str, Any], reference: str) -> str:
    title = f"### {t['pair']}, {budget_text(t['budget'])}"
    columns = ["arm", "task tokens", "general tokens", "rate × epochs", "seeds", "chrF2", "BLEU", "nats", "cut"]
    columns += [f"Δ chrF2 to {reference}", "p", "p Holm"]
    rows = []
    for r in t["rows"]:
        rate = f"{listed(r['learning_rates'])} × {listed(r['epochs'])}" if r["trained"] else NONE
        tokens = [count(r["task_tokens"]["mean"]), count(r["general_tokens"]["mean"])] if r["trained"] else [NONE, NONE]
        nats = over_seeds(r["nats"], 3) + (f" ({r['nats_missing']} without)" if r["nats"] and r["nats_missing"] else "")
        figures = [over_seeds(r["chrf2"]), over_seeds(r["bleu"]), nats, number(r["truncated"]["mean"], 1)]
        rows.append([r["arm"], *tokens, rate, listed(r["seeds"]) if r["trained"] else NONE, *figures, *difference(r)])
    foot = f"{segments(sorted({r['segments'] for r in t['rows']}))} segments; {t['comparisons']} comparisons in the family."
    if not t["reference_there"]:
        foot += f" `{reference}` has no run here, so nothing is compared."
    return "\n\n".join([title, grid(columns, rows), foot])


def difference(r: dict[str, Any]) -> list[str]:
    a = r["against"]
    if a is None:
        return [NONE, NONE, NONE]
    if a["chrf2"] is None:
        return ["no seed in common", NONE, NONE]
    between = f" [{number(a['interval'][0], 2, True)}, {number(a['interval'][1], 2, True)}]" if a["interval"] else " (1 seed, no interval)"
    mark = "†" if a["p"] is not None and a["p"] < 0.05 <= a["p_by_segment"] else ""
    return [number(a["chrf2"], 2, True) + between, p_value(a["p"]) + mark, p_value(a["p_holm"])]


def tuning(s: dict[str, Any]) -> str:
    if not s["tuning"]:
        return "## Tuning\n\nNo tuning run is there."
    rows, loose = [], []
    for t in s["tuning"]:
        tried = []
        for e in t["tried"]:
            text = f"{e['learning_rate']:g}: {number(e['chrf2'])} / {number(e['nats'], 3)}"
            tried.append(f"**{text}**" if e["chosen"] else text)
        remarks = [] if t["used"] else ["not run yet: the best by chrF2"]
        if t["used"] and not any(e["chosen"] and e["learning_rate"] == t["best_chrf2"] for e in t["tried"]):
            remarks.append(f"{t['best_chrf2']:g} is better by chrF2")
        if t["at_edge"]:
            remarks.append("at the edge of what was tried")
        ratio = NONE if t["ratio"] is None else f"{t['ratio']:g}"
        seeds = sorted({n for e in t["tried"] for n in e["seeds"]})
        rows.append([t["pair"], budget_text(t["budget"]), t["arm"], ratio, listed(seeds), "; ".join(tried), ", ".join(remarks)])
    numbers: dict[str, set[int]] = {}
    for t in s["tuning"]:
        numbers.setdefault(t["arm"], set()).add(len(t["tried"]))
    if len({n for each in numbers.values() for n in each}) > 1:
        loose.append("Not every arm was tried at equally many rates: " + ", ".join(f"{a} {listed(sorted(n))}" for a, n in numbers.items()) + ".")
    if s["tuned_as"]:
        loose.append("Arms that take the rate of another: " + ", ".join(f"{a} of {other}" for a, other in s["tuned_as"].items()) + ".")
    tuned = {p: x for p, x in s["pairs"].items() if x["tuning_segments"]}
    sets = "; ".join(f"{p}: {segments(x['tuning_segments'])} segments{of_names(x['tuning_names'])}" for p, x in tuned.items())
    if all(x["tuning_names"] and x["names"] and not set(x["names"]) & set(x["tuning_names"]) for x in tuned.values()):
        other = "The tables above are scored on other segments."
    else:
        other = "Nothing says that the tables above are scored on other segments; if not, a rate flatters its arm, more so where more were tried."
    about = f"""## Tuning

Learning rate: chrF2 / nats per token, the rate that the runs use in bold. Scored on a slice of the training side, never a test set ({sets}).
{other}"""
    columns = ["pair", "budget", "arm", "general to task", "seeds", "rates tried: chrF2 / nats", ""]
    return "\n\n".join([about, *loose, grid(columns, rows)])


def tokens(s: dict[str, Any], pictures: list[str]) -> str:
    reference, draws = s["reference_arm"], s["bootstrap"]
    parts = ["## Task tokens"]
    fixed = {a: r for a, r in s["main_ratio"].items() if r is not None}
    if fixed:
        parts.append("General to task at which each arm is drawn: " + ", ".join(f"{a} {r:g}" for a, r in fixed.items()) + ".")
    parts.append(picture(pictures, "study-task-tokens.png", "chrF2 against task tokens, one line per arm"))
    if not s["needed"]:
        return "\n\n".join(p for p in [*parts, f"How many tokens `{reference}` needs cannot be read off yet: its curve or another arm is missing."] if p)
    parts.append(
        f"""How many task tokens `{reference}` needs to equal an arm, as a multiple of the arm's own: below 1 the arm is the worse of the two. Its mean
curve is read where it first reaches the arm's mean chrF2, straight between budgets over the logarithm of tokens. In brackets the 95% percentile
interval of {draws["resamples"]:,} bootstrap resamples (seed {draws["seed"]}) of the dev segments, the same draw for all runs, and of the seeds
within each point; with few seeds it is too narrow, with one it knows only the segments. `> x`: beyond the largest budget, which
is x times the arm's tokens; `< x`: below the smallest."""
    )
    rows = []
    for n in s["needed"]:
        for r in n["readings"]:
            ends = f"{sided(r['low_side'], r['low'])} to {sided(r['high_side'], r['high'])}"
            ratio, needs = sided(r["side"], r["ratio"]), sided(r["side"], r["ratio"] * r["tokens"], 0)
            rows.append([n["pair"], n["arm"], budget_text(r["budget"]), count(r["tokens"]), str(r["seeds"]), number(r["score"]), needs, f"{ratio} [{ends}]"])
    columns = ["pair", "arm", "budget", "its task tokens", "seeds", "its chrF2", f"`{reference}` needs", "ratio [95%]"]
    return "\n\n".join(p for p in [*parts, grid(columns, rows)] if p)


def general(s: dict[str, Any], pictures: list[str]) -> str:
    if not s["general"]:
        return "## General tokens\n\nNo arm has runs at two amounts of general data and one budget yet."
    rows = []
    for g in s["general"]:
        for p in g["points"]:
            ratio = NONE if p["ratio"] is None else f"{p['ratio']:g}"
            nats = over_seeds(p["nats"], 3)
            rows.append([g["pair"], budget_text(g["budget"]), g["arm"], ratio, count(p["general_tokens"]), listed(p["seeds"]), over_seeds(p["chrf2"]), nats])
    columns = ["pair", "budget", "arm", "general to task", "general tokens", "seeds", "chrF2", "nats"]
    shown = picture(pictures, "study-general-tokens.png", "chrF2 against general tokens, one panel per pair and budget")
    about = "Each amount is a training run of its own with the task data of its budget, so a jump between two amounts is one between models, not within a run."
    return "\n\n".join(p for p in ["## General tokens", about, shown, grid(columns, rows)] if p)


def losses(s: dict[str, Any], pictures: list[str]) -> str:
    if not s["losses"]:
        return "## Loss per example\n\nNo arm has losses per segment at two amounts of general data and one budget yet."
    about = """## Loss per example

For each dev segment: nats per token minus its own at the smallest amount of general data, mean over the seeds that all amounts have. The quantization
reading (Michaud et al., arXiv 2303.13506) has skills learned whole, one by one, so an example's loss would fall at once or not at all. Two tests of that:

- *one mode*: Silverman's test (1981) that the changes at an amount have one mode (peaks below a tenth of the highest not counted). A small p says
  that they fall into groups, such as moved and unmoved.
- *in one step*: the mean share of an example's squared change that lies in its largest step between neighbouring amounts, against the same when each
  step's changes are shuffled between examples. A small p says that examples change in one step each more than the steps' sizes explain.

What they cannot show: a segment's loss is a mean over its tokens, where many small jumps look smooth, so a large p is no evidence against the reading;
amounts are few and each is another model, so a jump is placed between two amounts at best; groups may be kinds of text instead of skills; short
segments are noisier than long ones, which works against finding steps. The p-values are not corrected for their number."""
    parts = [about]
    rows = []
    for x in s["losses"]:
        where = [x["pair"], budget_text(x["budget"]), x["arm"]]
        for c in x["changes"]:
            low, middle, high = c["deciles"]
            spread_of = f"{number(low, 3, True)}, {number(middle, 3, True)}, {number(high, 3, True)}"
            falling = f"{c['falling']} of {x['segments']}"
            rows.append([*where, count(c["general_tokens"]), number(c["mean"], 3, True), number(c["sd"], 3), spread_of, falling, p_value(c["p_one_mode"])])
    parts.append(grid(["pair", "budget", "arm", "general tokens", "mean change", "sd", "10%, 50%, 90%", "falling", "one mode: p"], rows))
    rows = []
    for x in s["losses"]:
        steps = x["steps"] or {"largest": None, "shuffled": None, "p": None}
        figures = [number(steps["largest"], 3), number(steps["shuffled"], 3), p_value(steps["p"])]
        base = [x["pair"], budget_text(x["budget"]), x["arm"], str(x["segments"]), listed(x["seeds"]), count(x["amounts"][0]), number(x["seed_sd"], 3)]
        rows.append([*base, *figures])
    columns = ["pair", "budget", "arm", "segments", "seeds", "smallest amount", "sd between seeds", "share in largest step", "shuffled", "in one step: p"]
    parts.append(grid(columns, rows))
    parts.append("*sd between seeds* is what another seed alone does to a segment's nats per token; – where there are fewer than two seeds, or three amounts.")
    for x in s["losses"]:
        name = picture_name(x["pair"], x["budget"], x["arm"])
        parts.append(picture(pictures, f"study-losses-{name}.png", f"change in loss per dev segment, {x['pair']}, {budget_text(x['budget'])}, {x['arm']}"))
    return "\n\n".join(p for p in parts if p)
