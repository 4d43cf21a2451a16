"""`tellmt translate`: files of many formats, through a running server or an engine of its own.

Reads the files and, without --server, the registry and the shipped adapters; with --corpus, a corpus. Keeps what is translated in the cache until the
outputs are written, each in one step. Writes the report.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import IO, Any, cast

import click

from serve.files import outputs, report, run_state, runner
from serve.files.collect_and_fill import Collect, Counts, Enough, Fill, Look
from serve.files.outputs import Work
from serve.files.runner import Backend
from serve.files.segment_store import Ledger
from serve.formats import FORMATS
from serve.formats.units import Options
from serve.translation.quality import Quality
from tell.adapter.shipped import NO_SHIPPED, shipped_adapters
from tell.command import Command
from tell.console import clock, emit, json_mode, say
from tell.errors import BadInput, NotServed, PartlyDone
from tell.languages import LanguagePair, language, parse_pair

Open = Callable[[LanguagePair], AbstractAsyncContextManager[Backend]]


def _choose_pair(source: str | None, target: str | None, offered: Sequence[str]) -> LanguagePair:
    """The pair asked for; what was not named is filled in where only one offered pair fits."""
    out_of = language(source, "--from") if source else None
    into = language(target, "--to") if target else None
    if out_of and into:
        if out_of == into:
            raise BadInput("source and target are the same language", place="--from, --to", found=out_of.tag)
        return LanguagePair(out_of, into)
    fits = [p for p in map(parse_pair, offered) if out_of in (None, p.source) and into in (None, p.target)]
    if len(fits) != 1:
        missing = " and ".join(name for name, given in (("--from", out_of), ("--to", into)) if given is None)
        listed = ", ".join(offered) or "no pair is live yet; publish one with: tellmt publish"
        raise BadInput(f"{missing} needed", found=f"{len(fits)} live pairs that fit", valid=listed)
    return fits[0]


def _detected(work: Work, target: str | None, offered: Sequence[str], options: Options) -> LanguagePair:
    """The pair of a file, by the language it is in."""
    from serve.translation.source_language import find, pairs_into

    if not target:
        raise BadInput("--to needed with --from auto", valid="the code of a language")
    look = Look()
    with contextlib.suppress(Enough), work.opened() as f:
        work.format.convert(f, cast(IO[bytes], outputs.Nowhere()), look, options)
    found = find(pairs_into(offered, target), "\n".join(look.texts), work.name)
    if found.pair is None:
        raise NotServed("the file is in the target language already", place=work.name, found=found.detected.language, valid="--from CODE")
    return found.pair


def _ways(
    server: str | None, registry: str | None, no_shipped: bool, engine: str, tries: int, jobs: int | None, quality: Quality
) -> tuple[Callable[[], list[str]], Open]:
    """The pairs there are, asked for when they are needed, and how a translator for one of them is opened."""
    if server:
        from serve.files.remote import offered_by, open_remote

        return lambda: offered_by(server), lambda pair: _with(open_remote(server, pair, quality), jobs)
    from serve.files.local import live_pairs, open_local
    from tell.registry.registry import Registry

    store, shipped = Registry(registry), shipped_adapters(no_shipped)
    return lambda: live_pairs(store, shipped), lambda pair: _with(open_local(pair, store, shipped, engine, tries, quality), jobs)


@contextlib.asynccontextmanager
async def _with(opened: AbstractAsyncContextManager[Any], jobs: int | None) -> Any:
    async with opened as backend:
        if jobs:
            backend.parallel = jobs
        yield backend


def _collect(works: Sequence[Work], ledger: Ledger, options: Options) -> dict[str, Counts]:
    ledger.begin()
    out = {}
    for work in works:
        one = Collect(ledger, options.again)
        with work.opened() as f:
            work.format.convert(f, cast(IO[bytes], outputs.Nowhere()), one, options)
        one.end()
        out[work.name] = one.counts
    return out


def _corpus_pairs(path: Path, pair: LanguagePair) -> Iterator[tuple[str, str]]:
    """The segments of a corpus in the pair's direction."""
    from tell.corpus.directory import read_corpus
    from tell.records import read_pairs

    own = parse_pair(str(read_corpus(path)["pair"]))
    if {own.source, own.target} != {pair.source, pair.target}:
        raise BadInput("the corpus is of another pair", place=f"--corpus {path}", found=str(own), valid=str(pair))
    for one in read_pairs(path / "pairs.jsonl"):
        yield (one.source, one.target) if own == pair else (one.target, one.source)


def _fill(works: Sequence[Work], ledger: Ledger, options: Options) -> dict[str, Counts]:
    out = {}
    for work in works:
        one = Fill(ledger, options.again, work.name)
        with outputs.written(work.output) as to, work.opened() as f:
            work.format.convert(f, to, one, options)
            work.check_unchanged()
        one.end()
        out[work.name] = one.counts
    return out


async def _translated(ledger: Ledger, opened: AbstractAsyncContextManager[Backend], server: bool, dry: bool) -> float:
    """Translate what is open, or a part of it to tell how long the rest will take; the seconds that takes."""
    async with opened as backend:
        if not server and (gone := ledger.forget(backend.adapters[0])):
            say(f"another version is live since the last run: its {gone:,} segments are translated anew")
        began = time.monotonic()
        if dry:
            return await runner.estimate(ledger, backend)
        await runner.run(ledger, backend)
        return time.monotonic() - began


def _one_pair(works: list[Work], pair: LanguagePair, open_: Open, options: Options, asked: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """All files of one pair. Returns the result, and how many segments failed."""
    key = {"works": [(w.key(), str(Path(w.output).resolve())) for w in works], "pair": str(pair), **{k: asked[k] for k in ("server", "registry", "quality")}}
    with run_state.state(key, asked["fresh"]) as (ledger, place):
        counts = _collect(works, ledger, options)
        if asked["corpus"]:
            ledger.reuse(_corpus_pairs(Path(asked["corpus"]), pair))
        before = ledger.totals()
        if before.done and ledger.adapters():
            say(f"going on: {before.done_times:,} of {before.times:,} segments are there already")
        if asked["dry_run"]:
            left = asyncio.run(_translated(ledger, open_(pair), bool(asked["server"]), True)) if before.done < before.segments else 0.0
            found = {"pair": str(pair), **report.summary(counts), "different": before.segments, "seconds": round(left, 1)}
            say(f"{pair}: {found['segments']:,} segments, {before.segments:,} different to translate, {before.characters:,} characters: about {clock(left)}")
            return found, 0
        seconds = asyncio.run(_translated(ledger, open_(pair), bool(asked["server"]), False)) if before.done < before.segments else 0.0
        counts = _fill(works, ledger, options)
        report.tell(works, ledger)
        adapters = ledger.adapters()
        if len(adapters) > 1:
            say(f"another version went live meanwhile: {', '.join(a[:12] for a in adapters)} answered")
        total = report.summary(counts)
        files = [{"file": w.name, "output": w.output, "format": w.format.name, **report.summary({w.name: counts[w.name]})} for w in works]
        result = {
            "pair": str(pair), **total, "different": before.segments, "seconds": round(seconds, 3), "output": asked["output"] or "-",
            "adapter": adapters[-1] if adapters else None, "adapters": adapters, "files": files,
            "truncated": total["flags"].get("truncated", 0), "empty": total["flags"].get("empty", 0),
        }  # fmt: skip
        if asked["report"]:
            report.write(asked["report"], result, ledger)
        elif total["failed"] and asked["output"] not in (None, "-"):
            report.write_failed(f"{str(asked['output']).rstrip('/')}.failed.jsonl", ledger)
        said = {"kept": "left as they were", "reused": "from the corpus", "flagged": "flagged"}
        rest = "".join(f", {total[name]:,} {what}" for name, what in said.items() if total[name])
        say(f"{total['translated']:,} of {total['segments']:,} segments translated, {total['blank']:,} blank, in {seconds:.1f} s{rest}")
        if not total["failed"]:
            run_state.forget(place)
        return result, total["failed"]


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--from", "from", metavar="CODE", help="Source language; may be left out where one live pair fits; auto detects it for each file.")
@click.option("--to", metavar="CODE", help="Target language; may be left out where one live pair fits.")
@click.option(
    "-o", "--output", default=None, show_default="stdout", metavar="OUT", help="File to write, or a directory for several files; - is standard output."
)
@click.option("--format", metavar="NAME", help=f"Format of the files, where their names do not show it: {', '.join(FORMATS)}.")
@click.option("--column", multiple=True, metavar="NAME", help="Column of CSV or TSV to translate, by name or number; may be repeated.")
@click.option("--field", multiple=True, metavar="NAME", help="Field of JSON lines to translate (message.text); may be repeated.")
@click.option("--into", metavar="NAME", help="Column or field to write the translation to.  [default: that of the source]")
@click.option("--all", "again", is_flag=True, help="Also translate segments that have a translation already (PO, XLIFF, TMX, --into).")
@click.option("--corpus", metavar="DIR", help="Reuse the translations of segments that are in this corpus.")
@click.option("--report", metavar="FILE", help="Write flagged and failed segments to FILE, .md or .json.")
@click.option("--dry-run", is_flag=True, help="Count segments and characters, translate a few, and estimate the time of the rest.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Batches under way at once.  [default: as the engine needs; 4 with --server]")
@click.option(
    "--tries",
    type=click.IntRange(0, 16),
    default=4,
    show_default=True,
    help="Most retries of a flagged segment, each decoded in another way; without --server.",
)
@click.option("--fresh", is_flag=True, help="Start again, even where an earlier run was interrupted.")
@click.option("--server", metavar="URL", help="Translate through this running server, such as http://127.0.0.1:8080.")
@click.option("--engine", default="auto", show_default=True, metavar="auto|ct2|vllm", help="Engine to start when no --server is given.")
@click.option("--quality", type=click.Choice(("fast", "best")), default="fast", show_default=True, help="best chooses among several candidates.")
@click.option("--registry", metavar="DIR", help="Registry of the adapters, when no --server is given.")
@NO_SHIPPED
def translate(files: tuple[str, ...], to: str | None, output: str | None, server: str | None, **more: Any) -> None:
    """Translate files in their own formats; - is standard input.

    The output has the format of the input, and everything but the texts stays as it is.

    Without --server, the pair's live adapter in the registry translates, or where there is none, the one that comes with tellmt.

    Each output is written in one step when everything is translated. An interrupted run leaves no incomplete file, and the same command continues it.
    """
    if json_mode() and output in (None, "-") and not more["dry_run"]:
        raise BadInput("the result and the translation cannot both go to standard output", place="--json", valid="-o OUT")
    report.check(more["report"])
    # `from` is a word of Python's own, and so no name for a parameter.
    source = more["from"]
    offered, open_ = _ways(server, more["registry"], more["no_shipped"], more["engine"], more["tries"], more["jobs"], more["quality"])
    auto = source == "auto"
    pair = None if auto else _choose_pair(source, to, [] if source and to else offered())
    works = outputs.plan(files, output, more["format"])
    options = Options(pair, more["column"], more["field"], more["into"], more["again"])
    groups: dict[LanguagePair, list[Work]] = {}
    there = offered() if auto else []
    for work in works:
        groups.setdefault(pair or _detected(work, to, there, options), []).append(work)
    asked = {**more, "server": server, "output": output}
    results, failed = [], 0
    for own, part in groups.items():
        result, lost = _one_pair(part, own, open_, Options(own, options.columns, options.fields, options.into, options.again), asked)
        results.append(result)
        failed += lost
    emit(results[0] if len(results) == 1 else {"pairs": results})
    if failed:
        total = sum(r["segments"] for r in results)
        raise PartlyDone("some segments were not translated", place=output or "-", found=f"{failed} of {total}")
