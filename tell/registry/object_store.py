"""A registry in an object store, by its URL (`s3://bucket/registry`, `gs://...`, `az://...`): what several machines without a shared volume follow.

    <url>/adapters/<id>/                        the three files, card.json last: without it an adapter is not there
    <url>/pairs/<slug>/<generation>.json        {"state", "entry", "token"}: one object per change, created once, never changed or removed
    <url>/log/<time>-<token>.json               {"entry"}: what was added and pruned
    <url>/glossaries/<owner>/<id>.json          what users keep (tell.registry.glossaries)
    <url>/documents/<id>.<what>                 texts of documents that replicas of a service share, until they are forgotten

There are no locks and no renames in an object store. What takes their place: a pair's state is its object with the highest generation, and a
writer that read generation g creates g + 1 under the condition that no such object exists, which these stores decide in one step. Of two
writers that read the same generation one creates it, and the other is told so; a writer that was shown an old listing tries to
create what exists. Nothing is removed below `pairs`, so a generation is never free a second time, and change and log entry are one object.

Adapters are copied to <cache>/registry/<hash of the url>/adapters on use, verified there, and kept: an id is the hash of its content.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tell.adapter.card import CARD, LIMITS, Card, open_adapter, parse_card, read_card
from tell.errors import AdapterError, RegistryError
from tell.files import fsync_dir, sha256_bytes
from tell.languages import LanguagePair
from tell.paths import cache_dir, writable
from tell.registry.fsspec_client import ObjectStore
from tell.registry.store import MEANWHILE, Entry, PairState, Stamp, Step, StoredAdapter, Unused, changed, is_id, parse_state, pruned, signed, unknown

_NOTE = re.compile(r"[0-9]{20}-[0-9a-f]{16}\.json")


def _generation(name: str) -> int | None:
    """From an object's name: `0000000012.json`."""
    stem = name.removesuffix(".json")
    return int(stem) if stem != name and len(stem) == 10 and stem.isascii() and stem.isdecimal() else None


class RemoteStore:
    """Implements `tell.registry.store.Store`."""

    def __init__(self, url: str):
        self.objects = ObjectStore(url)
        self.place = self.objects.place
        self.home = cache_dir() / "registry" / sha256_bytes(self.place.encode())[:16]
        # Each look is a request that is paid for.
        self.interval = 0.05 if self.objects.kind == "memory" else 2.0

    def writable(self) -> None:
        self.objects.check()

    # States

    def _generations(self, *slug: str) -> dict[str, list[int]]:
        """The generations of every pair, or of one, ascending."""
        by_slug: dict[str, list[int]] = {}
        for path in self.objects.listing("pairs", *slug):
            of, _, name = "/".join((*slug, path)).partition("/")
            if (generation := _generation(name)) is not None:
                by_slug.setdefault(of, []).append(generation)
        return {of: sorted(numbers) for of, numbers in sorted(by_slug.items())}

    def stamps(self) -> dict[str, Stamp]:
        by_slug = self._generations()
        if not by_slug:
            raise FileNotFoundError(f"no pairs in {self.place}")
        return {slug.replace("--", ":"): (generations[-1], 1, 0) for slug, generations in by_slug.items()}

    def slugs(self) -> list[str]:
        return list(self._generations())

    def read(self, slug: str) -> PairState | None:
        generations = self._generations(slug).get(slug)
        if not generations:
            return None
        name = f"{generations[-1]:010}.json"
        place = f"{self.place}/pairs/{slug}/{name}"
        try:
            state = parse_state(json.loads(self.objects.read("pairs", slug, name))["state"], place)
        except (ValueError, TypeError, KeyError, RecursionError, FileNotFoundError) as e:
            raise RegistryError("the state of this pair cannot be read", place=place, found=repr(e)) from None
        if state.generation != generations[-1]:
            raise RegistryError("the state of this pair is of another generation than its name", place=place, found=state.generation)
        return state

    def change(self, pair: LanguagePair, step: Step, needs: str | None = None) -> PairState:
        self.writable()
        old = self.read(pair.slug) or PairState(pair=str(pair))
        if (change := step(old)) is None:
            return old
        new, entry = change
        self._next(pair, new, entry)
        if needs is not None and needs not in self.ids():
            # Pruned between the look and the change; whoever prunes looks at the states once more, but may have done so just before.
            back = old.model_copy(update={"generation": new.generation + 1})
            self._next(pair, back, {"event": "rollback", "id": old.live, "from": needs, "why": "it was pruned while it was promoted"})
            raise unknown(needs, self.place)
        return new

    def _next(self, pair: LanguagePair, new: PairState, entry: Entry) -> None:
        body = {"state": new.dump(), "entry": changed(new, entry), "token": secrets.token_hex(8)}
        data = json.dumps(body, ensure_ascii=False, sort_keys=True, indent=2).encode(errors="backslashreplace") + b"\n"
        if not self.objects.create("pairs", pair.slug, f"{new.generation:010}.json", data=data):
            now = self.read(pair.slug)
            raise RegistryError(MEANWHILE, place=str(pair), found=f"live {now.live if now else None}")

    def _note(self, entry: Entry) -> None:
        # Names sort by time; the token keeps two writers of one moment apart.
        data = json.dumps({"entry": entry}, ensure_ascii=False, sort_keys=True).encode(errors="backslashreplace")
        self.objects.create("log", f"{time.time_ns():020}-{secrets.token_hex(8)}.json", data=data)

    def log(self) -> list[Entry]:
        """By time; the changes of one pair by generation, whatever its writers' clocks said. Costs one request per entry."""
        dated: list[tuple[str, int, Entry]] = []
        for folder in ("log", "pairs"):
            latest: dict[str, str] = {}
            # Names of other kinds are somebody else's objects.
            paths = [p for p in self.objects.listing(folder) if (_generation(p.rpartition("/")[2]) is not None if folder == "pairs" else _NOTE.fullmatch(p))]
            for path, raw in sorted(self.objects.read_all(folder, paths).items()):
                slug, _, name = path.rpartition("/")
                try:
                    entry = dict(json.loads(raw or b"")["entry"])
                except (ValueError, TypeError, KeyError, RecursionError):
                    entry = {"event": "unreadable", "line": path}
                when = str(entry.get("time", ""))
                if folder == "pairs":
                    when = latest[slug] = max(latest.get(slug, ""), when)
                dated.append((when, _generation(name) or 0, entry))
        return [entry for _, _, entry in sorted(dated, key=lambda o: o[:2])]

    # Adapters

    def ids(self) -> list[str]:
        return sorted(id for id, _, name in (p.partition("/") for p in self.objects.listing("adapters")) if name == CARD and is_id(id))

    def path(self, id: str) -> Path:
        mirror = self.home / "adapters" / id
        if not is_id(id):
            raise unknown(id, self.place)
        if not mirror.is_dir():
            self._mirror(id)
        return mirror

    @contextmanager
    def _aside(self, id: str) -> Iterator[Path]:
        """A directory to fill; it becomes the copy of this id, unless another process was faster."""
        writable(self.home / "adapters", "cache", "TELLMT_CACHE")
        aside = Path(tempfile.mkdtemp(dir=self.home / "adapters", prefix=f".{id}.new."))
        try:
            yield aside
            aside.chmod(0o755)
            for file in aside.iterdir():
                with file.open("rb") as f:
                    os.fsync(f.fileno())
            try:
                aside.rename(self.home / "adapters" / id)
            except OSError:
                if not (self.home / "adapters" / id).is_dir():
                    raise
            fsync_dir(self.home / "adapters")
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _mirror(self, id: str) -> None:
        with self._aside(id) as aside:
            # The card first: what is not there is told at the least cost.
            self._fetch(id, CARD, aside / CARD)
            for name in reversed(read_card(aside).contents):
                self._fetch(id, name, aside / name)
            adapter = open_adapter(aside)
            if adapter.id != id:
                raise RegistryError("the adapter's content does not have the hash it is named by", place=f"{self.place}/adapters/{id}", found=adapter.id)

    def _fetch(self, id: str, name: str, to: Path) -> None:
        place = f"{self.place}/adapters/{id}"
        try:
            if (size := self.objects.size("adapters", id, name)) > LIMITS[name]:
                raise AdapterError("too large", place=f"{place}/{name}", found=f"{size} bytes", valid=f"at most {LIMITS[name]}")
            self.objects.fetch("adapters", id, name, to=to)
        except FileNotFoundError:
            raise (unknown(id, self.place) if name == CARD else AdapterError("the adapter is incomplete", place=place, found=f"no {name}")) from None

    def card(self, id: str) -> Card:
        if not is_id(id):
            raise unknown(id, self.place)
        if (self.home / "adapters" / id).is_dir():
            return read_card(self.home / "adapters" / id)
        try:
            return parse_card(self.objects.read("adapters", id, CARD), f"{self.place}/adapters/{id}/{CARD}")
        except FileNotFoundError:
            raise unknown(id, self.place) from None

    def add(self, id: str, fill: Callable[[Path], None], entry: Entry) -> None:
        self.writable()
        if id in self.ids():
            return
        if not (self.home / "adapters" / id).is_dir():
            with self._aside(id) as aside:
                fill(aside)
        for name in (*read_card(self.home / "adapters" / id).contents, CARD):
            self.objects.send(self.home / "adapters" / id / name, "adapters", id, name)
        self._note(signed(entry))

    def held(self) -> dict[str, StoredAdapter]:
        sizes: dict[str, int] = {}
        whole = []
        for path, size in self.objects.listing("adapters").items():
            id, _, name = path.partition("/")
            sizes[id] = sizes.get(id, 0) + size
            if name == CARD and is_id(id):
                whole.append(id)
        # Where a store does not tell the time, an adapter is as new as can be, and stays.
        return {id: StoredAdapter(self.objects.modified("adapters", id, CARD) or time.time(), sizes[id]) for id in whole}

    def remove(self, choose: Callable[[], list[Unused]]) -> list[Unused]:
        """Card first, so that it is gone in one step; then the states are read again, and a card that one of them names by now is put back."""
        self.writable()
        removed = []
        for unused in choose():
            card = self.objects.read("adapters", unused.id, CARD)
            self.objects.remove("adapters", unused.id, CARD)
            if any(unused.id in state.named() for slug in self.slugs() if (state := self.read(slug))):
                self.objects.write("adapters", unused.id, CARD, data=card)
                continue
            for name in self.objects.listing("adapters", unused.id):
                self.objects.remove("adapters", unused.id, name)
            self._note(pruned(unused))
            self.forget(unused.id)
            removed.append(unused)
        return removed

    def forget(self, id: str) -> bool:
        mirror = self.home / "adapters" / id
        if not is_id(id) or not mirror.is_dir():
            return False
        aside = Path(tempfile.mkdtemp(dir=self.home / "adapters", prefix=f".{id}.old."))
        os.replace(mirror, aside / id)
        shutil.rmtree(aside, ignore_errors=True)
        return True

    # Small files

    def file_names(self, *folder: str) -> list[str]:
        return sorted(name for name in self.objects.listing(*folder) if "/" not in name)

    def read_file(self, *name: str) -> bytes:
        return self.objects.read(*name)

    def write_file(self, *name: str, data: bytes) -> None:
        self.writable()
        self.objects.write(*name, data=data)

    def remove_file(self, *name: str) -> None:
        # Some stores answer for an object that is not there as for one that was.
        self.objects.size(*name)
        self.objects.remove(*name)
