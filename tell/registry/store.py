"""What a registry keeps, and the protocol of its stores: a directory (tell.registry.directory) or an object store (tell.registry.object_store).

A store holds adapters under their ids, one state per pair, and the log. It knows nothing of promoting or rolling back: those are steps
from one state to the next, which `tell.registry.registry` hands to `Store.change`.
"""

from __future__ import annotations

import dataclasses
import datetime
import getpass
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from tell.adapter.card import Card
from tell.errors import RegistryError
from tell.languages import LanguagePair

# What a pair's state looks like from outside, at the price of a look: equal stamps mean equal states.
Stamp = tuple[int, int, int]
Entry = dict[str, Any]

MEANWHILE = "another version went live meanwhile; run the same command again"


class PairState(BaseModel):
    """Which adapters stand for one pair. `generation` grows by one with every change.

    `pinned` says that a service with more pairs than room keeps this one loaded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair: str
    live: str | None = None
    previous: str | None = None
    canary: str | None = None
    generation: int = 0
    pinned: bool = False

    def dump(self) -> dict[str, Any]:
        """What is written: a state that was never pinned reads in versions that knew no pins."""
        return self.model_dump() if self.pinned else self.model_dump(exclude={"pinned"})

    def named(self) -> set[str]:
        """The ids that an alias names."""
        return {id for id in (self.live, self.previous, self.canary) if id}


# From a state to the next one and the entry for the log; None when nothing is to be changed. Raises what keeps it from happening.
Step = Callable[[PairState], tuple[PairState, Entry] | None]


@dataclasses.dataclass(frozen=True, slots=True)
class StoredAdapter:
    """An adapter in the store: the time it was added (seconds since 1970) and its size in bytes."""

    since: float
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Unused:
    """An adapter that may be removed. `idle` is the seconds since it was added or last live."""

    id: str
    pair: str
    size: int
    idle: float


class Store(Protocol):
    """Every method raises RegistryError, or OSError, when the store cannot be read or written."""

    # How it is called in messages: no credentials.
    place: str
    # The directory in which adapters are at hand: `home/adapters/<id>`.
    home: Path
    # Seconds between two looks of a service that follows it.
    interval: float

    def stamps(self) -> dict[str, Stamp]:
        """Pair by pair. Raises FileNotFoundError when there is nothing yet."""

    def slugs(self) -> list[str]:
        """Of the pairs that have a state, sorted."""

    def read(self, slug: str) -> PairState | None: ...

    def change(self, pair: LanguagePair, step: Step, needs: str | None = None) -> PairState:
        """Take the step and log it, unless another writer came first. With `needs`, only if that adapter is still there."""

    def log(self) -> list[Entry]: ...

    def ids(self) -> list[str]: ...

    def path(self, id: str) -> Path:
        """Where the adapter lies. Raises RegistryError when `id` is none: ids are looked up, never joined blindly."""

    def card(self, id: str) -> Card:
        """Unverified."""

    def add(self, id: str, fill: Callable[[Path], None], entry: Entry) -> None:
        """The adapter that `fill` writes into an empty directory, under `id`, and the entry; nothing when it is there already."""

    def held(self) -> dict[str, StoredAdapter]: ...

    def remove(self, choose: Callable[[], list[Unused]]) -> list[Unused]:
        """Remove what `choose` says, and log it."""

    def forget(self, id: str) -> bool:
        """Drop a copy that turned out damaged. Whether there is an original to take a new one from."""

    def writable(self) -> None:
        """Raises TellmtError when nothing could be changed here."""

    # Small files beside the adapters, each written whole and never changed. Names are given in parts, which the caller has checked.

    def file_names(self, *folder: str) -> list[str]:
        """The names of the files in a folder, sorted; none where there is no folder."""

    def read_file(self, *name: str) -> bytes:
        """Raises FileNotFoundError."""

    def write_file(self, *name: str, data: bytes) -> None: ...

    def remove_file(self, *name: str) -> None:
        """Raises FileNotFoundError."""


def is_id(id: str) -> bool:
    return len(id) == 32 and set(id) <= set("0123456789abcdef")


def unknown(id: str, place: str) -> RegistryError:
    return RegistryError("no such adapter in the registry", place=place, found=id)


def parse_state(value: Any, place: str) -> PairState:
    try:
        return PairState.model_validate(json.loads(value) if isinstance(value, (bytes, str)) else value)
    except (ValueError, ValidationError, RecursionError) as e:
        raise RegistryError("the state of this pair cannot be read", place=place, found=str(e).split("\n")[0]) from None


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def signed(entry: Entry) -> Entry:
    """The entry with the time and who wrote it."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return {"time": now, "who": _who(), **entry}


def changed(state: PairState, entry: Entry) -> Entry:
    return signed({"pair": state.pair, "generation": state.generation, **entry})


def pruned(adapter: Unused) -> Entry:
    return signed({"event": "prune", "pair": adapter.pair, "id": adapter.id, "why": f"not used for {adapter.idle / 86400:.1f} days"})
