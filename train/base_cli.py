"""`tellmt base list|fetch|show`."""

from __future__ import annotations

import click

from tell.command import Group
from tell.console import emit, say, table
from tell.model.base import DEFAULT_BASE, PACKAGED, cached_bases, find_base


@click.group(cls=Group, help="List, fetch and show base models.")
def base() -> None:
    pass


def _said(engines: dict[str, str | None]) -> list[str]:
    """A line for each engine: whether it serves the base, and why not."""
    return [f"{name}: {'serves it' if reason is None else reason}" for name, reason in engines.items()]


@base.command("list")
def list_() -> None:
    """List the bases that need no model hub, and those in the cache."""
    cached = {b.id: b for b in cached_bases()}
    rows = [
        {"id": p.id, "cached": p.id in cached, "parameters": p.parameters, "licence": p.licence, "default": p.id == DEFAULT_BASE} for p in PACKAGED.values()
    ]
    rows += [{"id": b.id, "cached": True, "parameters": b.parameters, "licence": b.licence, "default": False} for b in cached.values() if b.id not in PACKAGED]
    shown = [[f"{r['id']}{' (default)' if r['default'] else ''}", "yes" if r["cached"] else "no", r["parameters"], r["licence"]] for r in rows]
    emit({"bases": rows}, lambda: table("", ["base", "in cache", "what", "licence"], shown))


@base.command()
@click.argument("base_id", metavar="BASE", default=DEFAULT_BASE)
@click.option("--force", is_flag=True, help="Fetch and prepare it again although it is in the cache.")
def fetch(base_id: str, force: bool) -> None:
    """Fetch a base: one of `tellmt base list`, a hub id (owner/name), or a local directory."""
    from train.fetch_base import fetch_base
    from train.servable import refusals

    prepared = fetch_base(base_id, force)
    say(f"licence: {prepared.licence}{'. ' + prepared.notice if prepared.notice else ''}")
    engines = refusals(prepared)
    emit(prepared.model_dump(mode="json") | {"engines": engines}, lambda: "\n".join([f"{prepared.id} is ready in {prepared.path}", *_said(engines)]))


@base.command()
@click.argument("base_id", metavar="BASE", default=DEFAULT_BASE)
def show(base_id: str) -> None:
    """Show the manifest of a base in the cache, and which engines serve it."""
    from train.servable import refusals

    cached_base = find_base(base_id)
    engines = refusals(cached_base)
    rows = [[k, str(v)] for k, v in cached_base.model_dump(mode="json").items()] + [["engines", line] for line in _said(engines)]
    emit(cached_base.model_dump(mode="json") | {"engines": engines}, lambda: table("", ["key", "value"], rows))
