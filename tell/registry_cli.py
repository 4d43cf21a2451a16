"""`tellmt registry list|show|promote|rollback|log`."""

from __future__ import annotations

from typing import Any

import click

from tell.cli import Command, Group
from tell.console import emit, say, table
from tell.errors import AdapterError, RegistryError
from tell.shipped import NO_SHIPPED, shipped_adapters

WHY = click.option("--why", required=True, help="The reason, kept in the log.")


@click.group(cls=Group)
def registry() -> None:
    """List published adapters; promote and roll back."""


def _reason(why: str) -> str:
    if not why.strip():
        raise click.UsageError("--why needs a reason: it is kept in the log")
    return why.strip()


def _chrf(scores: dict[str, Any]) -> str:
    found = scores.get("adapter", {}).get("chrf", {}).get("score")
    return f"{found:.1f}" if isinstance(found, (int, float)) else ""


@registry.command("list", cls=Command)
@NO_SHIPPED
def list_adapters(no_shipped: bool) -> None:
    """The adapters, and which of them answer for their pairs.

    Those that came with tellmt are not in the registry: each is in use while its pair has no live version here.
    """
    from tell.card import read_card
    from tell.registry import Registry

    store = Registry()
    states = store.states()
    aliases: dict[str, list[str]] = {}
    for state in states:
        for alias in ("live", "previous", "canary"):
            if (id := getattr(state, alias)) is not None:
                aliases.setdefault(id, []).append(alias)
    adapters: list[dict[str, Any]] = []
    for id in sorted({*store.ids(), *aliases}):
        row: dict[str, Any] = {"id": id, "aliases": aliases.get(id, []), "shipped": False, "in_use": "live" in aliases.get(id, []), "problem": None}
        try:
            card = read_card(store.path(id))
            verdict = card.verdict or {}
            row |= {"pair": card.pair, "base": card.base.id, "dev_chrf2": _chrf(verdict.get("metrics", {})), "passed": verdict.get("passed")}
        except (AdapterError, RegistryError) as e:
            row |= {"pair": "", "base": "", "dev_chrf2": "", "passed": None, "problem": str(e)}
        adapters.append(row)
    served = {s.pair for s in states if s.live}
    for pair, one in shipped_adapters(no_shipped).items():
        row = {"id": one.id, "aliases": [], "shipped": True, "in_use": pair not in served, "problem": None, "pair": pair}
        adapters.append({**row, "base": one.card.base.id, "dev_chrf2": "", "passed": None})
    adapters.sort(key=lambda r: (r["pair"], not r["in_use"], r["shipped"], r["id"]))

    def shown() -> Any:
        if not adapters:
            return f"no adapters in {store.root}; tellmt publish puts them there"
        gate = {True: "passed", False: "forced", None: ""}
        names = [["shipped", "in use"] if r["shipped"] and r["in_use"] else ["shipped"] if r["shipped"] else r["aliases"] for r in adapters]
        rows = [
            [r["pair"], r["id"][:12], ", ".join(n), r["base"], r["dev_chrf2"], r["problem"] or gate[r["passed"]]] for r, n in zip(adapters, names, strict=True)
        ]
        return table(f"registry {store.root}", ["pair", "id", "alias", "base", "dev chrF2", "gate"], rows)

    emit({"root": str(store.root), "pairs": [s.model_dump() for s in states], "adapters": adapters}, shown)


@registry.command("show", cls=Command)
@click.argument("id")
def show(id: str) -> None:
    """Verify the adapter whose id begins with ID, published or shipped, and print its card."""
    from tell.registry import Registry

    store = Registry()
    own = {s.id: s for s in shipped_adapters().values() if s.id.startswith(id)}
    hits = {i for i in store.ids() if i.startswith(id)} | set(own)
    if own and len(hits) > 1:
        raise RegistryError("not exactly one adapter has this id", place=str(store.root), found=f"{id} ({len(hits)} match, shipped ones among them)")
    adapter = next(iter(own.values())).open() if own else store.adapter(store.find(id))
    card = adapter.card

    def shown() -> Any:
        rows = [["id", adapter.id], ["path", str(adapter.path)], ["pair", card.pair], ["base", f"{card.base.id} at {card.base.revision[:16]}"]]
        rows += [["rank", str(card.rank)], ["prompt", repr(card.anchor.prefix)], ["opening", repr(card.anchor.opening)]]
        if (turns := card.anchor.chat) is not None:
            rows += [["before the prompt", repr(turns.before)], ["before the response", repr(turns.after)]]
        for entry in card.scores:
            for name, system in entry.get("systems", {}).items():
                for metric in (system["bleu"], system["chrf"]):
                    rows.append([f"{entry['name']}, {name}", f"{metric['name']} {metric['score']:.1f} ({metric['signature']})"])
        if card.verdict is not None:
            rows.append(["gate", "passed" if card.verdict.get("passed") else f"forced; refused: {'; '.join(card.verdict.get('reasons', []))}"])
        rows += [["note", note] for note in card.notes] + [["versions", ", ".join(f"{k} {v}" for k, v in sorted(card.versions.items()))]]
        return table("", ["adapter", adapter.short], rows)

    emit({"id": adapter.id, "path": str(adapter.path), "card": card.model_dump(mode="json")}, shown)


@registry.command("promote", cls=Command)
@click.argument("pair")
@click.argument("id")
@WHY
def promote(pair: str, id: str, why: str) -> None:
    """Make the adapter whose id begins with ID live for PAIR, without asking the gate."""
    from tell.registry import Registry

    reason, store = _reason(why), Registry()
    before, found = store.state(pair), store.find(id)
    state = store.promote(pair, found, reason)
    already = before.live == found and before.generation == state.generation
    say(f"{state.pair}: {found[:12]} " + ("is already live" if already else f"is live, generation {state.generation}"))
    emit(state.model_dump())


@registry.command("rollback", cls=Command)
@click.argument("pair")
@WHY
@NO_SHIPPED
def rollback(pair: str, why: str, no_shipped: bool) -> None:
    """Make the previous adapter of PAIR live again, or where there is none, the one that came with tellmt."""
    from tell.languages import parse_pair
    from tell.registry import Registry

    own = shipped_adapters(no_shipped).get(str(parse_pair(pair, "PAIR")))
    state = Registry().rollback(pair, _reason(why), to_none=own is not None)
    again = f"{state.live[:12]} is live again" if state.live else f"none is live; the shipped {own.id[:12] if own else ''} answers"
    say(f"{state.pair}: {again}, generation {state.generation}")
    emit(state.model_dump())


@registry.command("log", cls=Command)
@click.option("--pair", help="Only the changes of this pair.")
def log(pair: str | None) -> None:
    """Who changed what, and why; the oldest first."""
    from tell.languages import parse_pair
    from tell.registry import Registry

    store = Registry()
    entries = store.log()
    if pair is not None:
        wanted = str(parse_pair(pair))
        entries = [e for e in entries if e.get("pair") == wanted]

    def shown() -> Any:
        if not entries:
            return "no changes yet"
        columns = [[e.get("time", f"line {e.get('line')}"), e.get("who", ""), e.get("event", ""), e.get("pair", "")] for e in entries]
        rows = [[*c, str(e.get("id") or "")[:12], e.get("why", "")] for c, e in zip(columns, entries, strict=True)]
        return table(f"log of {store.root}", ["time", "who", "event", "pair", "id", "why"], rows)

    emit({"root": str(store.root), "log": entries}, shown)
