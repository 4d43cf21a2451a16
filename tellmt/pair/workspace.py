"""The directory of a pair: its files as they were given, and all that is made of them.

    <pairs>/fo-en/
      pair.json          what was asked for, and the files with their hashes
      sources/           copies of the files: the originals may move
      fo-en/, en-fo/     per direction: corpus, recipe.toml, mixed, adapter, scores, done.json
      to-translate/      sentences proposed for translation, where there are too few pairs

`TELLMT_PAIRS` says where, else `$XDG_DATA_HOME/tellmt/pairs`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tell.errors import BadInput, NotFound, TellmtError
from tell.files import fsync_dir, key_of, sha256_file, write_json
from tell.languages import LanguagePair, parse_pair
from tell.paths import pairs_dir, writable

STATE = "pair.json"


class Given(BaseModel):
    """A file or directory as it was given: what it is called in sources/, its hash, and from where and when it came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    origin: str
    added: str


class Asked(BaseModel):
    """What pair.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair: str
    base: str
    both: bool = True
    files: list[Given] = []
    # Options of `corpus build` that say how the files are read and cleaned, as they are typed.
    reading: dict[str, list[str]] = {}
    against: list[str] = []


@dataclasses.dataclass(frozen=True, slots=True)
class Home:
    """The directory of one pair; `pair` is the direction by which it was made."""

    path: Path
    pair: LanguagePair

    @property
    def sources(self) -> Path:
        return self.path / "sources"

    def of(self, direction: LanguagePair) -> Path:
        """The directory of a direction."""
        return self.path / direction.slug

    def asked(self) -> Asked | None:
        """None before anything was asked. Raises TellmtError where pair.json cannot be read."""
        try:
            return Asked.model_validate_json((self.path / STATE).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as e:
            said = e.errors()[0]["msg"] if isinstance(e, ValidationError) else e.strerror
            raise TellmtError("what is known of this pair cannot be read", place=str(self.path / STATE), found=said) from None

    def write(self, asked: Asked) -> None:
        write_json(self.path / STATE, asked.model_dump())

    def take_back(self, asked: Asked, before: Asked | None) -> None:
        """Undo `take` and `write`: what was asked for cannot be done."""
        had = {g.name for g in before.files} if before else set()
        for given in asked.files:
            if given.name not in had:
                _clear(self.sources / given.name)
        if before is not None:
            self.write(before)
        else:
            shutil.rmtree(self.path)

    def done(self, direction: LanguagePair) -> dict[str, Any] | None:
        """What came of a direction the last time it was gone through to its end."""
        try:
            return dict(json.loads((self.of(direction) / "done.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def measured(self, direction: LanguagePair, corpus: str, base: str) -> dict[str, Any] | None:
        """How fast this machine trained on this corpus when that was measured, if it was."""
        try:
            found = json.loads((self.of(direction) / "measured.json").read_bytes())
            return dict(found["training"]) if [found["corpus"], found["base"]] == [corpus, base] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_measured(self, direction: LanguagePair, corpus: str, base: str, training: dict[str, Any]) -> None:
        write_json(self.of(direction) / "measured.json", {"corpus": corpus, "base": base, "training": training})

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Raises BadInput when another process works on this pair."""
        writable(self.path, "directory of pairs", "TELLMT_PAIRS")
        with (self.path / ".lock").open("a") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInput("another command works on this pair", place=str(self.path), valid="the same command when that one has ended") from None
            yield


def home_of(pair: LanguagePair) -> Home:
    """The pair's home, which need not be there. A home made by the other direction is this pair's too."""
    root = pairs_dir()
    for each in (pair, pair.reverse):
        if (root / each.slug / STATE).exists():
            return Home(root / each.slug, each)
    return Home(root / pair.slug, pair)


def existing(text: str) -> Home:
    """The home of a pair that was added. Raises NotFound with the pairs there are."""
    pair = parse_pair(text, "PAIR")
    home = home_of(pair)
    if not (home.path / STATE).exists():
        known = ", ".join(str(h.pair) for h in homes())
        raise NotFound("this pair was not added", place=str(pairs_dir()), found=str(pair), valid=known or "none was added yet: tellmt pair add PAIR FILE")
    return home


def homes() -> list[Home]:
    """Every pair that was added."""
    root = pairs_dir()
    found = sorted(p.parent for p in root.glob(f"*/{STATE}")) if root.is_dir() else []
    return [Home(path, parse_pair(Asked.model_validate_json((path / STATE).read_bytes()).pair)) for path in found]


def _digest(path: Path) -> str:
    if not path.is_dir():
        return sha256_file(path)
    return key_of([[str(p.relative_to(path)), sha256_file(p)] for p in sorted(path.rglob("*")) if p.is_file()])


def _clear(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def take(home: Home, files: Sequence[Path], known: Sequence[Given]) -> tuple[list[Given], dict[str, Path], list[str]]:
    """Copy files and directories into the home; what it then has, where each lies, and a note on each that was there already. Raises BadInput for what is
    not there.

    What is given now is read where it lies, so that messages name what the user knows; the copies are for later. Everything is looked at before the first is
    copied. A file of a name that is taken, but with other content, gets a number: what is in the frozen test set is known by the name of its file, and stays.
    """
    for path in files:
        if not path.exists():
            raise BadInput("no such file", place=str(path))
    out, notes = list(known), []
    at = {g.name: home.sources / g.name for g in known}
    writable(home.sources, "directory of pairs", "TELLMT_PAIRS")
    for path in files:
        # Also `.` has a name then.
        here = Path(os.path.abspath(path))
        digest = _digest(here)
        if (same := next((g for g in out if g.sha256 == digest), None)) is not None:
            notes.append(f"{path}: already there, as {same.name}")
            name = same.name
        else:
            name = _copied(home, here, {g.name for g in out})
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            out.append(Given(name=name, sha256=digest, origin=str(here), added=now))
        # Segments are known by the name of their file, so one that has another name in the home is read there.
        at[name] = here if here.name == name else home.sources / name
    fsync_dir(home.sources)
    return out, at, notes


def _copied(home: Home, path: Path, taken: set[str]) -> str:
    """Copy a file or directory into the home, and what it is called there."""
    name, number = path.name, 2
    while name in taken:
        stem, dot, endings = path.name.partition(".")
        name, number = f"{stem}-{number}{dot}{endings}", number + 1
    aside = home.sources / f".{name}.part"
    try:
        _clear(aside)
        shutil.copytree(path, aside) if path.is_dir() else shutil.copyfile(path, aside)
        aside.replace(home.sources / name)
    except OSError as e:
        _clear(aside)
        raise TellmtError(
            "the file cannot be copied", place=f"{path} to {home.sources}", found=e.strerror or str(e), valid="room there, or TELLMT_PAIRS elsewhere"
        ) from None
    return name


def remove(home: Home) -> None:
    """The directory and all in it. What was published stays in the registry."""
    with home.alone():
        # First what makes it a pair: a removal that is cut short leaves no pair that looks whole.
        (home.path / STATE).unlink(missing_ok=True)
        shutil.rmtree(home.path)
