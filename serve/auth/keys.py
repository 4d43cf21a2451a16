"""API keys and their scopes. Reads and writes the keys file: `TELLMT_KEYS`, else `$XDG_CONFIG_HOME/tellmt/keys.json`, written with mode
0600. A file that its group may read is accepted too: a Secret of Kubernetes belongs to root and is read through the pod's `fsGroup`.

A key is `tellmt_<id>_<secret>`, the secret 256 random bits. The file holds only its SHA-256. A slow, salted hash protects passwords, which can be
guessed; 256 random bits cannot, so a plain hash keeps them as safe, and a request costs a microsecond instead of a tenth of a second. The id is
no secret: it finds the record, and then the hashes are compared in constant time. An unknown id takes the same steps as a wrong secret.

Running services follow the file (`serve.auth.gate`). Every request carries a `Caller` in `scope["tellmt.caller"]`; the gate puts it there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tell.errors import TellmtError
from tell.files import write_atomic
from tell.paths import keys_file

Scope = Literal["translate", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = ("translate", "admin", "metrics")

# What nobody but the owner may do: others nothing at all, the group nothing but read.
FORBIDDEN = 0o037
VALID_MODE = "a file of mode 0600, or 0640 or 0440 where its group is to read it: chmod 600"

KEY = re.compile(r"tellmt_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `id` is the key's id, which is no secret, or "" for a caller without a key."""

    id: str
    name: str
    scopes: frozenset[str]
    # None: no limit.
    requests_per_minute: int | None = None
    characters_per_day: int | None = None
    # Whether the cache may store this caller's translations, and serve them to others.
    cache: bool = True


# Every caller of a service without keys, which only this machine can reach. It may not administer: a web page open in a browser here can send such
# requests too.
ANONYMOUS = Caller("", "anonymous", frozenset({"translate", "metrics"}))
# A caller without a key on a service with keys: on open paths, and until the service has read a body that may hold the key.
STRANGER = Caller("", "stranger", frozenset())


class Key(BaseModel):
    """One key in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: list[Scope] = Field(min_length=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    characters_per_day: int | None = Field(default=None, ge=1)
    cache: bool = True
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"

    def caller(self) -> Caller:
        return Caller(self.id, self.name, frozenset(self.scopes), self.requests_per_minute, self.characters_per_day, self.cache)


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    keys: list[Key] = []


def digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def read_keys(path: Path) -> list[Key] | None:
    """The keys of a file, None where there is no file. Raises TellmtError when it is malformed, or others may read it, or its group change it."""
    try:
        with path.open("rb") as f:
            info = os.fstat(f.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise TellmtError("the keys file is not a file", place=str(path), valid=VALID_MODE)
            if info.st_mode & FORBIDDEN:
                raise TellmtError("the keys file is open to others", place=str(path), found=f"mode {stat.S_IMODE(info.st_mode):04o}", valid=VALID_MODE)
            raw = f.read()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise TellmtError("the keys file cannot be read", place=str(path), found=e.strerror or str(e)) from None
    try:
        keys = _KeysFile.model_validate(json.loads(raw)).keys
    except ValidationError as e:
        first_error = e.errors(include_url=False, include_input=False, include_context=False)[0]
        raise TellmtError("the keys file is malformed", place=str(path), found=f"{'.'.join(map(str, first_error['loc']))}: {first_error['msg']}") from None
    except (ValueError, RecursionError):
        raise TellmtError("the keys file is malformed", place=str(path), found="not JSON") from None
    if len({k.id for k in keys}) < len(keys):
        raise TellmtError("the keys file is malformed", place=str(path), found="two keys of one id")
    return keys


@contextlib.contextmanager
def _changed_keys(path: Path) -> Iterator[list[Key]]:
    """The keys of a file, for the block to change in place; they are written when the block ends without an error. One writer at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (path.parent / f".{path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = read_keys(path) or []
            yield keys
            text = json.dumps(_KeysFile(keys=keys).model_dump(mode="json", exclude_none=True), indent=2) + "\n"
            earlier = path.stat() if path.exists() else None
            # A service that reads it as its group goes on reading it.
            shared = earlier if earlier and earlier.st_mode & stat.S_IRGRP else None
            write_atomic(path, text, mode=0o640 if shared else 0o600, group=shared.st_gid if shared else None)
    except OSError as e:
        valid = "a directory that may be written; keys in a Secret are changed in the Secret"
        raise TellmtError("the keys file cannot be changed", place=str(path), found=e.strerror or str(e), valid=valid) from None


def add_key(
    name: str,
    scopes: list[Scope],
    requests_per_minute: int | None = None,
    characters_per_day: int | None = None,
    expires: datetime | None = None,
    cache: bool = True,
    path: Path | None = None,
) -> tuple[Key, str]:
    """Add a key to the file. Returns its record and the key itself, which is stored nowhere. Raises TellmtError when an active key has the name."""
    now = datetime.now(UTC).replace(microsecond=0)
    with _changed_keys(path or keys_file()) as keys:
        if any(k.name == name and k.state(now) == "active" for k in keys):
            raise TellmtError("there is an active key of this name", found=name, valid="another name, or tellmt keys revoke first")
        while (id := secrets.token_hex(4)) in {k.id for k in keys}:
            pass
        text = f"tellmt_{id}_{secrets.token_urlsafe(32)}"
        key = Key(
            id=id, name=name, sha256=digest(text), scopes=sorted(set(scopes)), requests_per_minute=requests_per_minute,
            characters_per_day=characters_per_day, cache=cache, created=now, expires=expires,
        )  # fmt: skip
        keys.append(key)
    return key, text


def revoke_key(name: str, path: Path | None = None) -> Key:
    """Revoke the active key of this name or id. Raises TellmtError when there is none."""
    now = datetime.now(UTC).replace(microsecond=0)
    file = path or keys_file()
    with _changed_keys(file) as keys:
        for i, key in enumerate(keys):
            if name in (key.name, key.id) and key.state(now) == "active":
                keys[i] = key.model_copy(update={"revoked": now})
                return keys[i]
        active = ", ".join(k.name for k in keys if k.state(now) == "active") or "there is no active key"
        raise TellmtError("no active key has this name or id", place=str(file), found=name, valid=active)
