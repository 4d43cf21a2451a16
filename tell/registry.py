"""The registry: published adapters, the aliases that say which one answers for a pair, and a log of who changed what and why.

    <root>/adapters/<id>/        immutable once there
    <root>/pairs/<slug>.json     {"pair", "live", "previous", "canary", "generation"}, and "pinned" where it is true
    <root>/log.jsonl             one line per change, append-only

Writers take a lock on <root>/.lock; every write goes aside and is renamed, so readers need no lock and never see half a state.
"""

from __future__ import annotations

import datetime
import fcntl
import getpass
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tell.card import CONFIG, WEIGHTS, Adapter, Card, adapter_id, open_adapter, write_card
from tell.errors import RegistryError
from tell.files import atomic_dir, write_json
from tell.languages import parse_pair
from tell.paths import registry_dir, writable


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


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class Registry:
    """Reads are lock-free and see whole states; `publish`, `promote` and `rollback` take the lock."""

    def __init__(self, root: Path | None = None):
        self.root = root or registry_dir()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        writable(self.root, "registry", "TELLMT_REGISTRY")
        with (self.root / ".lock").open("a") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def _append(self, entry: dict[str, Any]) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "who": _who(), **entry}, ensure_ascii=False, sort_keys=True) + "\n"
        with (self.root / "log.jsonl").open("a+b") as f:
            # A writer that died may have left half a line; this one must not be joined to it.
            if f.tell() and (f.seek(-1, os.SEEK_END), f.read(1))[1] != b"\n":
                line = "\n" + line
            # Half a surrogate pair, as in an argument that was not UTF-8, becomes JSON's own escape for it.
            f.write(line.encode(errors="backslashreplace"))
            f.flush()
            os.fsync(f.fileno())

    def _pair_file(self, pair: str) -> Path:
        # Through parse_pair, so that a pair from outside can never name another path.
        return self.root / "pairs" / f"{parse_pair(pair).slug}.json"

    def state(self, pair: str) -> PairState:
        path = self._pair_file(pair)
        try:
            return PairState.model_validate(json.loads(path.read_text()))
        except FileNotFoundError:
            return PairState(pair=str(parse_pair(pair)))
        except (OSError, ValueError, ValidationError) as e:
            raise RegistryError("the state of this pair cannot be read", place=str(path), found=str(e).split("\n")[0]) from None

    def states(self) -> list[PairState]:
        out = []
        for path in sorted((self.root / "pairs").glob("*.json")):
            try:
                out.append(PairState.model_validate(json.loads(path.read_text())))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, ValidationError) as e:
                raise RegistryError("the state of a pair cannot be read", place=str(path), found=str(e).split("\n")[0]) from None
        return out

    def path(self, id: str) -> Path:
        """Where the adapter of this id lies. Raises RegistryError when `id` is not one: ids are looked up, never joined blindly."""
        if not (len(id) == 32 and set(id) <= set("0123456789abcdef")) or not (self.root / "adapters" / id).is_dir():
            raise RegistryError("no such adapter in the registry", place=str(self.root), found=id)
        return self.root / "adapters" / id

    def adapter(self, id: str) -> Adapter:
        """The verified adapter of this id."""
        found = open_adapter(self.path(id))
        if found.id != id:
            raise RegistryError("the adapter's content does not have the hash it is named by", place=str(found.path), found=found.id)
        return found

    def ids(self) -> list[str]:
        return sorted(p.name for p in (self.root / "adapters").glob("*") if not p.name.startswith("."))

    def find(self, prefix: str) -> str:
        """The one id that starts with `prefix`."""
        hits = [i for i in self.ids() if i.startswith(prefix)]
        if len(hits) != 1:
            raise RegistryError("not exactly one adapter has this id", place=str(self.root), found=f"{prefix} ({len(hits)} match)")
        return hits[0]

    def add(self, source: Path, card: Card) -> str:
        """Copy a verified adapter in under its content's hash, with `card` as its card. Adding the same content again changes nothing."""
        open_adapter(source)
        id = adapter_id(card)
        with self._lock():
            final = self.root / "adapters" / id
            if not final.exists():
                with atomic_dir(final) as aside:
                    for name in (WEIGHTS, CONFIG):
                        shutil.copyfile(source / name, aside / name)
                    write_card(aside, card)
                    open_adapter(aside)
                self._append({"event": "add", "pair": card.pair, "id": id})
        return id

    def promote(self, pair: str, id: str, why: str, generation: int | None = None) -> PairState:
        """Make `id` the live adapter of its pair; the one that was live becomes `previous`. Promoting what is live changes nothing.

        With `generation`, raises RegistryError when the pair has changed since its state had that generation.
        """
        adapter = self.adapter(id)
        if str(parse_pair(adapter.card.pair)) != str(parse_pair(pair)):
            raise RegistryError("this adapter is for another pair", place=str(adapter.path), found=adapter.card.pair, valid=pair)
        with self._lock():
            old = self.state(pair)
            if generation is not None and old.generation != generation:
                raise RegistryError("another version went live meanwhile; run the same command again", place=pair, found=f"live {old.live}")
            if old.live == id:
                return old
            new = old.model_copy(update={"live": id, "previous": old.live, "generation": old.generation + 1})
            self._write(new, {"event": "promote", "id": id, "from": old.live, "why": why})
        return new

    def rollback(self, pair: str, why: str, to_none: bool = False) -> PairState:
        """Swap live and previous. Raises RegistryError when there is no previous one, AdapterError when it is damaged.

        With `to_none`, a pair that has no previous one is left without a live one: something outside the registry answers then.
        """
        with self._lock():
            old = self.state(pair)
            if old.previous is None and (old.live is None or not to_none):
                raise RegistryError("nothing to roll back to", place=pair, found=f"live {old.live}, no previous adapter")
            if old.previous is not None:
                self.adapter(old.previous)
            new = old.model_copy(update={"live": old.previous, "previous": old.live, "generation": old.generation + 1})
            self._write(new, {"event": "rollback", "id": new.live, "from": old.live, "why": why})
        return new

    def pin(self, pair: str, on: bool, why: str) -> PairState:
        """Pin a pair, or take its pin off. Raises RegistryError when the state cannot be read or written; what changes nothing is no change."""
        with self._lock():
            old = self.state(pair)
            if old.pinned == on:
                return old
            new = old.model_copy(update={"pinned": on, "generation": old.generation + 1})
            self._write(new, {"event": "pin" if on else "unpin", "id": old.live, "why": why})
        return new

    def _write(self, state: PairState, entry: dict[str, Any]) -> None:
        write_json(self._pair_file(state.pair), state.dump())
        self._append({"pair": state.pair, "generation": state.generation, **entry})

    def log(self) -> list[dict[str, Any]]:
        """Every change, oldest first. A line that a dying writer cut short stands as {"event": "unreadable", "line": n}."""
        path = self.root / "log.jsonl"
        out: list[dict[str, Any]] = []
        # What follows the last line feed is a line still being written.
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else [], 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            out.append(entry if isinstance(entry, dict) else {"event": "unreadable", "line": number})
        return out
