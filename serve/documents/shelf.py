"""The texts of documents that replicas share, in the store of the registry: the file and its parts, translations so far, the result.

Reads and writes <registry>/documents/<id>.source, <id>.<epoch>-<number>.parts and <id>.<epoch>.result, each written whole and never changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from typing import ParamSpec, TypeVar

from serve.documents.parts import Document, File, Text
from serve.threads import Threads
from serve.translation.request import Translation
from tell.errors import NotFound, Overloaded, TellmtError
from tell.languages import parse_pair
from tell.lexicon.glossary import Glossary
from tell.registry.store import Store

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

FOLDER = "documents"
# Seconds for one file, and tries of work that nobody can repeat.
PATIENCE, TRIES = 15.0, 4
# A store that hangs holds its threads for a while: no other work has these.
_THREADS = Threads("documents", 8)


class Shelf:
    """Every method raises Overloaded when the store does not take or give what is asked, and NotFound for what is not there."""

    def __init__(self, store: Store):
        self.store = store
        self._down = False

    async def _call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await _THREADS.run(work, *args, **kwargs)
        except FileNotFoundError:
            raise NotFound("no such document, or it is gone") from None
        except (TellmtError, OSError) as e:
            if not self._down:
                problem = f"nothing within {PATIENCE:g} s" if isinstance(e, TimeoutError) else e if isinstance(e, TellmtError) else e.strerror
                logger.error(f"the store of documents, {self.store.place}: {problem} (--documents process needs none)")
            self._down = True
            raise Overloaded("the store of documents does not answer, or takes nothing", retry_after=5) from None
        if self._down:
            logger.info("the store of documents works again")
        self._down = False
        return answer

    async def _patiently(self, tries: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`_call`, again after half a second, one, two and so on while the store is overloaded."""
        for tried in range(tries - 1):
            with contextlib.suppress(Overloaded):
                return await self._call(work, *args, **kwargs)
            await asyncio.sleep(2**tried / 2)
        return await self._call(work, *args, **kwargs)

    async def write(self, name: str, data: bytes, tries: int = 1) -> None:
        await self._patiently(tries, self.store.write_file, FOLDER, name, data=data)

    async def read(self, name: str, tries: int = 1) -> bytes:
        return await self._patiently(tries, self.store.read_file, FOLDER, name)

    async def remove(self, ids: Collection[str]) -> None:
        """Remove all files of these documents."""
        for name in await self._call(self.store.file_names, FOLDER):
            if name.partition(".")[0] in ids:
                await self.remove_one(name)

    async def remove_one(self, name: str) -> None:
        # Another replica may be faster.
        with contextlib.suppress(NotFound):
            await self._call(self.store.remove_file, FOLDER, name)


def source_name(id: str) -> str:
    return f"{id}.source"


def parts_name(id: str, epoch: int, number: int) -> str:
    return f"{id}.{epoch}-{number}.parts"


def result_name(id: str, epoch: int) -> str:
    return f"{id}.{epoch}.result"


def pack_source(document: Document, name: str, raw: bytes, pair: str, glossary: Glossary | None) -> bytes:
    """A line of JSON, and the file."""
    head = {
        "parts": list(document.parts), "ending": document.ending, "notes": list(document.notes), "bom": isinstance(document, Text) and document.bom,
        "name": name, "pair": pair, "glossary": None if glossary is None else dict(glossary.terms),
    }  # fmt: skip
    return json.dumps(head).encode() + b"\n" + raw


def unpack_source(data: bytes) -> tuple[Document, str, bytes, Glossary | None]:
    """The document, its name, its file, and its terms. Raises NotFound for what another program wrote."""
    line, _, raw = data.partition(b"\n")
    try:
        head = json.loads(line)
        parts, notes, ending = tuple(map(str, head["parts"])), tuple(map(str, head["notes"])), str(head["ending"])
        plain = Text(parts, bool(head["bom"])) if ending == ".txt" else None
        document: Document = plain or File(raw, parse_pair(head["pair"]), parts, ending, notes)
        return document, str(head["name"]), raw, None if head["glossary"] is None else Glossary(dict(head["glossary"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise NotFound("the document cannot be read any more") from None


def pack_parts(translations: Mapping[int, Translation]) -> bytes:
    return json.dumps([[number, t.text, t.truncated, list(t.flags)] for number, t in translations.items()]).encode()


def unpack_parts(data: bytes) -> dict[int, Translation]:
    """Raises NotFound for what another program wrote."""
    try:
        return {int(number): Translation(str(text), bool(truncated), tuple(flags)) for number, text, truncated, flags in json.loads(data)}
    except (ValueError, TypeError, RecursionError):
        raise NotFound("the document cannot be read any more") from None
