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

# Names under which machines and their engines enter themselves, in small letters: those of a word may stand beside the words of `_BESIDE` in any order.
_MACHINES = {
    "tellmt": "tellmt", "mt": "MT", "mt!": "MT", "nmt": "MT", "smt": "MT", "amt": "MT", "machine": "MT", "machinetranslation": "MT",
    "machinetranslated": "MT", "adaptivemachinetranslation": "MT", "neuralmachinetranslation": "MT", "deepl": "DeepL", "google": "Google",
    "googletranslate": "Google", "gtranslate": "Google", "microsoft": "Microsoft", "bing": "Microsoft", "azure": "Microsoft", "modernmt": "ModernMT",
    "amazon": "Amazon", "aws": "Amazon", "apertium": "Apertium", "libretranslate": "LibreTranslate", "argos": "Argos", "argostranslate": "Argos",
    "systran": "SYSTRAN", "opusmt": "OPUS-MT", "nllb": "NLLB", "m2m100": "M2M100", "m2m": "M2M100", "madlad": "MADLAD", "yandex": "Yandex",
    "baidu": "Baidu", "moses": "Moses", "chatgpt": "ChatGPT", "openai": "OpenAI", "llm": "LLM", "gpt": "GPT", "ai": "AI", "etranslation": "eTranslation",
    "papago": "Papago", "naver": "Papago", "lingvanex": "Lingvanex", "promt": "PROMT", "vélþýðing": "MT", "vélþýtt": "MT", "vélþýdd": "MT", "vélþýddur": "MT",
    "maskintýðing": "MT", "maskintýtt": "MT", "maskinoversettelse": "MT", "maskinoversatt": "MT", "maskinomsetjing": "MT", "maskinoversættelse": "MT",
    "maskinoversat": "MT", "maskinöversättning": "MT", "maskinöversatt": "MT", "maschinenübersetzung": "MT", "machinevertaling": "MT", "konekäännös": "MT",
    "masintõlge": "MT", "mašīntulkojums": "MT", "meaisínaistriúchán": "MT",
}  # fmt: skip
_PHRASES = {
    "automatic translation", "automatically translated", "auto translated", "auto translation", "maschinelle übersetzung", "maschinell übersetzt",
    "traduction automatique", "traducción automática", "tradución automática", "tradução automática", "traduzione automatica", "traducció automàtica",
    "itzulpen automatikoa", "strojový překlad", "strojový preklad", "tłumaczenie maszynowe", "cyfieithu peirianyddol", "cyfieithiad peirianyddol",
}  # fmt: skip
_TOOLS = {**_MACHINES, **dict.fromkeys(_PHRASES, "MT"), "mymemory mt": "MyMemory", "language weaver": "Language Weaver"}
# Words that stand beside such a name and leave it the name of a machine: "MT (DeepL)", "Google Cloud Translation API v3".
_BESIDE = {
    "mt", "nmt", "amt", "smt", "machine", "neural", "adaptive", "automatic", "automatically", "auto", "translate", "translation", "translated", "translator",
    "engine", "api", "free", "pro", "advanced", "cloud", "text", "by", "with", "via", "raw", "unedited", "output", "ai", "online", "meta",
    "facebook", "distilled", "turbo", "mini", "nlp", "sdl",
}  # fmt: skip
# What only says that it is a machine: another name beside it says which.
_ANY = {"MT", "AI", "LLM"}
# Companies that texts are from, too: only with another word they are machines.
_COMPANIES = {"microsoft", "azure", "amazon", "aws", "baidu", "naver"}
# Models that are called as people are: a number tells them from these.
_MODEL = re.compile(r"(claude|gemini|gemma|llama|mistral|qwen)\b.*\d")
_OPUS = re.compile(r"(?:helsinki nlp )?opus mt\b")
# States of a translation that nobody has confirmed yet, as XLIFF, catalogues and spreadsheets call them.
_QUALIFIERS = {"mt suggestion", "leveraged mt"}
_STATES = {
    "needs review translation", "needs translation", "new", "initial", "needs review", "needs editing", "needs rewriting", "needs checking", "needs work",
    "to review", "unreviewed", "not reviewed", "unconfirmed", "not confirmed", "unverified", "unapproved", "not approved", "draft", "fuzzy", *_QUALIFIERS,
}  # fmt: skip
# States that a person has put a translation in; and those of Trados' memories, into which a translation comes by a person's hand.
_CONFIRMED = {
    "final", "signed off", "approved", "reviewed", "confirmed", "proofread", "post edited", "postedited", "mtpe", "human", "human translated", "human reviewed",
    "human verified", "verified", "validated", "revised", "edited",
}  # fmt: skip
_OF_TRADOS = {"translated", "approvedtranslation", "approvedsignoff"}
# Columns, fields and properties that say who made a translation or what state it is in; those that are a yes or a no; and those that name who has confirmed it.
_SAYING = {
    "origin", "match origin", "translation origin", "trans origin", "provenance", "status", "state", "translation status", "translation state",
    "state qualifier", "match type", "usage", "engine", "mt engine", "mt system", "mt provider", "provider", "translation provider", "method",
    "translation method", "translation type", "human or mt", "human mt", "confirmation level", "confirmationlevel", "translator", "translated by", "created by",
    "creationid", "changeid", "modified by", "tool", "uppruni", "staða", "þýðandi", "þýtt af", "herkunft", "übersetzer", "übersetzt von", "opprinnelse",
    "oversetter", "oversatt av", "oversætter", "oversat af", "oprindelse", "ursprung", "översättare",
}  # fmt: skip
_FLAGS = {
    "mt", "machine", "machine translation", "machine translated", "machine generated", "machine output", "mt used", "auto", "auto translated",
    "automatic translation", "automatically translated", "fuzzy", "needs review", "needs editing", "unreviewed", "unverified", "vélþýðing", "vélþýtt",
}  # fmt: skip
_CONFIRMING = {"reviewed by", "approved by", "verified by", "confirmed by", "proofread by", "post edited by", "reviewer", "proofreader", "post editor"}
_YES = {"1", "1 0", "true", "yes", "y", "x", "ja", "já", "sí", "si", "oui", "kyllä", "ano", "tak", "jah", "✓", "✔", "☑"}
# In a table these are of the row, and in the id of who made a unit these are a person's initials or name.
_OF_UNITS, _PERSONS = {"new", "initial"}, {"ai", "moses"}
_OF_PERSONS = {"translator", "translated by", "created by", "creationid", "changeid", "modified by", "þýðandi", "þýtt af", "oversetter", "übersetzer"}
# Longer cells are texts, such as a machine's translation beside a person's.
_MOST = 40
_WORDS = re.compile(r"[\s_\-:/.()\[\]]+")
_PARTS = re.compile(r"[;,|]")
_VERSION = re.compile(r"v?\d\S{0,20}")
_ABOUT = re.compile(r"^(?:x|is|was) |(?: singlestring| flag|\?)$")


def _plain(text: str) -> str:
    """In small letters, its words parted by one space each; empty for what is too long for a name or a state."""
    return "" if len(text) > _MOST else _WORDS.sub(" ", text).strip().casefold()


def tool_of(text: str) -> str:
    """The machine whose name a text is, with or without a version; empty for everything else."""
    plain = _plain(text)
    if plain in _TOOLS or not plain:
        return "" if plain in _COMPANIES else _TOOLS.get(plain, "")
    if _OPUS.match(plain):
        return "OPUS-MT"
    if model := _MODEL.match(plain):
        return model[1].capitalize()
    words = [word for word in plain.split() if not _VERSION.fullmatch(word)]
    words = [word if word in _MACHINES else word.rstrip("0123456789.") for word in words]
    if not words or any(word not in _MACHINES and word not in _BESIDE for word in words):
        return _TOOLS.get(" ".join(words), "")
    tools = [_MACHINES[word] for word in words if word in _MACHINES]
    return next((tool for tool in tools if tool not in _ANY), tools[0] if tools else "")


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
    tool = "" if _plain(last) in _PERSONS else tool_of(last)
    return reason(tool, "") if tool else None


def named(name: str) -> bool:
    """Whether a column, a field or a property of this name says who made a translation."""
    return _key(name) in _SAYING | _FLAGS | _CONFIRMED | _CONFIRMING


def _key(name: str) -> str:
    return _ABOUT.sub("", _plain(name)).strip()


def _confirms(key: str, value: str, plain: str) -> bool:
    """Whether a column's value says that a person has confirmed or made the translation."""
    if key in _CONFIRMING:
        return bool(plain) and not tool_of(value)
    if key in _CONFIRMED:
        return plain in _YES
    return plain in _CONFIRMED or (key in ("confirmation level", "confirmationlevel") and plain in _OF_TRADOS)


def of_values(values: Iterable[tuple[str, str]]) -> str | None:
    """The reason by the values of such columns, fields or properties, by their names. One that says that a person has confirmed it outweighs the others."""
    found = None
    for key, said in ((_key(name), said) for name, value in values for said in _PARTS.split(value)):
        plain = _plain(said)
        if _confirms(key, said, plain):
            return None
        if key in _CONFIRMED | _CONFIRMING or (key in _OF_PERSONS and plain == "moses"):
            continue
        if key in _FLAGS and plain in _YES:
            found = found or reason("", key)
        elif tool := tool_of(said):
            found = found or reason(tool, "")
        elif plain in _STATES - _OF_UNITS and key not in _FLAGS:
            found = found or reason("", plain.replace(" ", "-"))
    return found


def confirmed(values: Iterable[tuple[str, str]]) -> bool:
    """Whether such values say that a person has confirmed the translation."""
    return any(_confirms(_key(name), said, _plain(said)) for name, value in values for said in _PARTS.split(value))


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
