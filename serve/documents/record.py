"""A job as a record that replicas of other versions can read: what it is, how far it is, why it failed. Without its texts."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any, cast

from serve.auth.keys import Caller
from serve.documents.jobs import Job, State
from serve.documents.ledger import Record
from serve.translation.decoder import Quality
from tell import __version__, errors
from tell.errors import Overloaded, QuotaUsed, TellmtError

_ABOUT = ("pair", "source", "target", "name", "media_type", "ending", "size", "cache", "quality", "total", "parts", "notes")
_PROGRESS = ("adapters", "truncated", "given_quality", "fallback", "applied")


def about_of(job: Job) -> str:
    """`version` is that of the program: another one may divide a file into other segments."""
    payer = {"id": job.payer.id, "characters_per_day": job.payer.characters_per_day}
    return json.dumps({"owner": job.owner, "payer": payer, "version": __version__, **{name: getattr(job, name) for name in _ABOUT}})


def progress_of(job: Job, chunks: list[str]) -> str:
    """`chunks`: the files with the translations so far."""
    return json.dumps({"chunks": chunks, **{name: getattr(job, name) for name in _PROGRESS}})


def chunks_of(record: Record) -> list[str]:
    return [str(name) for name in json.loads(record.fields["progress"])["chunks"]]


def version_of(record: Record) -> str:
    return str(json.loads(record.fields["about"])["version"])


def payer_of(about: str) -> Caller:
    payer: dict[str, Any] = json.loads(about)["payer"]
    return Caller(str(payer["id"]), "", frozenset(), characters_per_day=payer["characters_per_day"])


def failure_text(failure: TellmtError) -> str:
    """The details of an error of the service may name paths of a machine or quote a text: they are left out."""
    details = {} if failure.status >= 500 else {"place": failure.place, "found": None if failure.found is None else str(failure.found), "valid": failure.valid}
    return json.dumps({"kind": type(failure).__name__, "thing": failure.thing, **details})


def failure_from(text: str) -> TellmtError:
    told = json.loads(text)
    kind = getattr(errors, told.pop("kind"), TellmtError)
    plain = isinstance(kind, type) and issubclass(kind, TellmtError) and not issubclass(kind, QuotaUsed)
    failure: TellmtError = (kind if plain else Overloaded)(told.pop("thing"), **told)
    return failure


def job_of(id: str, record: Record) -> Job:
    """The job as it was when it was looked for. Its times are Redis's, but for when it began: that is compared with this machine's clock."""
    about = json.loads(record.fields["about"])
    job = Job(
        about["owner"], about["pair"], about["source"], about["target"], about["name"], about["media_type"], about["ending"], about["size"], about["cache"],
        cast(Quality, about["quality"]), total=about["total"], parts=about["parts"], notes=tuple(about["notes"]), payer=payer_of(record.fields["about"]),
        id=id, secret="",
    )  # fmt: skip
    update(job, record)
    return job


def update(job: Job, record: Record) -> None:
    """Set what changes about a job."""
    for name, value in json.loads(record.fields["progress"]).items():
        if name in _PROGRESS:
            setattr(job, name, value)
    job.state = cast(State, record.fields["state"])
    job.done, job.epoch, job.created = record.number("done"), record.number("epoch"), record.number("created") / 1000
    job.fetched = record.fields.get("fetched") == "1"
    job.began = time.time() - (record.now - began) / 1000 if (began := record.number("began")) else None
    job.ended = ended / 1000 if (ended := record.number("ended")) else None
    job.failure = failure_from(record.fields["failure"]) if record.fields.get("failure") else None


@dataclasses.dataclass(eq=False, slots=True)
class Held:
    """A job that this replica translates, as the holder of this epoch, in so many seconds."""

    job: Job
    epoch: int
    seconds: float
    version: str = __version__
    # The files with translations so far, the numbers of the parts in them, and how many were begun.
    chunks: list[str] = dataclasses.field(default_factory=list)
    stored: set[int] = dataclasses.field(default_factory=set)
    begun: int = 0
    # Another replica has it, or it was deleted.
    lost: bool = False
    result_bytes: int = 0

    def state(self) -> tuple[int, int, str]:
        """Bytes that are kept for it, characters done, and its progress."""
        size = self.result_bytes + self.job.translation_bytes if self.result_bytes else self.job.kept_bytes()
        return size, min(self.job.done, self.job.total), progress_of(self.job, self.chunks)
