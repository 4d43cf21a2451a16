"""A registry in a directory, which may be on a volume that several machines share.

    <root>/adapters/<id>/        immutable once there
    <root>/pairs/<slug>.json     {"pair", "live", "previous", "canary", "generation"}, and "pinned" where it is true
    <root>/log.jsonl             one line per change, append-only
    <root>/glossaries/<owner>/   a file for each glossary that users keep (tell.registry.glossaries)
    <root>/documents/            texts of documents that replicas of a service share, until they are forgotten

Writers take a lock on <root>/.lock; every write goes aside and is renamed, so readers need no lock and never see half a state.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tell.adapter.card import CARD, Card, read_card
from tell.errors import RegistryError
from tell.files import atomic_dir, fsync_dir, write_atomic, write_json
from tell.languages import LanguagePair
from tell.paths import writable
from tell.registry.store import Entry, PairState, Stamp, Step, StoredAdapter, Unused, changed, is_id, parse_state, pruned, signed, unknown

# Seconds after which what a killed writer left aside is removed.
LEFTOVER = 86400.0


class DirectoryStore:
    """Implements `tell.registry.store.Store`."""

    interval = 0.5

    def __init__(self, root: Path):
        self.home = root
        self.place = str(root)

    def writable(self) -> None:
        writable(self.home, "registry", "TELLMT_REGISTRY")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.writable()
        with (self.home / ".lock").open("a") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def _append(self, entry: Entry) -> None:
        line = json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n"
        with (self.home / "log.jsonl").open("a+b") as f:
            # A writer that died may have left half a line; this one must not be joined to it.
            if f.tell() and (f.seek(-1, os.SEEK_END), f.read(1))[1] != b"\n":
                line = "\n" + line
            # Half a surrogate pair, as in an argument that was not UTF-8, becomes JSON's own escape for it.
            f.write(line.encode(errors="backslashreplace"))
            f.flush()
            os.fsync(f.fileno())

    # States

    def stamps(self) -> dict[str, Stamp]:
        stamps = {}
        with os.scandir(self.home / "pairs") as entries:
            for entry in entries:
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    try:
                        info = entry.stat()
                    except FileNotFoundError:
                        continue
                    # A rename makes a new inode, so equal stamps mean equal content.
                    stamps[entry.name.removesuffix(".json").replace("--", ":")] = (info.st_ino, info.st_mtime_ns, info.st_size)
        return stamps

    def slugs(self) -> list[str]:
        return sorted(p.stem for p in (self.home / "pairs").glob("*.json") if not p.name.startswith("."))

    def read(self, slug: str) -> PairState | None:
        path = self.home / "pairs" / f"{slug}.json"
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise RegistryError("the state of this pair cannot be read", place=str(path), found=e.strerror or str(e)) from None
        return parse_state(raw, str(path))

    def change(self, pair: LanguagePair, step: Step, needs: str | None = None) -> PairState:
        with self._lock():
            old = self.read(pair.slug) or PairState(pair=str(pair))
            if (change := step(old)) is None:
                return old
            if needs is not None:
                # It was verified before the lock was had.
                self.path(needs)
            new, entry = change
            write_json(self.home / "pairs" / f"{pair.slug}.json", new.dump())
            self._append(changed(new, entry))
        return new

    def log(self) -> list[Entry]:
        path = self.home / "log.jsonl"
        entries: list[Entry] = []
        # What follows the last line feed is a line still being written.
        for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else [], 1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            entries.append(entry if isinstance(entry, dict) else {"event": "unreadable", "line": number})
        return entries

    # Adapters

    def ids(self) -> list[str]:
        return sorted(p.name for p in (self.home / "adapters").glob("*") if not p.name.startswith("."))

    def path(self, id: str) -> Path:
        path = self.home / "adapters" / id
        try:
            if is_id(id) and stat.S_ISDIR(os.lstat(path).st_mode):
                return path
        except FileNotFoundError:
            raise unknown(id, self.place) from None
        except OSError as e:
            raise RegistryError("cannot be read", place=str(path), found=e.strerror or str(e)) from None
        if is_id(id):
            raise RegistryError("not a directory", place=str(path), valid="no links: an adapter lies in the registry itself")
        raise unknown(id, self.place)

    def card(self, id: str) -> Card:
        return read_card(self.path(id))

    def add(self, id: str, fill: Callable[[Path], None], entry: Entry) -> None:
        with self._lock():
            final = self.home / "adapters" / id
            if not os.path.lexists(final):
                with atomic_dir(final) as aside:
                    fill(aside)
                self._append(signed(entry))

    def held(self) -> dict[str, StoredAdapter]:
        stored = {}
        for id in filter(is_id, self.ids()):
            files = [p.lstat() for p in (self.home / "adapters" / id).glob("*")]
            card = self.home / "adapters" / id / CARD
            newest = (card if os.path.lexists(card) else self.home / "adapters" / id).lstat().st_mtime
            stored[id] = StoredAdapter(newest, sum(f.st_size for f in files))
        return stored

    def remove(self, choose: Callable[[], list[Unused]]) -> list[Unused]:
        adapters = self.home / "adapters"
        with self._lock():
            chosen = choose()
            old = [p for p in adapters.glob(".*") if time.time() - p.lstat().st_mtime > LEFTOVER]
            for unused in chosen:
                # Out of sight in one step; a reader that has it open goes on reading what it opened.
                aside = Path(tempfile.mkdtemp(dir=adapters, prefix=f".{unused.id}.old."))
                os.replace(adapters / unused.id, aside / unused.id)
                self._append(pruned(unused))
                old.append(aside)
        for path in old:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
        return chosen

    def forget(self, id: str) -> bool:
        return False

    # Small files

    def file_names(self, *folder: str) -> list[str]:
        try:
            return sorted(e.name for e in os.scandir(self.home.joinpath(*folder)) if e.is_file(follow_symlinks=False) and not e.name.startswith("."))
        except FileNotFoundError:
            return []

    def read_file(self, *name: str) -> bytes:
        return self.home.joinpath(*name).read_bytes()

    def write_file(self, *name: str, data: bytes) -> None:
        self.writable()
        path = self.home.joinpath(*name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)

    def remove_file(self, *name: str) -> None:
        path = self.home.joinpath(*name)
        path.unlink()
        fsync_dir(path.parent)
