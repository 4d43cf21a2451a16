"""The registry: published adapters, the aliases that say which one answers for a pair, and a log of who changed what and why.

It lies in a directory (`tell.registry.directory`) or in an object store (`tell.registry.object_store`); `TELLMT_REGISTRY` says where.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tell.adapter.card import CARD, Adapter, Card, adapter_id, open_adapter, write_card
from tell.errors import AdapterError, RegistryError
from tell.languages import parse_pair
from tell.paths import registry_dir, writable
from tell.registry.directory import DirectoryStore
from tell.registry.prune import unused_adapters
from tell.registry.store import MEANWHILE, Entry, Stamp, Store, Unused
from tell.registry.store import PairState as PairState


def _store(where: Path | str | None) -> Store:
    """A URL (`s3://bucket/registry`) is an object store; `file://` is the directory it names, which has better locks than any object store."""
    place = where if where is not None else os.environ.get("TELLMT_REGISTRY") or registry_dir()
    if isinstance(place, str) and "://" in place:
        if not place.startswith("file://"):
            from tell.registry.object_store import RemoteStore

            return RemoteStore(place)
        place = unquote(urlsplit(place).path)
    return DirectoryStore(Path(place).expanduser().absolute())


class Registry:
    """A registry of adapters. Readers see whole states without a lock; writers cannot undo each other's changes."""

    def __init__(self, root: Path | str | None = None):
        self.store = _store(root)

    @property
    def root(self) -> Path:
        """The directory in which its adapters are at hand: the registry itself, or the local copy of an object store's."""
        return self.store.home

    @property
    def place(self) -> str:
        """Where the registry is, for messages: path or URL, without credentials."""
        return self.store.place

    @property
    def interval(self) -> float:
        """Seconds between two looks of a service that follows it."""
        return self.store.interval

    def writable(self) -> None:
        """Raises TellmtError when nothing could be changed here."""
        self.store.writable()

    # Pairs

    def stamps(self) -> dict[str, Stamp]:
        """Pair by pair, what tells one state from the next. Raises FileNotFoundError when there is nothing yet, OSError or RegistryError
        when the registry cannot be read."""
        return self.store.stamps()

    def pairs(self) -> list[str]:
        """The pairs that have a state, as their files are named; it need not be readable."""
        return [slug.replace("--", ":") for slug in self.store.slugs()]

    def state(self, pair: str) -> PairState:
        # Through parse_pair, so that a pair from outside can never name another path.
        normalised = parse_pair(pair)
        return self.store.read(normalised.slug) or PairState(pair=str(normalised))

    def states(self) -> list[PairState]:
        return [state for slug in self.store.slugs() if (state := self.store.read(slug)) is not None]

    def log(self) -> list[Entry]:
        """Every change, oldest first. What a dying writer cut short stands as {"event": "unreadable", ...}."""
        return self.store.log()

    # Adapters

    def path(self, id: str) -> Path:
        """Where the adapter of this id lies. Raises RegistryError when `id` is not one."""
        return self.store.path(id)

    def card(self, id: str) -> Card:
        """The card of this id, unverified, without the weights having to come here."""
        return self.store.card(id)

    def adapter(self, id: str) -> Adapter:
        """The verified adapter of this id."""
        try:
            return self._verified(id)
        except AdapterError:
            if not self.store.forget(id):
                raise
        return self._verified(id)

    def _verified(self, id: str) -> Adapter:
        path = self.path(id)
        adapter = open_adapter(path)
        if adapter.id != id:
            raise RegistryError("the adapter's content does not have the hash it is named by", place=str(path), found=adapter.id)
        # Engines look for other files too, pickles among them.
        if foreign := sorted(set(os.listdir(path)) - {*adapter.card.contents, CARD}):
            raise AdapterError("the directory holds files that are no part of an adapter", place=str(path), found=", ".join(map(repr, foreign)))
        return adapter

    def ids(self) -> list[str]:
        return self.store.ids()

    def find(self, prefix: str) -> str:
        """The only id that starts with `prefix`."""
        hits = [i for i in self.ids() if i.startswith(prefix)]
        if len(hits) != 1:
            raise RegistryError("not exactly one adapter has this id", place=self.place, found=f"{prefix} ({len(hits)} match)")
        return hits[0]

    def add(self, source: Path, card: Card) -> str:
        """Copy a verified adapter in under its content's hash, with `card` as its card. Adding the same content again changes nothing."""
        open_adapter(source)
        pair, id = str(parse_pair(card.pair, "the card's pair")), adapter_id(card)

        def fill(aside: Path) -> None:
            for name in card.contents:
                shutil.copyfile(source / name, aside / name)
            write_card(aside, card)
            open_adapter(aside)

        self.store.add(id, fill, {"event": "add", "pair": pair, "id": id})
        return id

    def beside(self) -> Path:
        """A directory on the registry's own disk, for what is looked at before it is added. What a killed process leaves there, `prune` removes."""
        return writable(self.root / "adapters", "registry", "TELLMT_REGISTRY")

    # Changes

    def promote(self, pair: str, id: str, why: str, generation: int | None = None) -> PairState:
        """Make `id` the live adapter of its pair; the one that was live becomes `previous`. Promoting what is live changes nothing.

        With `generation`, raises RegistryError when the pair has changed since its state had that generation.
        """
        adapter, language_pair = self.adapter(id), parse_pair(pair)
        if parse_pair(adapter.card.pair) != language_pair:
            raise RegistryError("this adapter is for another pair", place=str(adapter.path), found=adapter.card.pair, valid=pair)

        def step(old: PairState) -> tuple[PairState, Entry] | None:
            if generation is not None and old.generation != generation:
                raise RegistryError(MEANWHILE, place=pair, found=f"live {old.live}")
            if old.live == id:
                return None
            new = old.model_copy(update={"live": id, "previous": old.live, "generation": old.generation + 1})
            return new, {"event": "promote", "id": id, "from": old.live, "why": why}

        return self.store.change(language_pair, step, needs=id)

    def rollback(self, pair: str, why: str, to_none: bool = False) -> PairState:
        """Swap live and previous. Raises RegistryError when there is no previous one, AdapterError when it is damaged.

        With `to_none`, a pair that has no previous one is left without a live one: something outside the registry answers then.
        """

        def step(old: PairState) -> tuple[PairState, Entry]:
            if old.previous is None and (old.live is None or not to_none):
                raise RegistryError("nothing to roll back to", place=pair, found=f"live {old.live}, no previous adapter")
            if old.previous is not None:
                self.adapter(old.previous)
            new = old.model_copy(update={"live": old.previous, "previous": old.live, "generation": old.generation + 1})
            return new, {"event": "rollback", "id": new.live, "from": old.live, "why": why}

        return self.store.change(parse_pair(pair), step)

    def withdraw(self, pair: str, why: str) -> PairState:
        """Leave a pair without a live adapter; the one that was live becomes `previous`. If none is live, nothing changes."""

        def step(old: PairState) -> tuple[PairState, Entry] | None:
            if old.live is None:
                return None
            new = old.model_copy(update={"live": None, "previous": old.live, "generation": old.generation + 1})
            return new, {"event": "withdraw", "id": None, "from": old.live, "why": why}

        return self.store.change(parse_pair(pair), step)

    def pin(self, pair: str, on: bool, why: str) -> PairState:
        """Pin or unpin a pair. The log gets an entry only if this changes something."""

        def step(old: PairState) -> tuple[PairState, Entry] | None:
            if old.pinned == on:
                return None
            new = old.model_copy(update={"pinned": on, "generation": old.generation + 1})
            return new, {"event": "pin" if on else "unpin", "id": old.live, "why": why}

        return self.store.change(parse_pair(pair), step)

    def _best(self, states: list[PairState]) -> frozenset[str]:
        """The best versions, by the verdicts of the live ones, with which the gate compares what comes next."""
        best = set()
        for state in states:
            try:
                verdict = self.card(state.live).verdict if state.live else None
            except (AdapterError, RegistryError, OSError):
                continue
            named = verdict.get("best") if isinstance(verdict, dict) else None
            if isinstance(named, dict) and isinstance(named.get("id"), str):
                best.add(named["id"])
        return frozenset(best)

    def prune(self, keep_days: float, keep: int, dry_run: bool = False) -> list[Unused]:
        """Remove what `tell.registry.prune.unused_adapters` finds; with `dry_run`, only say what that is. Raises RegistryError when a state cannot be read:
        what it names must not go."""

        def choose() -> list[Unused]:
            states = self.states()
            return unused_adapters(self.store.held(), states, self.log(), time.time(), keep, 86400 * keep_days, self._best(states))

        return choose() if dry_run else self.store.remove(choose)
