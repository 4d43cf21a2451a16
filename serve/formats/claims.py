"""What a catalogue says of its own language, by a code in it or by the name of its folder, held against the pair it is translated in.

The one place where formats of keys and texts ask: ARB's `@@locale`, the root of YAML and JSON, Qt's `language`, Android's `values-xx`.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath
from typing import Literal

from serve.formats.named_languages import check_languages, is_of
from serve.formats.units import Options, UnitVisitor
from tell.errors import LanguageError
from tell.languages import language, same_language

# A code whose shape alone says that it is one. Others, such as `app`, are words that happen to be codes of languages too.
_CODE = re.compile(r"[a-z]{2}(?:[-_][A-Za-z]{2}|[-_][A-Z][a-z]{3}|[-_]\d{3})?")
_ANDROID = re.compile(r"values-(?:b\+([A-Za-z0-9+]{2,40})|([a-z]{2,3})(?:-r([A-Z]{2}))?)")

# A file's name that is a language, or ends in one that cannot be another word.
_NAMED = re.compile(r"(?:[^\n]*[._-])?([a-z]{2}[-_](?:[A-Z]{2}|[A-Z][a-z]{3}))|(?:[^\n]*\.)?([a-z]{2})")


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """`side`: whether the code is said of the texts that are read, or of the translations. `where` it stands, in words."""

    side: Literal["source", "target"]
    code: str
    where: str


def claimed(code: str, options: Options) -> bool:
    """Whether a word that may be anything, such as a key, is the code of a language: by its shape, or because it is one of the pair's."""
    if options.pair and any(same_language(code, tag) for tag in (options.pair.source.tag, options.pair.target.tag)):
        return True
    if not _CODE.fullmatch(code):
        return False
    try:
        return bool(language(code))
    except LanguageError:
        return False


def new_code(claim: Claim, visitor: UnitVisitor, options: Options) -> str | None:
    """What is to stand in the claim's place when the file is translated; None where it stays. Written as the old code is: `pt_BR` where that has a low line.

    Raises CorpusError where the claim is of another language than the pair's; with `options.force` the file is labelled as the target's.
    """
    if options.pair is None:
        return None
    target = options.pair.target.tag
    code = target.replace("-", "_") if "_" in claim.code else target
    of_source, of_target = is_of(claim.code, options.pair.source), is_of(claim.code, options.pair.target)
    # A copy that was labelled for its translator.
    if of_target and not (claim.side == "source" and of_source):
        return None
    if claim.side == "source" and of_source:
        return code
    labels = {claim.side: claim.code}
    check_languages(options, visitor, source=labels.get("source", ""), target=labels.get("target", ""), place=claim.where)
    return code if options.force else None


def check_name(visitor: UnitVisitor, options: Options) -> None:
    """Raises CorpusError where a file is called as another language is: `de.json`, `messages.de.yml`, `texts_pt_BR.properties`."""
    stem = PurePosixPath(options.name.replace("\\", "/").removesuffix(".gz")).stem
    if found := _NAMED.fullmatch(stem):
        code = found.group(1) or found.group(2)
        if claimed(code, options):
            new_code(Claim("source", code, "the file's name"), visitor, options)


def claim_of_path(name: str) -> Claim | None:
    """What the folder of a file of Android or Apple says of its language: `values-pt-rBR`, `values-b+sr+Latn`, `pt-BR.lproj`. None for all other folders."""
    folder = PurePosixPath(name.replace("\\", "/")).parent.name
    if folder.endswith(".lproj") and folder != "Base.lproj":
        return Claim("source", folder.removesuffix(".lproj"), folder)
    found = _ANDROID.fullmatch(folder)
    if found is None:
        return None
    code = found.group(1).replace("+", "-") if found.group(1) else "-".join(filter(None, found.groups()[1:]))
    return Claim("source", code, folder)
