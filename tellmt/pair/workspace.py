"""The directory of a pair: the files its user gave, and everything that is made of them.

    <pairs>/fo-en/
      pair.json          the pair's settings, and the files with their hashes
      sources/           copies of the files, since the originals may move
      fo-en/, en-fo/     per direction: corpus, lexicon, recipe.toml, mixed, adapter, scores, done.json
      to-translate/      sentences proposed for translation, where there are too few pairs

`TELLMT_PAIRS` names the directory of all pairs; the default is `$XDG_DATA_HOME/tellmt/pairs`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tell.errors import BadInput, NotFound, TellmtError
from tell.files import fsync_dir, key_of, sha256_file, write_json
from tell.languages import LanguagePair, parse_pair
from tell.paths import pairs_dir, writable

SETTINGS = "pair.json"
# What a trial has of each direction.
TRIED = ("corpus", "lexicon", "mixed", "recipe.toml", ".recipe.sha256", "measured.json")


class SourceFile(BaseModel):
    """A file or directory that the user gave: its name in sources/, its hash, its original path, and when it was added."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    origin: str
    added: str


class PairSettings(BaseModel):
    """The content of pair.json: what the user has asked for so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair: str
    base: str
    both: bool = True
    files: list[SourceFile] = []
    # Options of `corpus build` for reading and cleaning the files, as the user typed them.
    reading: dict[str, list[str]] = {}
    against: list[str] = []
    # Dictionaries that the lexicons take in, by their absolute paths, with the direction in which each was given; whether prompts get hints at all.
    dictionaries: dict[str, str] = {}
    # Lexicons and adapters whose words the pair's own lexicons take in, by their absolute paths, with the direction that each is of.
    lexicons: dict[str, str] = {}
    hints: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Workspace:
    """The directory of one pair. `pair` is the direction under which it was added first."""

    path: Path
    pair: LanguagePair

    @property
    def sources(self) -> Path:
        return self.path / "sources"

    def directory_of(self, direction: LanguagePair) -> Path:
        """The directory of a direction."""
        return self.path / direction.slug

    def settings(self) -> PairSettings | None:
        """None before the pair was added. Raises TellmtError where pair.json cannot be read."""
        try:
            return PairSettings.model_validate_json((self.path / SETTINGS).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as e:
            reason = e.errors()[0]["msg"] if isinstance(e, ValidationError) else e.strerror
            raise TellmtError("the settings of this pair cannot be read", place=str(self.path / SETTINGS), found=reason) from None

    def write_settings(self, settings: PairSettings) -> None:
        write_json(self.path / SETTINGS, settings.model_dump())

    def restore_settings(self, failed: PairSettings, before: PairSettings | None) -> None:
        """Undo `import_files` and `write_settings` after settings that turned out not to work."""
        names_before = {f.name for f in before.files} if before else set()
        for file in failed.files:
            if file.name not in names_before:
                _clear(self.sources / file.name)
        if before is not None:
            self.write_settings(before)
        else:
            shutil.rmtree(self.path)

    def last_result(self, direction: LanguagePair) -> dict[str, Any] | None:
        """The result of the last run that completed this direction."""
        try:
            return dict(json.loads((self.directory_of(direction) / "done.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def training_speed(self, direction: LanguagePair, keys: Collection[str], base: str) -> dict[str, Any] | None:
        """The speed of training that this machine had with a mix of one of these keys and this base, where it was measured.

        Versions before hints noted the key of the corpus, which is one of the keys where the mix has no hints.
        """
        try:
            measurement = json.loads((self.directory_of(direction) / "measured.json").read_bytes())
            measured = measurement.get("mix") or measurement["corpus"]
            return dict(measurement["training"]) if measured in keys and measurement["base"] == base else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_training_speed(self, direction: LanguagePair, mix: str, base: str, training: dict[str, Any]) -> None:
        write_json(self.directory_of(direction) / "measured.json", {"mix": mix, "base": base, "training": training})

    @contextlib.contextmanager
    def trial(self) -> Iterator[Workspace]:
        """A copy of the workspace in which everything may be tried, and which is gone afterwards. Adapters and scores are not copied, and sources are links."""
        with tempfile.TemporaryDirectory(prefix="tellmt-pair-") as folder:
            copy = Workspace(Path(folder) / self.path.name, self.pair)
            copy.sources.mkdir(parents=True)
            if (self.path / SETTINGS).exists():
                shutil.copyfile(self.path / SETTINGS, copy.path / SETTINGS)
                for source in self.sources.iterdir():
                    (copy.sources / source.name).symlink_to(source.resolve())
            for direction in (self.pair, self.pair.reverse):
                for name in TRIED:
                    made, copied = self.directory_of(direction) / name, copy.directory_of(direction) / name
                    if made.is_dir():
                        shutil.copytree(made, copied)
                    elif made.exists():
                        copied.parent.mkdir(exist_ok=True)
                        shutil.copyfile(made, copied)
            yield copy

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Raises BadInput when another process works on this pair."""
        writable(self.path, "directory of pairs", "TELLMT_PAIRS")
        with (self.path / ".lock").open("a") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInput("another command works on this pair", place=str(self.path), valid="the same command when that one has ended") from None
            yield


def workspace_of(pair: LanguagePair) -> Workspace:
    """The workspace of a pair, whether it exists or not. Both directions of a pair share one workspace."""
    root = pairs_dir()
    for direction in (pair, pair.reverse):
        if (root / direction.slug / SETTINGS).exists():
            return Workspace(root / direction.slug, direction)
    return Workspace(root / pair.slug, pair)


def existing_workspace(text: str) -> Workspace:
    """The workspace of a pair that was added. Raises NotFound that lists the pairs there are."""
    pair = parse_pair(text, "PAIR")
    workspace = workspace_of(pair)
    if not (workspace.path / SETTINGS).exists():
        added = ", ".join(str(w.pair) for w in all_workspaces())
        raise NotFound("this pair was not added", place=str(pairs_dir()), found=str(pair), valid=added or "none was added yet: tellmt pair add PAIR FILE")
    return workspace


def all_workspaces() -> list[Workspace]:
    """The workspaces of all pairs that were added."""
    root = pairs_dir()
    directories = sorted(p.parent for p in root.glob(f"*/{SETTINGS}")) if root.is_dir() else []
    return [Workspace(path, parse_pair(PairSettings.model_validate_json((path / SETTINGS).read_bytes()).pair)) for path in directories]


def _digest(path: Path) -> str:
    if not path.is_dir():
        return sha256_file(path)
    return key_of([[str(p.relative_to(path)), sha256_file(p)] for p in sorted(path.rglob("*")) if p.is_file()])


def _clear(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def import_files(workspace: Workspace, paths: Sequence[Path], recorded: Sequence[SourceFile]) -> tuple[list[SourceFile], dict[str, Path], list[str]]:
    """Copy files and directories into the workspace. Raises BadInput for a path that does not exist, before anything is copied.

    Returns the files that the workspace then has, the path by which each is read now, and a note on each that was there already. New files are read at their
    original paths, so that messages name what the user knows; the copies are for later runs. A new file whose name is taken by other content gets a number,
    because the frozen test set knows its segments by the names of their files.
    """
    for path in paths:
        if not path.exists():
            raise BadInput("no such file", place=str(path))
    files, notes = list(recorded), []
    read_at = {f.name: workspace.sources / f.name for f in recorded}
    writable(workspace.sources, "directory of pairs", "TELLMT_PAIRS")
    for path in paths:
        # Absolute, so that `.` has a name too.
        origin = Path(os.path.abspath(path))
        digest = _digest(origin)
        if (same := next((f for f in files if f.sha256 == digest), None)) is not None:
            notes.append(f"{path}: already there, as {same.name}")
            name = same.name
        else:
            name = _copy(workspace, origin, {f.name for f in files})
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            files.append(SourceFile(name=name, sha256=digest, origin=str(origin), added=now))
        # Segments are known by the name of their file, so a file that has another name in the workspace is read there.
        read_at[name] = origin if origin.name == name else workspace.sources / name
    fsync_dir(workspace.sources)
    return files, read_at, notes


def _copy(workspace: Workspace, path: Path, names_in_use: set[str]) -> str:
    """Copy a file or directory into the workspace; returns its name there."""
    name, number = path.name, 2
    while name in names_in_use:
        stem, dot, endings = path.name.partition(".")
        name, number = f"{stem}-{number}{dot}{endings}", number + 1
    partial = workspace.sources / f".{name}.part"
    try:
        _clear(partial)
        shutil.copytree(path, partial) if path.is_dir() else shutil.copyfile(path, partial)
        partial.replace(workspace.sources / name)
    except OSError as e:
        _clear(partial)
        raise TellmtError(
            "the file cannot be copied", place=f"{path} to {workspace.sources}", found=e.strerror or str(e), valid="room there, or TELLMT_PAIRS elsewhere"
        ) from None
    return name


def remove_workspace(workspace: Workspace) -> None:
    """Remove the directory and everything in it. Published adapters stay in the registry."""
    with workspace.lock():
        # The settings go first, so that a removal that is interrupted leaves no pair that looks complete.
        (workspace.path / SETTINGS).unlink(missing_ok=True)
        shutil.rmtree(workspace.path)
