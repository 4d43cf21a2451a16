"""General data that a hub holds: a dataset's rows, written once as a local JSONL file.

Reads a dataset id of the hub or a directory of data files, with the `datasets` library. Writes <cache>/datasets/<name>-<key>.jsonl, and gives
its path. What the hub changes later does not change that file: delete it to read the dataset again.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tell.console import progress, say
from tell.errors import CorpusError
from tell.extras import need
from tell.files import fsync_dir, key_of
from tell.mix.config import SourceConfig
from tell.model.base import slug
from tell.paths import cache_dir


def dataset_file(source: SourceConfig, folder: Path) -> Path:
    """The rows of the dataset as {prompt, completion}. Raises MissingExtra, or CorpusError when the dataset or a column cannot be had."""
    name = str(source.dataset)
    local = folder / name
    decides: dict[str, Any] = source.model_dump(include={"split", "rows", "prompt", "completion"})
    if local.is_dir():
        name = str(local.resolve())
        # The directory's files may change under the same name.
        decides["files"] = [[str(p.relative_to(local)), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(local.rglob("*")) if p.is_file()]
    path = cache_dir() / "datasets" / f"{slug(name)}-{key_of({'dataset': name, **decides})[:16]}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(source, name, path)
    return path


def _open(source: SourceConfig, name: str) -> Any:
    library = need("datasets", "hub")
    try:
        return library.load_dataset(name, split=source.split, streaming=True)
    except Exception as e:  # the library raises its own, the hub client's, its HTTP library's, and bare ValueError
        raise _cannot(name, source, e) from None


def _cannot(name: str, source: SourceConfig, e: Exception) -> CorpusError:
    why = f"{type(e).__name__}: {str(e).strip().split(chr(10))[0]}"
    return CorpusError("the dataset cannot be read", place=f"{name}, split {source.split}", found=why, valid="a network, a dataset and a split that exist")


def _fetch(source: SourceConfig, name: str, path: Path) -> None:
    rows = iter(_open(source, name))
    say(f"{name}, split {source.split}: reading it into {path}; its licence is on its page")
    fd, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as f, progress() as drawn:
            bar = drawn.add_task("rows", total=source.rows)
            n = 0
            while source.rows is None or n < source.rows:
                try:
                    row = next(rows, None)
                except Exception as e:  # as above: the data come while they are read
                    raise _cannot(name, source, e) from None
                if row is None:
                    break
                missing = [c for c in (source.prompt, source.completion) if c not in row]
                if missing:
                    raise CorpusError("the dataset has no such column", place=name, found=missing[0], valid=", ".join(sorted(map(str, row))))
                n += 1
                kept = {"prompt": row[source.prompt], "completion": row[source.completion]}
                f.write(json.dumps(kept, ensure_ascii=True, default=str).encode() + b"\n")
                drawn.update(bar, completed=n)
            if not n:
                raise CorpusError("the dataset is empty", place=f"{name}, split {source.split}")
            f.flush()
            os.fsync(f.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)
