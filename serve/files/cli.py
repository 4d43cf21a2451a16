"""`tellmt translate`: files of many formats, through a running server or an engine of its own.

Reads the files and, without --server, the registry and the shipped adapters; with --corpus, a corpus. Keeps translations in the cache until the outputs
are written, each in one step. Writes the report.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import IO, Any, cast

import click

from serve.files import outputs, report, run_state, runner
from serve.files.collect_and_fill import LanguageSample, NoVisitor, SampleComplete, SegmentCollector, TranslationFiller, UnitCounts
from serve.files.outputs import FileTask
from serve.files.runner import Backend
from serve.files.segment_store import SegmentStore
from serve.formats import FORMATS
from serve.formats.units import OWN, UNBOUNDED, Options
from serve.translation.decoder import Quality
from tell.adapter.shipped import NO_SHIPPED, shipped_adapters
from tell.command import Command
from tell.console import clock, emit, json_mode, say
from tell.errors import BadInput, NotServed, PartlyDone
from tell.languages import LanguagePair, language, parse_pair, same_pair, same_variety
from tell.lexicon.glossary import Glossary

OpenBackend = Callable[[LanguagePair], AbstractAsyncContextManager[Backend]]


def _choose_pair(source: str | None, target: str | None, offered: Sequence[str]) -> LanguagePair:
    """The pair that the user names; a language that is not named is filled in where only one offered pair fits."""
    source_language = language(source, "--from") if source else None
    target_language = language(target, "--to") if target else None
    if source_language and target_language:
        if same_variety(source_language, target_language):
            raise BadInput("source and target are the same language", place="--from, --to", found=source_language.tag)
        return LanguagePair(source_language, target_language)
    pairs = [parse_pair(p) for p in offered]
    fitting = [p for p in pairs if source_language in (None, p.source) and target_language in (None, p.target)]
    fitting = fitting or [
        p
        for p in pairs
        if (source_language is None or same_variety(source_language, p.source)) and (target_language is None or same_variety(target_language, p.target))
    ]
    if len(fitting) != 1:
        missing = " and ".join(name for name, chosen in (("--from", source_language), ("--to", target_language)) if chosen is None)
        listed = ", ".join(offered) or "no pair is live yet; publish one with: tellmt publish"
        raise BadInput(f"{missing} needed", found=f"{len(fitting)} live pairs that fit", valid=listed)
    return fitting[0]


def _detected_pair(task: FileTask, target: str | None, offered: Sequence[str], options: Options) -> LanguagePair:
    """The pair of a file, by the language of its text."""
    from serve.translation.source_language import find_served_pair

    if not target:
        raise BadInput("--to needed with --from auto", valid="the code of a language")
    sample = LanguageSample()
    with contextlib.suppress(SampleComplete), task.opened() as f:
        task.format.convert(f, cast(IO[bytes], outputs.NullWriter()), sample, options)
    text_pair = find_served_pair(offered, target, "\n".join(sample.texts), task.name)
    if text_pair.pair is None:
        raise NotServed("the file is in the target language already", place=task.name, found=text_pair.detected.language, valid="--from CODE")
    return text_pair.pair


def _backends(
    server: str | None, registry: str | None, no_shipped: bool, engine: str, tries: int, jobs: int | None, quality: Quality, glossary: Glossary | None
) -> tuple[Callable[[], list[str]], OpenBackend]:
    """A function that lists the pairs there are, and one that opens a backend for one of them."""
    if server:
        from serve.files.remote import offered_by, open_remote

        return lambda: offered_by(server), lambda pair: _with_jobs(open_remote(server, pair, quality, glossary), jobs)
    from serve.files.local import live_pairs, open_local
    from tell.registry.registry import Registry

    store, shipped = Registry(registry), shipped_adapters(no_shipped)
    return lambda: live_pairs(store, shipped), lambda pair: _with_jobs(open_local(pair, store, shipped, engine, tries, quality, glossary), jobs)


@contextlib.asynccontextmanager
async def _with_jobs(opened: AbstractAsyncContextManager[Any], jobs: int | None) -> Any:
    async with opened as backend:
        if jobs:
            backend.parallel = jobs
        yield backend


def _collect(tasks: Sequence[FileTask], store: SegmentStore, options: Options) -> dict[str, UnitCounts]:
    """Put the segments of all files into the store. Returns the counts by file."""
    store.start_collecting()
    counts = {}
    for task in tasks:
        collector = SegmentCollector(store, options.retranslate)
        with task.opened() as f:
            task.format.convert(f, cast(IO[bytes], outputs.NullWriter()), collector, dataclasses.replace(options, name=task.source))
        collector.flush()
        counts[task.name] = collector.counts
    return counts


def _check_languages(tasks_by_pair: dict[LanguagePair, list[FileTask]], options: Options) -> None:
    """Raises CorpusError where a file is of other languages than its pair: before the first pair is translated, not before the last."""
    for pair, tasks in tasks_by_pair.items() if len(tasks_by_pair) > 1 else ():
        for task in tasks:
            with task.opened() as f:
                task.format.convert(f, cast(IO[bytes], outputs.NullWriter()), NoVisitor(), dataclasses.replace(options, pair=pair, name=task.source))


def _corpus_pairs(path: Path, pair: LanguagePair) -> Iterator[tuple[str, str]]:
    """The segments of a corpus in the pair's direction."""
    from tell.corpus.directory import open_corpus

    corpus = open_corpus(path)
    forward = same_pair(corpus.pair, pair)
    if not forward and not same_pair(corpus.pair, pair.reverse):
        raise BadInput("the corpus is of another pair", place=f"--corpus {path}", found=str(corpus.pair), valid=str(pair))
    for segment in corpus.pairs():
        yield (segment.source, segment.target) if forward else (segment.target, segment.source)


def _fill(tasks: Sequence[FileTask], store: SegmentStore, options: Options) -> dict[str, UnitCounts]:
    """Write all outputs with the translations in the store. Returns the counts by file."""
    counts = {}
    for task in tasks:
        filler = TranslationFiller(store, options.retranslate, task.name)
        with outputs.open_output(task.output) as output, task.opened() as f:
            task.format.convert(f, output, filler, dataclasses.replace(options, name=task.source))
            task.check_unchanged()
        filler.flush()
        counts[task.name] = filler.counts
    return counts


async def _translate_store(store: SegmentStore, opened: AbstractAsyncContextManager[Backend], server: bool, dry: bool) -> float:
    """Translate the segments of the store that have no translation, or with `dry` only some of them; returns the seconds that all of them take."""
    async with opened as backend:
        if not server and (dropped := store.drop_other_adapters(backend.adapters[0])):
            say(f"another version is live since the last run: {dropped:,} segments of the old version are translated again")
        began = time.monotonic()
        if dry:
            return await runner.estimate_seconds(store, backend)
        await runner.translate_open_segments(store, backend)
        return time.monotonic() - began


def _translate_pair(
    tasks: list[FileTask], pair: LanguagePair, open_backend: OpenBackend, options: Options, settings: dict[str, Any]
) -> tuple[dict[str, Any], int]:
    """Translate all files of one pair. Returns the JSON result, and how many segments failed."""
    files_key = [(task.key(), str(Path(task.output).resolve())) for task in tasks]
    # The names in it are those that earlier runs were kept under.
    run_key = {"works": files_key, "pair": str(pair), **{k: settings[k] for k in ("server", "registry", "quality")}}
    if settings["glossary"]:
        run_key["glossary"] = settings["glossary"].digest
    with run_state.run_store(run_key, settings["fresh"]) as (store, directory):
        counts = _collect(tasks, store, options)
        if settings["corpus"]:
            store.add_known(_corpus_pairs(Path(settings["corpus"]), pair))
        before = store.totals()
        if before.done and store.adapters():
            say(f"going on: {before.done_times:,} of {before.times:,} segments are there already")
        if settings["dry_run"]:
            seconds_needed = asyncio.run(_translate_store(store, open_backend(pair), bool(settings["server"]), True)) if before.done < before.segments else 0.0
            estimate = {"pair": str(pair), **report.summary(counts), "different": before.segments, "seconds": round(seconds_needed, 1)}
            different = f"{before.segments:,} different to translate, {before.characters:,} characters"
            say(f"{pair}: {estimate['segments']:,} segments, {different}: about {clock(seconds_needed)}")
            return estimate, 0
        seconds = asyncio.run(_translate_store(store, open_backend(pair), bool(settings["server"]), False)) if before.done < before.segments else 0.0
        counts = _fill(tasks, store, options)
        report.say_problems(tasks, store)
        adapters = store.adapters()
        if len(adapters) > 1:
            say(f"another version went live meanwhile: {', '.join(a[:12] for a in adapters)} answered")
        total = report.summary(counts)
        files = [{"file": t.name, "output": t.output, "format": t.format.name, **report.summary({t.name: counts[t.name]})} for t in tasks]
        result = {
            "pair": str(pair), **total, "different": before.segments, "seconds": round(seconds, 3), "output": settings["output"] or "-",
            "adapter": adapters[-1] if adapters else None, "adapters": adapters, "files": files,
            "truncated": total["flags"].get("truncated", 0), "empty": total["flags"].get("empty", 0),
        }  # fmt: skip
        if settings["report"]:
            report.write(settings["report"], result, store)
        elif total["failed"] and settings["output"] not in (None, "-"):
            report.write_failed(f"{str(settings['output']).rstrip('/')}.failed.jsonl", store)
        words = {"kept": "left as they were", "reused": "from the corpus", "flagged": "flagged"}
        other_counts = "".join(f", {total[name]:,} {word}" for name, word in words.items() if total[name])
        say(f"{total['translated']:,} of {total['segments']:,} segments translated, {total['blank']:,} blank, in {seconds:.1f} s{other_counts}")
        if not total["failed"]:
            run_state.remove_run(directory)
        return result, total["failed"]


def _given_pair(source: str | None, to: str | None) -> LanguagePair | None:
    """The pair where both languages are given and the source is not to be found out."""
    return None if source in (None, "auto") or to is None else parse_pair(f"{source}-{to}")


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--from", "from", metavar="CODE", help="Language of the files; may be left out where one live pair fits; auto finds it, file by file.")
@click.option("--to", metavar="CODE", help="Language to translate into; may be left out where one live pair fits.")
@click.option("-o", "--output", default=None, show_default="stdout", metavar="OUT", help="File to write, or a directory for several; - is standard output.")
@click.option("--format", metavar="NAME", help=f"Format of the files, where their names do not tell: {', '.join(FORMATS)}.")
@click.option("--column", multiple=True, metavar="NAME", help="Column of CSV or TSV to translate, by name or number; may be given several times.")
@click.option("--field", multiple=True, metavar="NAME", help="Field of JSON lines to translate (message.text); may be given several times.")
@click.option("--into", metavar="NAME", help="Column or field that the translation goes to, instead of its own.")
@click.option("--all", "retranslate", is_flag=True, help="Also translate units that have a translation already (PO, XLIFF, TMX, --into).")
@click.option("--force", is_flag=True, help="Fill a catalogue that says it is of other languages than --from and --to.")
@click.option("--corpus", metavar="DIR", help="Take the translations of segments that are in this corpus from it.")
@click.option("--glossary", metavar="FILE", help="Terms that the translations are to follow: TSV or CSV, a source term and a target term a line.")
@click.option("--report", metavar="FILE", help="Write a report of flagged and failed segments to FILE, .md or .json.")
@click.option("--dry-run", is_flag=True, help="Count segments and characters, translate a few, and say how long the rest will take.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Batches under way at once.  [default: as the engine needs; 4 with --server]")
@click.option("--no-limits", is_flag=True, help="Read files whatever they unpack to, and however much is nested or stands in one paragraph or table.")
@click.option("--tries", type=click.IntRange(0, 16), default=4, show_default=True, help="Ways in which a flagged segment is retried, without --server.")
@click.option("--fresh", is_flag=True, help="Do not go on from where an earlier run was interrupted.")
@click.option("--server", metavar="URL", help="Translate through this running server, such as http://127.0.0.1:8080.")
@click.option("--engine", default="auto", show_default=True, metavar="auto|ct2|vllm", help="Engine to start when no --server is given.")
@click.option("--quality", type=click.Choice(("fast", "best")), default="fast", show_default=True, help="best takes the best of several candidates.")
@click.option("--registry", metavar="DIR", help="Where the adapters are, when no --server is given.")
@NO_SHIPPED
def translate(files: tuple[str, ...], to: str | None, output: str | None, server: str | None, **arguments: Any) -> None:
    """Translate files in their own formats; - is standard input.

    Each output is in its file's format, and everything but the texts stays as it is.

    Without --server, the pair's live adapter in the registry translates; where there is none, the one that came with tellmt.

    An output is written in one step when all is translated: an interrupted run leaves nothing half-written, and the same command goes on from there.
    """
    if json_mode() and output in (None, "-") and not arguments["dry_run"]:
        raise BadInput("the result and the translation cannot both go to standard output", place="--json", valid="-o OUT")
    report.check_report_name(arguments["report"])
    # `from` is a word of Python's own, and so no name for a parameter.
    source = arguments["from"]
    arguments["glossary"] = glossary = Glossary.read(Path(arguments["glossary"]), _given_pair(source, to)) if arguments["glossary"] else None
    offered, open_backend = _backends(
        server, arguments["registry"], arguments["no_shipped"], arguments["engine"], arguments["tries"], arguments["jobs"], arguments["quality"], glossary
    )
    auto = source == "auto"
    pair = None if auto else _choose_pair(source, to, [] if source and to else offered())
    tasks = outputs.plan(files, output, arguments["format"])
    options = Options(
        pair, arguments["column"], arguments["field"], arguments["into"], arguments["retranslate"], UNBOUNDED if arguments["no_limits"] else OWN,
        force=arguments["force"], force_hint="; --force fills it all the same",
    )  # fmt: skip
    tasks_by_pair: dict[LanguagePair, list[FileTask]] = {}
    offered_pairs = offered() if auto else []
    for task in tasks:
        tasks_by_pair.setdefault(pair or _detected_pair(task, to, offered_pairs, options), []).append(task)
    _check_languages(tasks_by_pair, options)
    settings = {**arguments, "server": server, "output": output}
    results, failed = [], 0
    for task_pair, pair_tasks in tasks_by_pair.items():
        result, failures = _translate_pair(pair_tasks, task_pair, open_backend, dataclasses.replace(options, pair=task_pair), settings)
        results.append(result)
        failed += failures
    emit(results[0] if len(results) == 1 else {"pairs": results})
    if failed:
        total = sum(r["segments"] for r in results)
        raise PartlyDone("some segments were not translated", place=output or "-", found=f"{failed} of {total}")
