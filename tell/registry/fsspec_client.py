"""An object store, through fsspec: what a registry in one needs, with errors of ours, no secret in them, and an end to every wait.

Reads and writes objects below one URL. Paths are given in parts and are below it.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from tell.errors import MissingExtra, RegistryError, TellmtError
from tell.extras import need

T = TypeVar("T")

# Kinds of store whose fsspec driver creates an object under the condition that it does not exist; the others look first and write then.
EXCLUSIVE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
# Seconds that listing, reading or writing a small object may take. Copying weights is left to the driver's own limits.
PATIENCE = 20.0
# The store in this process's memory, which is for tests, looks first and writes then as well.
_MEMORY = threading.Lock()
_QUERY = re.compile(r"[?#]")


def without_secrets(url: str) -> str:
    """The URL without what may be secret in it: user, password, query."""
    kind, _, rest = _QUERY.split(url, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{kind}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/") if rest.strip("/") else f"{kind}://"


class ObjectStore:
    """Every method raises RegistryError when the store cannot be reached, MissingExtra when its driver is not installed, and
    FileNotFoundError for an object that is not there."""

    def __init__(self, url: str):
        self.url, self.place = url, without_secrets(url)
        self.kind = url.partition("://")[0]
        before_host = url.partition("://")[2].rpartition("@")[0].split("@")
        if any(c in part.partition(":")[2] for part in before_host for c in "/?#"):
            # A password cut at one of these would be taken for a folder, and shown.
            raise RegistryError("this URL cannot be used", place=f"{self.kind}://", valid="a password with / ? # @ percent-encoded: %2F %3F %23 %40")
        self._login = login = urlsplit(url).netloc.rpartition("@")[0]
        # A user without a password is a token.
        hidden = login.partition(":")[2] or login
        self._secrets = [s for s in (login, hidden, unquote(hidden)) if s]
        self._opened: tuple[Any, str] | None = None
        self._proved = False

    def _open(self) -> tuple[Any, str]:
        if self._opened is None:
            if self.kind not in EXCLUSIVE:
                found = f"{self.kind}://, whose fsspec driver could not keep two writers from undoing each other's changes"
                raise RegistryError("not a kind of store for a registry", place=self.place, found=found, valid="a directory, s3://, gs:// or az://")
            need("fsspec", "object-store")
            from fsspec.core import url_to_fs

            try:
                if self._login and self.kind in ("s3", "s3a"):
                    # s3fs takes no user and password from a URL.
                    key, _, secret = self._login.partition(":")
                    fs, root = url_to_fs(self.place, key=unquote(key), secret=unquote(secret))
                else:
                    fs, root = url_to_fs(self.url)
            except ImportError as e:
                raise MissingExtra("the driver of this object store is not installed", place=self.place, found=str(e), valid="s3fs, gcsfs or adlfs") from None
            except Exception as e:
                raise self._error(e, "this URL cannot be used") from None
            if not root.strip("/"):
                raise RegistryError("no bucket", place=self.place, valid="s3://BUCKET/FOLDER")
            self._opened = fs, root.rstrip("/")
        return self._opened

    def _at(self, parts: Sequence[str]) -> str:
        return "/".join((self._open()[1], *parts))

    def _error(self, e: BaseException, thing: str = "the object store cannot be reached") -> RegistryError:
        text = f"{type(e).__name__}: {e}"
        for secret in self._secrets:
            text = text.replace(secret, "...")
        return RegistryError(thing, place=self.place, found=text.split("\n")[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What drivers raise is of many kinds; that something is missing or exists already is what callers want to know."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, TellmtError):
            raise
        except Exception as e:
            raise self._error(e) from None

    def _soon(self, work: Callable[[Any], T], seconds: float | None = None) -> T:
        """What `work` makes of the driver, in time: a store that swallows every packet would else hold its caller for many minutes."""
        fs = self._open()[0]
        results: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work(fs))
            except BaseException as e:
                failed.append(e)

        # A daemon: one that hangs must not keep the process from ending.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        seconds = PATIENCE if seconds is None else seconds
        thread.join(seconds)
        with self._errors():
            if failed:
                raise failed[0]
            if not results:
                raise RegistryError("the object store does not answer", place=self.place, found=f"nothing within {seconds:.0f} s")
        return results[0]

    def listing(self, *folder: str) -> dict[str, int]:
        """Everything below a folder: its path inside the folder, and its bytes."""
        start = self._at(folder)

        def work(fs: Any) -> Any:
            # Drivers keep listings, which would hide what others wrote.
            fs.invalidate_cache()
            return fs.find(start, detail=True)

        try:
            infos = self._soon(work)
        except FileNotFoundError:
            return {}
        return {path.lstrip("/").removeprefix(start.lstrip("/") + "/"): int(info.get("size") or 0) for path, info in infos.items()}

    def read(self, *path: str) -> bytes:
        raw: bytes = self._soon(lambda fs: fs.cat_file(self._at(path)))
        return raw

    def read_all(self, folder: str, paths: Sequence[str]) -> dict[str, bytes | None]:
        """Objects of a folder, side by side where the driver can; None for those that are not there any more."""
        full = {self._at((folder, path)): path for path in paths}
        if not full:
            return {}
        contents = self._soon(lambda fs: fs.cat(list(full), on_error="return"), PATIENCE + len(full))
        by_path = {full_path.lstrip("/"): raw for full_path, raw in contents.items()}
        read = {}
        for full_path, path in full.items():
            raw = by_path.get(full_path.lstrip("/"))
            if isinstance(raw, BaseException) and not isinstance(raw, FileNotFoundError):
                raise self._error(raw)
            read[path] = raw if isinstance(raw, bytes) else None
        return read

    def create(self, *path: str, data: bytes) -> bool:
        """Create an object that must not exist; whether it was created. Its bytes must be unlike any other writer's."""
        full_path = self._at(path)

        def work(fs: Any) -> bool:
            with _MEMORY if self.kind == "memory" else nullcontext():
                fs.pipe_file(full_path, data, mode="create")
            return True

        failure = RegistryError("the object store contradicts itself", place=self.place, found="an object that exists cannot be read")
        try:
            return self._soon(work)
        except FileExistsError:
            pass
        except (RegistryError, FileNotFoundError) as e:
            failure = e if isinstance(e, RegistryError) else self._error(e)
        # It may be this very call's: an answer was lost on its way, and the driver asked again. Or the refusal came under another name.
        try:
            return self.read(*path) == data
        except (RegistryError, FileNotFoundError):
            raise failure from None

    def write(self, *path: str, data: bytes) -> None:
        self._soon(lambda fs: fs.pipe_file(self._at(path), data))

    def remove(self, *path: str) -> None:
        self._soon(lambda fs: fs.rm_file(self._at(path)))

    def size(self, *path: str) -> int:
        return int(self._soon(lambda fs: fs.info(self._at(path)))["size"])

    def modified(self, *path: str) -> float | None:
        """Seconds since 1970; None when the store does not tell."""
        try:
            return float(self._soon(lambda fs: fs.modified(self._at(path)).timestamp()))
        except RegistryError:
            return None

    def fetch(self, *path: str, to: Path) -> None:
        with self._errors():
            self._open()[0].get_file(self._at(path), str(to))

    def send(self, source: Path, *path: str) -> None:
        with self._errors():
            self._open()[0].put_file(str(source), self._at(path))

    def check(self) -> None:
        """Raises RegistryError when the store does not keep to the condition that an object to be created must not exist."""
        if not self._proved:
            # Some servers that speak S3 take the condition and ignore it.
            self.create("probe", data=secrets.token_bytes(16))
            if self.create("probe", data=secrets.token_bytes(16)):
                thing = "this object store lets an object be created twice, so two writers could undo each other's changes"
                raise RegistryError(thing, place=self.place, valid="a store with conditional writes, or a directory on a shared volume")
            self._proved = True
