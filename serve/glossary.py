"""`tellmt glossary create|list|show|delete`: the glossaries kept in the registry, which running services follow.

Reads and writes <registry>/glossaries (tell.registry.glossaries), and reads the names of API keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from serve.auth.keys import Key, read_keys
from tell.command import Command, Group
from tell.console import emit, say, table
from tell.errors import BadInput, NotFound
from tell.languages import parse_pair
from tell.lexicon.glossary import Glossary
from tell.paths import keys_file
from tell.registry.glossaries import EVERYBODY, Glossaries, KeptGlossary


@click.group(cls=Group)
def glossary() -> None:
    """Keep, list, show and delete glossaries, which requests name."""


def _store() -> Glossaries:
    from tell.registry.registry import Registry

    return Glossaries(Registry().store)


def _keys() -> list[Key]:
    return read_keys(keys_file()) or []


def _owner(key: str | None) -> str:
    """The id of an active key, by its name or id; EVERYBODY without one. Raises BadInput."""
    if key is None:
        return EVERYBODY
    keys = [k for k in _keys() if k.revoked is None]
    # A name may have been of a key that was revoked or has expired; the newest is the one that is used.
    for record in reversed(keys):
        if key in (record.name, record.id):
            return record.id
    raise BadInput("no key has this name or id", place="--key", found=key, valid=", ".join(k.name for k in keys) or "there is no key: tellmt keys add")


def _all() -> list[KeptGlossary]:
    """The glossaries of everybody and of all keys in the keys file."""
    store = _store()
    found = {kept.id: kept for owner in (EVERYBODY, *(k.id for k in _keys())) for kept in store.list(owner)}
    return sorted(found.values(), key=lambda kept: (kept.created, kept.id))


def _find(id: str) -> KeptGlossary:
    """The glossary whose id begins so. Raises NotFound."""
    matching = [kept for kept in _all() if kept.id.startswith(id)]
    if len(matching) != 1:
        raise NotFound("not exactly one glossary has this id", place="ID", found=f"{id} ({len(matching)} match)", valid="an id of tellmt glossary list")
    return matching[0]


def _row(kept: KeptGlossary) -> dict[str, Any]:
    return {
        "id": kept.id, "name": kept.name, "pair": f"{kept.source}-{kept.target}", "terms": len(kept.terms), "key": kept.owner or None,
        "created": kept.created.isoformat(),
    }  # fmt: skip


@glossary.command("create", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--pair", required=True, metavar="PAIR", help="The languages of the terms, such as is-en.")
@click.option("--name", help="What requests call it.  [default: the name of FILE without its ending]")
@click.option("--key", metavar="NAME", help="The API key that it is for.  [default: all callers]")
def create(file: Path, pair: str, name: str | None, key: str | None) -> None:
    """Keep the terms of FILE: TSV or CSV, a source term and a target term a line. It cannot be changed, only deleted."""
    languages = parse_pair(pair, "--pair")
    kept = _store().create(_owner(key), name or file.stem, languages, Glossary.read(file, languages))
    say(f"glossary {kept.name}: {len(kept.terms):,} terms from {languages.source.name} to {languages.target.name}; running services know it at once")
    emit(_row(kept), lambda: kept.id)


@glossary.command("list", cls=Command)
def list_glossaries() -> None:
    """List the glossaries of all callers and of each key."""
    rows = [_row(kept) for kept in _all()]
    names = {k.id: k.name for k in _keys()}

    def as_table() -> Any:
        if not rows:
            return "no glossaries; tellmt glossary create FILE keeps one"
        cells = [[r["id"], r["name"], r["pair"], r["terms"], names.get(r["key"] or "", r["key"] or "all"), r["created"][:10]] for r in rows]
        return table("glossaries", ["id", "name", "pair", "terms", "key", "created"], cells, whole=["id"])

    emit({"glossaries": rows}, as_table)


@glossary.command("show", cls=Command)
@click.argument("id")
def show(id: str) -> None:
    """Print the terms of a glossary, by its ID or the beginning of it, as TSV."""
    kept = _find(id)
    emit({**_row(kept), "entries": kept.terms}, lambda: Glossary(kept.terms).tsv().rstrip("\n"))


@glossary.command("delete", cls=Command)
@click.argument("id")
def delete(id: str) -> None:
    """Delete a glossary, by its ID or the beginning of it. Documents that are being translated end with its terms."""
    kept = _find(id)
    _store().delete(kept.owner, kept.id)
    say(f"glossary {kept.name} ({kept.id}) is deleted; running services forget it within seconds")
    emit(_row(kept))
