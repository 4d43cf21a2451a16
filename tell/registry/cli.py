"""`tellmt registry list|show|promote|rollback|withdraw|wait|pin|unpin|prune|export|import|log`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tell.adapter.shipped import NO_SHIPPED, shipped_adapters
from tell.command import Command, Group
from tell.console import emit, say, table
from tell.errors import AdapterError, RegistryError

WHY = click.option("--why", required=True, help="The reason, kept in the log.")


@click.group(cls=Group)
def registry() -> None:
    """List published adapters; promote, roll back and pin them; copy them to another registry."""


def _reason(why: str) -> str:
    if not why.strip():
        raise click.UsageError("--why needs a reason: it is kept in the log")
    return why.strip()


def _chrf(scores: dict[str, Any]) -> str:
    score = scores.get("adapter", {}).get("chrf", {}).get("score")
    return f"{score:.1f}" if isinstance(score, (int, float)) else ""


@registry.command("list", cls=Command)
@NO_SHIPPED
def list_adapters(no_shipped: bool) -> None:
    """List the adapters, and which of them are live.

    Adapters that come with tellmt are not in the registry: each is used while its pair has no live version in it.
    """
    from tell.registry.registry import Registry

    store = Registry()
    states = store.states()
    aliases: dict[str, list[str]] = {}
    pinned = {state.pair for state in states if state.pinned}
    for state in states:
        for alias in ("live", "previous", "canary"):
            if (id := getattr(state, alias)) is not None:
                aliases.setdefault(id, []).append(alias)
    adapters: list[dict[str, Any]] = []
    for id in sorted({*store.ids(), *aliases}):
        row: dict[str, Any] = {"id": id, "aliases": aliases.get(id, []), "shipped": False, "in_use": "live" in aliases.get(id, []), "problem": None}
        try:
            card = store.card(id)
            verdict = card.verdict or {}
            row |= {"pair": card.pair, "base": card.base.id, "dev_chrf2": _chrf(verdict.get("metrics", {})), "passed": verdict.get("passed")}
        except (AdapterError, RegistryError) as e:
            row |= {"pair": "", "base": "", "dev_chrf2": "", "passed": None, "problem": str(e)}
        adapters.append(row)
    served = {s.pair for s in states if s.live}
    for pair, shipped in shipped_adapters(no_shipped).items():
        row = {"id": shipped.id, "aliases": [], "shipped": True, "in_use": pair not in served, "problem": None, "pair": pair}
        adapters.append({**row, "base": shipped.card.base.id, "dev_chrf2": "", "passed": None})
    adapters.sort(key=lambda r: (r["pair"], not r["in_use"], r["shipped"], r["id"]))

    def shown() -> Any:
        if not adapters:
            return f"no adapters in {store.place}; tellmt publish puts them there"
        gate = {True: "passed", False: "forced", None: ""}
        names = [["shipped", "in use"] if r["shipped"] and r["in_use"] else ["shipped"] if r["shipped"] else r["aliases"] for r in adapters]
        names = [[*n, "pinned"] if r["in_use"] and r["pair"] in pinned else n for r, n in zip(adapters, names, strict=True)]
        rows = [
            [r["pair"], r["id"][:12], ", ".join(n), r["base"], r["dev_chrf2"], r["problem"] or gate[r["passed"]]] for r, n in zip(adapters, names, strict=True)
        ]
        return table(f"registry {store.place}", ["pair", "id", "alias", "base", "dev chrF2", "gate"], rows)

    emit({"root": store.place, "pairs": [s.model_dump() for s in states], "adapters": adapters}, shown)


@registry.command("show", cls=Command)
@click.argument("id")
def show(id: str) -> None:
    """Verify the adapter whose id begins with ID, published or shipped, and print its card."""
    from tell.registry.registry import Registry

    store = Registry()
    shipped = {s.id: s for s in shipped_adapters().values() if s.id.startswith(id)}
    hits = {i for i in store.ids() if i.startswith(id)} | set(shipped)
    if shipped and len(hits) > 1:
        raise RegistryError("not exactly one adapter has this id", place=store.place, found=f"{id} ({len(hits)} match, shipped ones among them)")
    adapter = next(iter(shipped.values())).open() if shipped else store.adapter(store.find(id))
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
    """Make the adapter whose id begins with ID live for PAIR, without the gate."""
    from tell.registry.registry import Registry

    reason, store = _reason(why), Registry()
    before, adapter_id = store.state(pair), store.find(id)
    state = store.promote(pair, adapter_id, reason)
    already = before.live == adapter_id and before.generation == state.generation
    say(f"{state.pair}: {adapter_id[:12]} " + ("is already live" if already else f"is live, generation {state.generation}"))
    emit(state.model_dump())


@registry.command("rollback", cls=Command)
@click.argument("pair")
@WHY
@NO_SHIPPED
def rollback(pair: str, why: str, no_shipped: bool) -> None:
    """Make the previous adapter of PAIR live again, or where there is none, the one that comes with tellmt."""
    from tell.languages import parse_pair
    from tell.registry.registry import Registry

    shipped = shipped_adapters(no_shipped).get(str(parse_pair(pair, "PAIR")))
    state = Registry().rollback(pair, _reason(why), to_none=shipped is not None)
    again = f"{state.live[:12]} is live again" if state.live else f"none is live; the shipped {shipped.id[:12] if shipped else ''} answers"
    say(f"{state.pair}: {again}, generation {state.generation}")
    emit(state.model_dump())


@registry.command("withdraw", cls=Command)
@click.argument("pair")
@WHY
def withdraw(pair: str, why: str) -> None:
    """Stop serving PAIR: no adapter of the registry is live for it. `rollback` makes the last one live again."""
    from tell.registry.registry import Registry

    reason, store = _reason(why), Registry()
    before = store.state(pair)
    state = store.withdraw(pair, reason)
    say(f"{state.pair}: " + (f"{before.live[:12]} is not live any more, generation {state.generation}" if before.live else "none is live"))
    emit(state.model_dump())


@registry.command("wait", cls=Command)
@click.argument("pair")
@click.argument("version")
@click.option("--server", "servers", multiple=True, required=True, metavar="URL", help="Address of a running service; may name several.")
@click.option("--timeout", type=click.FloatRange(0, 86_400), default=300, show_default=True, help="Longest time to wait, in seconds.")
def wait(pair: str, version: str, servers: tuple[str, ...], timeout: float) -> None:
    """Wait until every named service answers requests for PAIR with VERSION, an adapter's id or the beginning of it.

    A service where the pair is cold counts if the next request will load the version. TELLMT_API_KEY has the key, where services need one.
    """
    from tell.registry.wait import wait_for

    done: list[dict[str, Any]] = []

    def note(url: str, status: Any) -> None:
        say(f"{url}: {pair} is {version[:12]}" + (", to be loaded for the next request" if status.state == "cold" else ""))
        done.append({"url": url, "adapter": status.adapter, "state": status.state, "generation": status.generation})

    wait_for(pair, version, servers, timeout, note)
    emit({"pair": pair, "version": version, "servers": done})


def _pin(pair: str, on: bool, why: str) -> None:
    from tell.registry.registry import Registry

    reason, store = _reason(why), Registry()
    before = store.state(pair)
    if on and before.live is None and before.pair not in shipped_adapters():
        raise RegistryError("nothing answers for this pair, so there is nothing to pin", place=store.place, found=before.pair)
    state = store.pin(pair, on, reason)
    now = "pinned" if on else "not pinned"
    say(f"{state.pair}: " + (f"{now} already" if before.pinned == on else f"{now}, generation {state.generation}"))
    emit(state.model_dump())


@registry.command("pin", cls=Command)
@click.argument("pair")
@WHY
def pin(pair: str, why: str) -> None:
    """Keep PAIR loaded in every service that follows this registry, even when it has more pairs than it can load."""
    _pin(pair, True, why)


@registry.command("unpin", cls=Command)
@click.argument("pair")
@WHY
def unpin(pair: str, why: str) -> None:
    """Allow services to unload PAIR again."""
    _pin(pair, False, why)


@registry.command("prune", cls=Command)
@click.option("--keep-days", type=click.FloatRange(0, 36500), default=30, show_default=True, help="Keep adapters that were added or live within so many days.")
@click.option("--keep", type=click.IntRange(0, 100_000), default=3, show_default=True, help="Keep so many of the newest adapters of each pair.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
def prune(keep_days: float, keep: int, dry_run: bool) -> None:
    """Remove the adapters that nobody uses.

    Adapters that an alias of any pair names are kept, and so are those that were added or live within the last hour, whatever the options say.
    """
    from tell.registry.registry import Registry

    store = Registry()
    removed = store.prune(keep_days, keep, dry_run)
    size = sum(a.size for a in removed)

    def shown() -> Any:
        rows = [[a.pair, a.id[:12], f"{a.size / 1e6:.1f}", f"{a.idle / 86400:.1f}"] for a in removed]
        return table("", ["pair", "id", "MB", "days unused"], rows) if rows else None

    entries = [{"id": a.id, "pair": a.pair, "bytes": a.size} for a in removed]
    emit({"root": store.place, "dry_run": dry_run, "bytes": size, "adapters": entries}, shown)
    many = f"{len(removed)} adapter" + "s" * (len(removed) != 1)
    say(f"{many} {'would be removed' if dry_run else 'removed'}, {size / 1e6:.1f} MB" if removed else "nothing to remove")


@registry.command("export", cls=Command)
@click.argument("id")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write, such as adapter.tar.")
def export(id: str, output: Path) -> None:
    """Write the adapter whose id begins with ID as one file, for `tellmt registry import` elsewhere."""
    from tell.adapter.archive import write_bundle
    from tell.registry.registry import Registry

    store = Registry()
    adapter = store.adapter(store.find(id))
    size = write_bundle(adapter, output)
    say(f"{output}: {adapter.card.pair} {adapter.id}, {size / 1e6:.1f} MB; tell its id to whoever imports it")
    emit({"id": adapter.id, "pair": adapter.card.pair, "path": str(output), "bytes": size})


@registry.command("import", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--id", "expected", metavar="ID", help="Refuse the file unless the id of its adapter is or begins with this.")
def import_adapter(file: Path, expected: str | None) -> None:
    """Add the adapter that `tellmt registry export` wrote to FILE. It does not become live."""
    from tell.adapter.archive import open_bundle
    from tell.registry.registry import Registry

    store = Registry()
    with open_bundle(file, store.beside()) as adapter:
        if expected is not None and (not expected or not adapter.id.startswith(expected)):
            raise AdapterError("the file holds another adapter", place=str(file), found=adapter.id, valid=expected)
        present = adapter.id in store.ids()
        id = store.add(adapter.path, adapter.card)
    live = store.state(adapter.card.pair).live == id
    say(f"{id} {'is in' if present else 'added to'} {store.place}{' already' if present else ''}; {'and it is live' if live else 'it is not live. Next:'}")
    if not live:
        say(f'  tellmt registry promote {adapter.card.pair} {id[:12]} --why "..."')
    emit({"id": id, "pair": adapter.card.pair, "base": adapter.card.base.id, "already": present})


@registry.command("log", cls=Command)
@click.option("--pair", help="Show only the changes of this pair.")
def log(pair: str | None) -> None:
    """List who changed what, and why, the oldest change first."""
    from tell.languages import parse_pair
    from tell.registry.registry import Registry

    store = Registry()
    entries = store.log()
    if pair is not None:
        normalised = str(parse_pair(pair))
        entries = [e for e in entries if e.get("pair") == normalised]

    def shown() -> Any:
        if not entries:
            return "no changes yet"
        times = [str(e.get("time", f"line {e.get('line')}"))[:19].replace("T", " ") for e in entries]
        columns = [[t, e.get("who", ""), e.get("event", ""), e.get("pair", "")] for t, e in zip(times, entries, strict=True)]
        rows = [[*c, str(e.get("id") or "")[:12], e.get("why", "")] for c, e in zip(columns, entries, strict=True)]
        return table(f"log of {store.place}", ["time (UTC)", "who", "event", "pair", "id", "why"], rows)

    emit({"root": store.place, "log": entries}, shown)
