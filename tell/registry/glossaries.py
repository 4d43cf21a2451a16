"""Glossaries that users keep, in the store of the registry, so that all replicas of a service have the same ones.

Reads and writes <registry>/glossaries/<owner>/<id>.json. A glossary belongs to the API key that created it, or to everybody. It is never changed: another
content is another glossary with another id.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tell.errors import BadInput, NotFound, RegistryError, TooLarge
from tell.files import canonical_json
from tell.languages import LanguagePair, base_language, language
from tell.lexicon.glossary import Glossary
from tell.registry.store import Store

FOLDER = "glossaries"
# The owner of what all callers may use, and callers without a key create.
EVERYBODY = ""
# Its folder. That of a key is its id, eight hexadecimal digits.
_EVERYBODYS = "everybody"
# Glossaries of one owner, characters of a name, and glossaries that are held in memory.
MOST_KEPT, LONGEST_NAME, HELD = 100, 200, 32
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_OWNER = re.compile(r"[0-9a-f]{8}")


class KeptGlossary(BaseModel):
    """A glossary with its name and its languages. `owner` is the id of an API key, or EVERYBODY."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    owner: str
    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    source: str
    target: str
    created: datetime
    terms: dict[str, str]

    def fits(self, source: str, target: str) -> bool:
        """Whether it is for these two languages, whatever their regions."""
        return _same_language(source, self.source) and _same_language(target, self.target)


def _same_language(a: str, b: str) -> bool:
    return base_language(a) == base_language(b)


class Glossaries:
    """The kept glossaries of a store. What was read is believed for as long as a service waits between two looks at its registry."""

    def __init__(self, store: Store):
        self.store = store
        # By owner and id, the last used at the end: when it was read, in monotonic time, and what.
        self._held: OrderedDict[tuple[str, str], tuple[float, KeptGlossary, Glossary]] = OrderedDict()
        # Requests are answered in several threads.
        self._lock = threading.Lock()

    def create(self, owner: str, name: str, pair: LanguagePair, glossary: Glossary) -> KeptGlossary:
        """Keep a glossary for an owner. Raises BadInput for its name, TooLarge when the owner has too many."""
        name = " ".join(name.split())
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise BadInput("not usable as the name of a glossary", place="name", valid=f"1 to {LONGEST_NAME} characters")
        if len(self.store.file_names(FOLDER, _folder(owner))) >= MOST_KEPT:
            raise TooLarge("too many glossaries are kept", valid=f"at most {MOST_KEPT}; delete one")
        kept = KeptGlossary(
            id=str(uuid.uuid4()), owner=owner, name=name, source=pair.source.tag, target=pair.target.tag,
            created=datetime.now(UTC), terms=dict(glossary.terms),
        )  # fmt: skip
        self.store.write_file(FOLDER, _folder(owner), f"{kept.id}.json", data=canonical_json(kept.model_dump(mode="json")) + b"\n")
        return kept

    def list(self, owner: str) -> list[KeptGlossary]:
        """The glossaries that an owner may use, the oldest first: its own, and everybody's."""
        found = []
        for folder_owner in dict.fromkeys((owner, EVERYBODY)):
            for file in self.store.file_names(FOLDER, _folder(folder_owner)):
                id = file.removesuffix(".json")
                if _ID.fullmatch(id) and (read := self._read(folder_owner, id)) is not None:
                    found.append(read[0])
        return sorted(found, key=lambda kept: (kept.created, kept.id))

    def find(self, owner: str, id: str) -> KeptGlossary:
        """The glossary of this id that an owner may use. Raises NotFound, also for another owner's."""
        return self._found(owner, id)[0]

    def glossary(self, owner: str, name: str, source: str, target: str, place: str = "glossary") -> Glossary:
        """The terms of the glossary with this id, or of the newest with this name for the two languages. `place` names it in errors.

        Raises NotFound, LanguageError, and BadInput for one of other languages.
        """
        source_tag, target_tag = language(source, "source").tag, language(target, "target").tag
        if _ID.fullmatch(name):
            kept, glossary = self._found(owner, name)
            if not kept.fits(source_tag, target_tag):
                raise BadInput("the glossary is of other languages", place=place, found=f"{kept.source}-{kept.target}", valid=f"{source_tag}-{target_tag}")
            return glossary
        named = [kept for kept in self.list(owner) if kept.name == name]
        fitting = [kept for kept in named if kept.fits(source_tag, target_tag)]
        if not fitting:
            valid = ", ".join(f"{kept.source}-{kept.target}" for kept in named) or "a name of tellmt glossary list, or terms"
            raise NotFound("no glossary has this name for these languages", place=place, valid=valid)
        return self._found(owner, fitting[-1].id)[1]

    def delete(self, owner: str, id: str) -> KeptGlossary:
        """Delete an owner's own glossary. Raises NotFound, also for another owner's and everybody's."""
        kept = self.find(owner, id)
        if kept.owner != owner:
            raise NotFound("no such glossary of this key", valid="one that this key created")
        try:
            self.store.remove_file(FOLDER, _folder(owner), f"{id}.json")
        except FileNotFoundError:
            raise _none() from None
        finally:
            with self._lock:
                self._held.pop((owner, id), None)
        return kept

    def _found(self, owner: str, id: str) -> tuple[KeptGlossary, Glossary]:
        # Looked up among names of its form alone, so that none from outside leads to another path.
        if _ID.fullmatch(id):
            for folder_owner in dict.fromkeys((owner, EVERYBODY)):
                if (read := self._read(folder_owner, id)) is not None:
                    return read
        raise _none()

    def _read(self, owner: str, id: str) -> tuple[KeptGlossary, Glossary] | None:
        now = time.monotonic()
        with self._lock:
            held = self._held.get((owner, id))
        if held is not None and now - held[0] < self.store.interval:
            return held[1:]
        try:
            kept = _parse(self.store.read_file(FOLDER, _folder(owner), f"{id}.json"), f"{self.store.place}/{FOLDER}/{_folder(owner)}/{id}.json")
        except FileNotFoundError:
            with self._lock:
                self._held.pop((owner, id), None)
            return None
        # The same object as before, whose terms are ready for look-up.
        glossary = held[2] if held is not None and held[1] == kept else Glossary(kept.terms)
        with self._lock:
            self._held[owner, id] = (now, kept, glossary)
            self._held.move_to_end((owner, id))
            while len(self._held) > HELD:
                self._held.popitem(last=False)
        return kept, glossary


def _none() -> NotFound:
    return NotFound("no such glossary, or it is gone")


def _folder(owner: str) -> str:
    if owner != EVERYBODY and not _OWNER.fullmatch(owner):
        raise BadInput("not the id of an API key", found=owner)
    return owner or _EVERYBODYS


def _parse(raw: bytes, place: str) -> KeptGlossary:
    try:
        return KeptGlossary.model_validate_json(raw)
    except ValidationError as e:
        found: Any = e.errors(include_url=False, include_input=False)[0]["msg"]
        raise RegistryError("a kept glossary cannot be read", place=place, found=str(found)) from None
