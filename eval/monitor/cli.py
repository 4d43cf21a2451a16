"""`tellmt monitor`: freeze a canary set, run it against a service, report the history, and turn corrections into scores and training data."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import click

from tell.command import Command, Group, Many
from tell.console import emit, say, table
from tell.errors import BadInput, TellmtError
from tell.languages import parse_pair
from tell.paths import monitor_dir, writable

FILE = click.Path(path_type=Path)
# Exit code of a run that raised, or left on, an alarm.
ALARM = 4
SERVER = "http://127.0.0.1:8080"


def _monitor_home() -> Path:
    return writable(monitor_dir(), "monitor's directory", "TELLMT_MONITOR")


@click.group(cls=Group)
def monitor() -> None:
    """Monitor live adapters: canary sets, alarms, and scores on users' corrections.

    All files are in TELLMT_MONITOR, by default ~/.local/share/tellmt/monitor.
    """


@monitor.command("freeze", cls=Command)
@click.argument("pair")
@click.option("--source", type=FILE, help="File of source segments, one per line.")
@click.option("--target", type=FILE, help="File of their references, one per line.")
@click.option("--corpus", type=FILE, help="Corpus directory: the set is drawn from its dev split, and drift is measured against its training data.")
@click.option("--size", type=click.IntRange(40, 300), default=200, show_default=True, help="Segments in the set, at most; 40 to 300.")
@click.option("--replace", is_flag=True, help="Replace the set that exists; this begins a new series of runs.")
def freeze_(pair: str, source: Path | None, target: Path | None, corpus: Path | None, size: int, replace: bool) -> None:
    """Freeze the canary set of PAIR.

    It is drawn from two line-aligned files, or from the dev split of a corpus; with both, the files are the set. Duplicates are left out. A hard set is made
    from it: single words, placeholders, long texts, other languages, orders to the model.
    """
    from eval.monitor.canary_sets import ENOUGH, freeze, set_path, write_set
    from eval.monitor.judge import AlarmThresholds
    from eval.scoring.testset import from_corpus, from_files
    from tell.corpus.directory import open_corpus

    parsed = parse_pair(pair, "PAIR")
    if (source is None) != (target is None) or (source is None and corpus is None):
        raise click.UsageError("say what the set is made of: either --source FILE and --target FILE, or --corpus DIR")
    training: list[str] = []
    opened_corpus = None
    if corpus is not None:
        opened_corpus = open_corpus(corpus)
        if opened_corpus.pair != parsed:
            raise BadInput("the corpus is of another pair", place=str(corpus), found=str(opened_corpus.pair), valid=str(parsed))
        training = [p.source for p in opened_corpus.pairs("train")]
    if source is not None and target is not None:
        test, place = from_files(source, target, parsed), f"{source} and {target}"
        # Drift needs a reference: without training data, the lines of the file are the best known sample of the traffic.
        training = training or test.sources
    else:
        assert opened_corpus is not None
        test, place = from_corpus(opened_corpus, "dev"), f"{corpus}, split dev"
    canary, left_out = freeze(test, size, training, place)
    path = set_path(_monitor_home(), parsed)
    changed = write_set(path, canary, replace)
    reasons = ", ".join(f"{n} {why}" for why, n in left_out.items() if n)
    say(f"{path}: {'frozen' if changed else 'unchanged'}, {len(canary.segments)} segments and {len(canary.hard)} hard texts")
    if reasons:
        say(f"left out: {reasons}")
    if (segments := len(canary.segments)) < ENOUGH:
        least = AlarmThresholds().least_drop(segments)
        say(f"{segments} segments are few: a loss counts from {least:.1f} points of chrF2 on, instead of {AlarmThresholds().drop:.1f}")
    hard: dict[str, int] = {}
    for h in canary.hard:
        hard[h.kind] = hard.get(h.kind, 0) + 1
    usual = canary.profile.usual if canary.profile else None
    emit({
        "pair": canary.pair, "path": str(path), "sha256": canary.sha256, "written": changed, "segments": len(canary.segments), "hard": hard,
        "left_out": left_out, "drift_usual": usual,
    })  # fmt: skip


@monitor.command("run", cls=Command)
@click.argument("pairs", nargs=-1)
@click.option("--server", default=SERVER, show_default=True, help="Service that translates. Its API key, where it needs one, is read from TELLMT_API_KEY.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, True, True),
    default=0.001,
    show_default=True,
    help="Highest share of runs that may raise a false alarm.",
)
@click.option(
    "--drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Smallest loss in points of chrF2 that counts, with 100 segments or more; wider with fewer.",
)
@click.option("--roll-back-on-alarm", is_flag=True, help="Roll the registry back to the previous version when the live one is worse.")
@click.option("--webhook", default="", metavar="URL", help="URL to POST each alarm to, as JSON, when it begins and when it ends.")
def run_(pairs: tuple[str, ...], server: str, alpha: float, drop: float, roll_back_on_alarm: bool, webhook: str) -> int:
    """Translate the canary sets of PAIRS (default: all) with a running service, and compare the scores with the baseline.

    Made for cron. Exits with 4 when there is an alarm.
    """
    from eval.monitor.canary_sets import read_set, read_sets, set_path
    from eval.monitor.judge import AlarmThresholds
    from eval.monitor.over_http import open_client, translate_canary_set
    from eval.monitor.watch import check_set, line, open_history, post, roll_back

    home = _monitor_home()
    if pairs:
        sets = [read_set(set_path(home, parse_pair(p, "PAIRS"))) for p in pairs]
    else:
        sets_by_pair, problems = read_sets(home)
        if problems:
            raise problems[0]
        sets = list(sets_by_pair.values())
    if not sets:
        raise BadInput("no canary set is frozen", place=str(home / "canary"), valid="tellmt monitor freeze PAIR --corpus CORPUS")
    history, thresholds = open_history(home), AlarmThresholds(alpha, drop)
    rows, alarmed = [], False
    history_error: TellmtError | None = None
    with open_client(server) as client:
        for canary in sets:
            outcome = check_set(history, canary, lambda c=canary: translate_canary_set(client, c), thresholds)  # type: ignore[misc]
            for a in (*outcome.opened, *outcome.closed):
                say(line(a))
            restored = None
            if outcome.alarms and roll_back_on_alarm:
                from tell.registry.registry import Registry

                try:
                    restored, message = roll_back(Registry(), history, outcome)
                    say(message)
                except (TellmtError, OSError) as e:
                    say(f"not rolled back: {e}")
            if webhook and (changed_alarms := [*outcome.opened, *outcome.closed]) and (problem := post(webhook, changed_alarms, restored)):
                say(problem)
            alarmed = alarmed or bool(outcome.alarms)
            history_error = history_error or outcome.history
            rows.append({**_row(outcome.run), "alarms": [{"kind": a.kind, "reason": a.text} for a in outcome.alarms], "rolled_back_to": restored})
    emit({"runs": rows, "alarm": alarmed}, lambda: _runs_table(rows))
    if history_error is not None and not alarmed:
        raise history_error
    if history_error is not None:
        say(f"not kept: {history_error}")
    return ALARM if alarmed else 0


def _row(run: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(run), "findings": list(run.findings)}


def _figure(run: dict[str, Any], metric: str) -> str:
    return f"{run['scores'][metric]['score']:.1f}" if run["scores"] else "-"


def _runs_table(rows: list[dict[str, Any]]) -> Any:
    from rich.console import Group as Lines
    from rich.text import Text

    cells = []
    for r in rows:
        when = datetime.datetime.fromtimestamp(r["time"]).strftime("%Y-%m-%d %H:%M") if r["time"] else ""
        state = ", ".join(r["findings"]) or ("baseline" if r["baseline"] else "as before" if r["against"] else r["state"])
        delta = "-" if r["delta"] is None else f"{r['delta']:+.2f}"
        flagged = "-" if not r["hard"] else f"{sum(n for n, _ in r['hard'].values())} of {sum(of for _, of in r['hard'].values())}"
        cells.append([when, r["pair"], (r["version"] or "-")[:12], _figure(r, "bleu"), _figure(r, "chrf"), delta, flagged, state])
    lines = sorted({s["signature"] for r in rows for s in r["scores"].values()})
    notes = [f"{r['pair']}: {r['note']}" for r in rows if r["note"]]
    columns = ["time", "pair", "version", "BLEU", "chrF2", "to baseline", "hard, flagged", "state"]
    return Lines(table("", columns, cells), *(Text(x) for x in (*notes, *lines)))


@monitor.command("report", cls=Command)
@click.argument("pair", required=False)
@click.option("--last", type=click.IntRange(1, 2000), default=10, show_default=True, help="Number of runs to show of each pair.")
def report(pair: str | None, last: int) -> None:
    """Show the history: runs, alarms, and scores on corrections."""
    from eval.monitor.watch import open_history

    history = open_history(_monitor_home())
    pairs = [str(parse_pair(pair, "PAIR"))] if pair else history.pairs()
    rows = [_row(run) for p in pairs for run in history.runs(p, last)]
    alarms = [dataclasses.asdict(a) for a in history.alarms() if a.pair in pairs]
    corrections = {p: history.feedback(p) for p in pairs}
    for a in (a for a in alarms if a["closed"] is None):
        say(f"alarm: {a['pair']} {(a['version'] or '')[:12]}: {a['kind']}: {a['text']}")
    if not rows:
        say("no runs yet: tellmt monitor run")
    emit({"runs": rows, "alarms": alarms, "feedback": corrections}, lambda: _runs_table(rows) if rows else None)


@monitor.command("accept", cls=Command)
@click.argument("pair")
@click.option("--why", required=True, help="The reason; the history keeps it with the run.")
def accept(pair: str, why: str) -> None:
    """Make the newest run of PAIR the baseline, and end its alarms."""
    from eval.monitor.history import ACCEPTED
    from eval.monitor.watch import open_history

    if not why.strip():
        raise click.UsageError("--why needs a reason: the history keeps it with the run")
    parsed = str(parse_pair(pair, "PAIR"))
    run = open_history(_monitor_home()).accept(parsed, ACCEPTED + why.strip())
    if run is None:
        raise BadInput("there is no run to accept", place=parsed, valid="a pair that tellmt monitor run has scored")
    say(f"{parsed}: run {run.id} of {(run.version or '')[:12]}, chrF2 {run.scores['chrf']['score']:.1f}, is the baseline")
    emit({"pair": parsed, "run": run.id, "version": run.version, "scores": run.scores})


@monitor.command("feedback", cls=Command)
@click.argument("file", type=FILE)
@click.option("--pair", help="Pair whose corrections are written with -o.")
@click.option("--against", cls=Many, type=FILE, help="Test set whose segments must not be among them; may name several. The pair's canary set always is one.")
@click.option("-o", "--out", type=FILE, help="File to write the corrections for training to, as JSON lines for tellmt corpus build.")
def feedback(file: Path, pair: str | None, against: tuple[Path, ...], out: Path | None) -> None:
    """Score each version on the corrections in FILE, and write them for training with -o.

    FILE is the one of tellmt serve --feedback. Of several corrections of a source the newest counts. Read the corrections before you train on them.
    """
    from eval.monitor.canary_sets import read_set, set_path
    from eval.monitor.feedback import correction_scores, read_feedback, training_pairs
    from eval.monitor.watch import open_history
    from tell.files import write_jsonl

    if (out is None) != (pair is None) or (against and out is None):
        raise click.UsageError("--pair, --against and -o go together: they say which corrections to write, and where")
    corrections, invalid = read_feedback(file)
    if not corrections:
        raise BadInput(
            "no corrections",
            place=str(file),
            found=f"{invalid} lines that are none" if invalid else "an empty file",
            valid="the file of tellmt serve --feedback",
        )
    rows = correction_scores(corrections)
    home = _monitor_home()
    history = open_history(home)
    for row in rows:
        if row["scores"]:
            history.add_feedback(row["pair"], row["version"], row["segments"], row["scores"])
    result: dict[str, Any] = {"corrections": len(corrections), "strange": invalid, "versions": rows}
    if invalid:
        say(f"{file}: {invalid} lines are no corrections")
    if out is not None and pair is not None:
        parsed = parse_pair(pair)
        path = set_path(home, parsed)
        pairs, left_out = training_pairs(corrections, parsed, against, read_set(path) if path.exists() else None)
        write_jsonl(out, list(pairs))
        reasons = ", ".join(f"{n} {why}" for why, n in left_out.items())
        say(f"{out}: {len(pairs)} corrections" + (f"; left out: {reasons}" if reasons else "") + f". Next: tellmt corpus build {out} --pair {parsed} -o CORPUS")
        result |= {"out": str(out), "written": len(pairs), "left_out": left_out}
    emit(result, lambda: _feedback_table(rows))


def _feedback_table(rows: list[dict[str, Any]]) -> Any:
    from rich.console import Group as Lines
    from rich.text import Text

    cells = [
        [r["pair"], r["version"][:12], r["segments"], *(_figure(r, m) for m in ("bleu", "chrf", "ter")), f"{r.get('unchanged', 0)} of {r['segments']}"]
        for r in rows
    ]
    lines = sorted({s["signature"] for r in rows for s in r["scores"].values()})
    return Lines(table("", ["pair", "version", "corrections", "BLEU", "chrF2", "TER", "left as they were"], cells), *(Text(x) for x in lines))
