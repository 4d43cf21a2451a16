"""The glossary that a request names: its own terms, or those that its caller keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastapi import Request

from serve.api.handler import AppState
from serve.api.schema import GLOSSARY
from serve.auth.gate import caller_of
from serve.threads import REGISTRY, TEXTS
from tell.errors import RequestError
from tell.lexicon.glossary import Glossary


def terms_of(field: str) -> str | dict[str, str]:
    """The terms in a field of a form, which are a JSON object, or else the field, the name of a glossary. Raises RequestError."""
    if not field.lstrip().startswith("{"):
        return field
    try:
        terms = json.loads(field)
    except (ValueError, RecursionError):
        raise RequestError("not usable", place="glossary", valid=GLOSSARY) from None
    if not all(isinstance(target, str) for target in terms.values()):
        raise RequestError("not usable", place="glossary", valid=GLOSSARY)
    return {source: str(target) for source, target in terms.items()}


async def glossary_of(request: Request, state: AppState, named: str | Mapping[str, str], source: str, target: str, place: str = "glossary") -> Glossary:
    """`named`: terms, or the id or the name of a glossary that is kept. In threads, since a store may be slow, and a glossary large.

    Raises BadInput, TooLarge, NotFound, LanguageError, RegistryError.
    """
    if not isinstance(named, str):
        return await TEXTS.run(Glossary.inline, named)
    if source == "auto":
        raise RequestError("a glossary that is kept has a source language", place="source", found="auto", valid="the code of a language, or terms as glossary")
    return await REGISTRY.run(state.glossaries.glossary, caller_of(request).id, named, source, target, place)
