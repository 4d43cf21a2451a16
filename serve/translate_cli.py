"""`tellmt translate`: a text file, line by line, through a running server or an engine of its own.

Reads FILE (UTF-8) and, without --server, the registry and the shipped adapters. Writes the output: as many lines as the input, in one step at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import click

from serve import batch, textfile
from serve.batch import Backend, Done
from serve.quality import Quality
from tell.cli import Command
from tell.console import emit, json_mode, say
from tell.errors import BadInput, PartlyDone
from tell.languages import LanguagePair, language, parse_pair
from tell.shipped import NO_SHIPPED, shipped_adapters

# Line numbers named in one message; the rest is counted.
NAMED = 20


def _numbers(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:NAMED]))
    return f"{'line' if len(lines) == 1 else 'lines'} {shown}" + (f" and {len(lines) - NAMED:,} more" if len(lines) > NAMED else "")


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


def _report(done: Sequence[Done], texts: Sequence[str], source: str) -> dict[str, int]:
    """What is wrong with which lines, on stderr; the counts."""
    failed = [(n, d.failed) for n, d in enumerate(done, 1) if d.failed is not None]
    for n, reason in failed[:NAMED]:
        say(f"{source}, line {n}: not translated, left empty: {reason}")
    if len(failed) > NAMED:
        say(f"{source}: also not translated, left empty: {_numbers([n for n, _ in failed[NAMED:]])}")
    if truncated := [n for n, d in enumerate(done, 1) if d.truncated]:
        say(f"{source}: cut at the length limit: {_numbers(truncated)}")
    if empty := [n for n, (d, t) in enumerate(zip(done, texts, strict=True), 1) if t and not d.text and d.failed is None]:
        say(f"{source}: the adapter returned nothing for {_numbers(empty)}")
    blank = sum(not t for t in texts)
    return {
        "segments": len(texts), "translated": len(texts) - blank - len(failed), "blank": blank,
        "truncated": len(truncated), "empty": len(empty), "failed": len(failed),
    }  # fmt: skip


async def _translate(texts: Sequence[str], opened: AbstractAsyncContextManager[Backend]) -> tuple[list[Done], list[str], float]:
    async with opened as backend:
        began = time.monotonic()
        done = iter(await batch.run([t for t in texts if t], backend))
        return [next(done) if t else Done("") for t in texts], backend.adapters, time.monotonic() - began


def _open(
    server: str | None, registry: str | None, no_shipped: bool, engine: str, source: str | None, target: str | None, quality: Quality
) -> AbstractAsyncContextManager[Any]:
    if server:
        from serve.remote import offered_by, open_remote

        pair = _choose_pair(source, target, [] if source and target else offered_by(server))
        return open_remote(server, pair, quality)
    from serve.local import live_pairs, open_local
    from tell.registry import Registry

    store, shipped = Registry(registry), shipped_adapters(no_shipped)
    return open_local(_choose_pair(source, target, [] if source and target else live_pairs(store, shipped)), store, shipped, engine, quality)


@click.command(cls=Command)
@click.argument("file")
@click.option("--from", "from", metavar="CODE", help="Language of FILE; may be left out where one live pair fits.")
@click.option("--to", metavar="CODE", help="Language to translate into; may be left out where one live pair fits.")
@click.option("-o", "--output", default="-", show_default="stdout", metavar="OUT", help="File to write; - is standard output.")
@click.option("--server", metavar="URL", help="Translate through this running server, such as http://127.0.0.1:8080.")
@click.option("--engine", default="auto", show_default=True, metavar="auto|ct2|vllm", help="Engine to start when no --server is given.")
@click.option("--quality", type=click.Choice(("fast", "best")), default="fast", show_default=True, help="best takes the best of several candidates.")
@click.option("--registry", metavar="DIR", help="Where the adapters are, when no --server is given.")
@NO_SHIPPED
def translate(
    file: str, to: str | None, output: str, server: str | None, engine: str, quality: Quality, registry: str | None, no_shipped: bool, **more: str | None
) -> None:
    """Translate FILE line by line; - is standard input.

    Without --server, the pair's live adapter in the registry translates; where there is none, the one that came with tellmt.

    The output has exactly as many lines as the input. Blank lines, indentation and line ends stay as they are. It is written in one step
    when all lines are done: an interrupted run leaves nothing half-written.
    """
    if json_mode() and output == "-":
        raise BadInput("the result and the translation cannot both go to standard output", place="--json", valid="-o OUT")
    # `from` is a word of Python's own, and so no name for a parameter.
    opened = _open(server, registry, no_shipped, engine, more["from"], to, quality)
    textfile.check_output(file, output)
    text = textfile.read(file)
    cores = [line.core for line in text.lines]
    source = "standard input" if file == "-" else file
    done, adapters, seconds = asyncio.run(_translate(cores, opened))
    textfile.write(output, text.filled([d.text for d in done]))
    counts = _report(done, cores, source)
    if len(adapters) > 1:
        say(f"another version went live meanwhile: {', '.join(a[:12] for a in adapters)} answered")
    emit({**counts, "seconds": round(seconds, 3), "output": output, "adapter": adapters[-1] if adapters else None, "adapters": adapters})
    say(f"{counts['translated']:,} of {counts['segments']:,} lines translated, {counts['blank']:,} blank, in {seconds:.1f} s")
    if counts["failed"]:
        raise PartlyDone("some lines were not translated and are empty in the output", place=output, found=f"{counts['failed']} of {counts['segments']}")
