"""Which translations in a file are a machine's and were confirmed by nobody: one rule for every format. Reads and writes nothing.

Formats say it in their own words: a state and its qualifier (XLIFF), the id of who made a unit (TMX), a flag (PO), a column or a field (tables, JSONL). What
is said is looked up here. A translation that somebody has confirmed, or changed after the machine, is a person's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

REASON = "machine output"
OPTION = "--with-machine-output"
# What PO calls a translation that is a guess; its reason has been called so from the first version.
FUZZY = "fuzzy"

# Names under which machines and their engines enter themselves, in small letters.
_TOOLS = {
    "tellmt": "tellmt", "mt": "MT", "mt!": "MT", "nmt": "MT", "smt": "MT", "amt": "MT", "machine": "MT", "machine translation": "MT",
    "machine translated": "MT",
    "machinetranslation": "MT", "machinetranslated": "MT", "automatic translation": "MT", "automatically translated": "MT", "auto translated": "MT",
    "raw mt": "MT", "deepl": "DeepL", "google translate": "Google", "googletranslate": "Google", "google translation": "Google", "gtranslate": "Google",
    "google": "Google", "google nmt": "Google", "google cloud translation": "Google", "microsoft translator": "Microsoft", "bing translator": "Microsoft",
    "bing": "Microsoft", "azure translator": "Microsoft", "modernmt": "ModernMT", "amazon translate": "Amazon", "aws translate": "Amazon",
    "apertium": "Apertium", "libretranslate": "LibreTranslate", "argos": "Argos", "argos translate": "Argos", "argostranslate": "Argos",
    "systran": "SYSTRAN", "opus mt": "OPUS-MT", "opusmt": "OPUS-MT", "nllb": "NLLB", "m2m100": "M2M100", "madlad": "MADLAD", "mymemory mt": "MyMemory",
    "yandex": "Yandex", "yandex translate": "Yandex", "baidu translate": "Baidu", "moses": "Moses", "chatgpt": "ChatGPT", "openai": "OpenAI", "llm": "LLM",
    "gpt": "GPT", "ai": "AI", "ai translation": "AI", "ai translated": "AI",
}  # fmt: skip
# States of a translation that nobody has confirmed yet, as XLIFF, catalogues and spreadsheets call them.
_QUALIFIERS = {"mt suggestion", "leveraged mt"}
_STATES = {
    "needs review translation", "needs translation", "new", "initial", "needs review", "needs editing", "to review", "unreviewed", "unconfirmed", "draft",
    "fuzzy", *_QUALIFIERS,
}  # fmt: skip
# States that a person has put a translation in.
_CONFIRMED = {"final", "signed off", "approved", "reviewed", "confirmed", "proofread", "post edited", "postedited", "mtpe", "human", "human translated"}
# Columns, fields and properties that say who made a translation or what state it is in; and those that are a yes or a no.
_SAYING = {
    "origin", "match origin", "translation origin", "trans origin", "provenance", "status", "state", "translation status", "translation state",
    "state qualifier", "match type", "usage", "engine", "mt engine", "mt system", "translator", "translated by", "created by", "creationid", "changeid",
    "modified by", "tool",
}  # fmt: skip
_FLAGS = {
    "mt",
    "machine",
    "machine translation",
    "machine translated",
    "machine output",
    "is mt",
    "mt used",
    "is machine",
    "fuzzy",
    "needs review",
    "unreviewed",
}
_YES = {"1", "true", "yes", "y", "x", "ja", "já", "sí", "oui", "✓"}
# In a table these are of the row, and in the id of who made a unit these are a person's initials.
_OF_UNITS, _INITIALS = {"new", "initial"}, {"ai"}
# Longer cells are texts, such as a machine's translation beside a person's.
_MOST = 40
_WORDS = re.compile(r"[\s_\-:/.]+")
_VERSION = re.compile(r" (?:v?\d\S{0,20}|pro|api|free)$")


def _plain(text: str) -> str:
    """In small letters, its words parted by one space each; empty for what is too long for a name or a state."""
    return "" if len(text) > _MOST else _WORDS.sub(" ", text).strip().casefold()


def tool_of(text: str) -> str:
    """The machine whose name a text is, with or without a version; empty for everything else."""
    plain = _plain(text)
    while plain not in _TOOLS and (shorter := _VERSION.sub("", plain)) != plain:
        plain = shorter
    return _TOOLS.get(plain, "")


def reason(tool: str, state: str) -> str:
    """The reason for which a machine's translation is left out, by tool and state, either of which may be unknown."""
    return f"{REASON}: {', '.join(part for part in (tool, state) if part)}"


def of_states(state: str, qualifier: str = "", approved: bool = False, tool: str = "") -> str | None:
    """The reason by a state and its qualifier, as XLIFF has them; None for a translation that nothing says a machine has made."""
    plain, named = _plain(state), _plain(qualifier)
    if approved or plain in _CONFIRMED or named in _CONFIRMED:
        return None
    made = tool_of(tool) or tool_of(qualifier)
    if named in _QUALIFIERS or made:
        return reason(made, ", ".join(part.replace(" ", "-") for part in (plain, "" if tool_of(qualifier) else named) if part))
    return reason("", plain.replace(" ", "-")) if plain in _STATES else None


def of_ids(created: str, changed: str) -> str | None:
    """The reason by who made and who last changed a unit, as TMX has them. What a person has changed after a machine is the person's."""
    last = changed if changed.strip() else created
    tool = "" if _plain(last) in _INITIALS else tool_of(last)
    return reason(tool, "") if tool else None


def named(name: str) -> bool:
    """Whether a column, a field or a property of this name says who made a translation."""
    return _key(name) in _SAYING | _FLAGS


def _key(name: str) -> str:
    return _plain(name).removeprefix("x ")


def of_values(values: Iterable[tuple[str, str]]) -> str | None:
    """The reason by the values of such columns, fields or properties, by their names. One that says that a person has confirmed it outweighs the others."""
    found = None
    for name, value in values:
        plain, key = _plain(value), _key(name)
        if plain in _CONFIRMED:
            return None
        if key in _FLAGS and plain in _YES:
            found = found or reason("", key)
        elif tool := tool_of(value):
            found = found or reason(tool, "")
        elif plain in _STATES - _OF_UNITS and key not in _FLAGS:
            found = found or reason("", plain.replace(" ", "-"))
    return found


def is_machine_output(dropped: str) -> bool:
    return dropped == FUZZY or dropped.startswith(f"{REASON}:")


def sentence(dropped: Mapping[str, int], read: int) -> str:
    """What to tell the user of the machine output that was left out; empty where there is none. `read` pairs were read in all."""
    counts = {name.removeprefix(f"{REASON}: "): n for name, n in dropped.items() if is_machine_output(name)}
    total = sum(counts.values())
    if not total:
        return ""
    listed = "; ".join(f"{name}: {n:,}" for name, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
    hint = f"; that is more than half: {OPTION} takes it all the same" if 2 * total > read else ""
    return f"left out as machine output that nobody confirmed: {total:,} of {read:,} pairs ({listed}){hint}"
