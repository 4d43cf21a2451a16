"""Adapter directories: `adapter_model.safetensors`, `adapter_config.json`, `lexicon.tsv` where it was trained with hints, `memory.tsv` where it was with
nearest pairs, `pieces.json` where it keeps a part of the base's vocabulary, and `card.json`, written last.

A directory without a card is half-written. The card names the SHA-256 of the other files; the adapter's id is the hash
of them all, so an id stands for exactly one content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from tell.adapter.golden import Golden
from tell.adapter.weights import MAX_WEIGHTS, check_weights, no_twins, open_regular
from tell.adapter.weights import read_header as read_header
from tell.errors import AdapterError, BadInput
from tell.files import canonical_json, key_of, sha256_bytes
from tell.languages import parse_pair
from tell.lexicon.hints import Hinter, HintOptions
from tell.lexicon.lexicon import MOST_BYTES as MOST_LEXICON
from tell.lexicon.lexicon import Lexicon
from tell.model.anchor import Anchor
from tell.model.engine import Decoding
from tell.model.pieces import MOST_BYTES as MOST_PIECES
from tell.model.pieces import Pieces
from tell.retrieval.memory import MOST_BYTES as MOST_MEMORY
from tell.retrieval.memory import Memory
from tell.retrieval.retriever import RetrievalOptions, Retriever

# What a file beside the card holds for prompts.
P = TypeVar("P", Lexicon, Memory)

WEIGHTS, CONFIG, CARD, LEXICON, MEMORY = "adapter_model.safetensors", "adapter_config.json", "card.json", "lexicon.tsv", "memory.tsv"
PIECES = "pieces.json"
MAX_TEXT = 4 << 20
# By the field of the card that says how an adapter uses it: a file that only adapters have which were trained with what it is for.
PROMPT_FILES = {"hints": LEXICON, "retrieval": MEMORY}
# All files that only some adapters have, so too.
OPTIONAL_FILES = {**PROMPT_FILES, "pieces": PIECES}
# Bytes that each file of an adapter may have.
LIMITS = {WEIGHTS: MAX_WEIGHTS, CONFIG: MAX_TEXT, LEXICON: MOST_LEXICON, MEMORY: MOST_MEMORY, PIECES: MOST_PIECES, CARD: MAX_TEXT}


class BaseRef(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    revision: str
    licence: str = ""
    notice: str = ""


class KeptPieces(BaseModel):
    """How much of the base's vocabulary an adapter keeps (tell.model.pieces): `kept` of `of` pieces. `left_out`: the share of the model's probability that
    the others have, where it translates what they were not chosen by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kept: int
    of: int
    left_out: float

    @classmethod
    def chosen(cls, pieces: Pieces, left_out: float) -> KeptPieces:
        return cls(kept=len(pieces.kept), of=pieces.size, left_out=round(left_out, 6))


class Card(BaseModel):
    """Everything needed to serve an adapter as it was trained, and to repeat the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    pair: str
    base: BaseRef
    anchor: Anchor
    decoding: Decoding = Decoding()
    rank: int
    recipe: dict[str, Any]
    seed: int
    # Counts and SHA-256 of the data trained on, as `mix` reported them.
    data: dict[str, Any]
    # Steps, tokens, final loss, and what the machine was.
    training: dict[str, Any]
    versions: dict[str, str]
    notes: list[str] = []
    # One entry per test set scored, each with its signatures; filled in by `publish`.
    scores: list[dict[str, Any]] = []
    # What `publish` decided, and on which evidence.
    verdict: dict[str, Any] | None = None
    # By which a service sees that the adapter acts as it did when it was published; filled in by `publish`.
    golden: Golden | None = None
    # The hints that it was trained with, from its lexicon; None where it was trained without.
    hints: HintOptions | None = None
    # The nearest pairs that it was trained with, from its memory; None where it was trained without.
    retrieval: RetrievalOptions | None = None
    # The part of the base's vocabulary that it is served with; None where it is the whole.
    pieces: KeptPieces | None = None
    files: dict[str, str] = Field(description="SHA-256 by file name")

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A card without golden sentences, hints, nearest pairs or pieces is written, and hashed, as cards were before there were any."""
        fields: dict[str, Any] = dump(self)
        for name in ("golden", *OPTIONAL_FILES):
            if getattr(self, name) is None:
                fields.pop(name, None)
        return fields

    @property
    def prompt_parts(self) -> dict[str, Any]:
        """What hints and nearest pairs add to the key of anything that depends on the adapter's prompts: nothing without them, so that older keys stay."""
        return {name: options.model_dump() for name in PROMPT_FILES if (options := getattr(self, name)) is not None}

    @property
    def contents(self) -> tuple[str, ...]:
        """The names of the adapter's files beside the card."""
        return (WEIGHTS, CONFIG, *(file for name, file in OPTIONAL_FILES.items() if getattr(self, name) is not None))

    def dump(self) -> bytes:
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Adapter:
    """A complete, verified adapter directory."""

    id: str
    path: Path
    card: Card

    @property
    def short(self) -> str:
        return self.id[:12]


def adapter_id(card: Card) -> str:
    """The hash of the content: the card, which names the hashes of the other files."""
    return key_of({"card": sha256_bytes(canonical_json(card.model_dump(mode="json")))})[:32]


def weights_of(card: Card) -> str:
    """The hash of the adapter's weights and their configuration, whatever else is on its card or in the files that only some adapters have."""
    return key_of({"files": {name: digest for name, digest in card.files.items() if name not in OPTIONAL_FILES.values()}})[:32]


def _text(path: Path) -> bytes:
    with open_regular(path, MAX_TEXT) as f:
        return f.read(MAX_TEXT)


def read_card(path: Path) -> Card:
    """The card of an adapter directory, unverified. Raises AdapterError when there is none or it does not parse."""
    if not os.path.isdir(path):
        raise AdapterError("no such adapter directory", place=str(path))
    return parse_card(_text(path / CARD), str(path / CARD))


def parse_card(raw: bytes, place: str) -> Card:
    """Parses a card. Raises AdapterError when the bytes are no card."""
    try:
        if len(raw) > MAX_TEXT:
            raise ValueError(f"{len(raw)} bytes")
        return Card.model_validate(json.loads(raw, object_pairs_hook=no_twins))
    except (ValueError, ValidationError, RecursionError) as e:
        raise AdapterError("the card cannot be read", place=place, found=_problem(e)) from None


def _problem(e: Exception) -> str:
    """pydantic's messages have the name of the field in their second line, and quote what was found, which is a stranger's text."""
    if isinstance(e, ValidationError):
        first = e.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return str(e).split("\n")[0]


def _unaltered(path: Path, card: Card) -> bytes:
    """The content of a file of text beside the card. Raises AdapterError where it has not the hash that the card names."""
    raw = _text(path)
    if (digest := hashlib.sha256(raw).hexdigest()) != card.files[path.name]:
        raise AdapterError("altered since its card was written", place=str(path), found=f"SHA-256 {digest[:16]}", valid=card.files[path.name][:16])
    return raw


def hinter_of(adapter: Adapter) -> Hinter | None:
    """What writes the adapter's hints into its prompts; None where it was trained without. Raises AdapterError when the lexicon cannot be read."""
    options = adapter.card.hints
    return None if options is None else Hinter(_parsed(adapter, LEXICON, Lexicon.parse), options)


def retriever_of(adapter: Adapter) -> Retriever | None:
    """What writes the adapter's nearest pairs into its prompts; None where it was trained without. Raises AdapterError when the memory cannot be read."""
    options = adapter.card.retrieval
    return None if options is None else Retriever(_parsed(adapter, MEMORY, Memory.parse), options)


def pieces_of(adapter: Adapter) -> Pieces | None:
    """The part of the base's vocabulary that the adapter keeps; None where it is the whole. Raises AdapterError when the file cannot be read."""
    if adapter.card.pieces is None:
        return None
    path = adapter.path / PIECES
    try:
        pieces = Pieces.parse(_unaltered(path, adapter.card), str(path))
    except BadInput as e:
        raise AdapterError(e.thing, place=e.place, found=e.found) from None
    if (len(pieces.kept), pieces.size) != (adapter.card.pieces.kept, adapter.card.pieces.of):
        found, valid = f"{len(pieces.kept)} of {pieces.size}", f"{adapter.card.pieces.kept} of {adapter.card.pieces.of}"
        raise AdapterError("other pieces than the card says", place=str(path), found=found, valid=valid)
    return pieces


def _parsed(adapter: Adapter, name: str, parse: Callable[[bytes, str], P]) -> P:
    """What a file of the adapter holds for its prompts. Raises AdapterError where it was altered, cannot be read, or is of another pair."""
    card, path, noun = adapter.card, adapter.path / name, name.partition(".")[0]
    try:
        parsed = parse(_unaltered(path, card), str(path))
    except BadInput as e:
        raise AdapterError(f"the {noun} cannot be read", place=e.place, found=e.found or e.thing) from None
    if parsed.pair != parse_pair(card.pair):
        raise AdapterError(f"the {noun} is of another pair than the adapter", place=str(path), found=str(parsed.pair), valid=card.pair)
    return parsed


def _check_config(path: Path, raw: bytes) -> None:
    """Raises AdapterError for what is no JSON object; whether an engine can serve what it asks for is the engine's to say."""
    try:
        config = json.loads(raw, object_pairs_hook=no_twins)
        if not isinstance(config, dict):
            raise ValueError(f"a {type(config).__name__}, not an object")
    except (ValueError, RecursionError) as e:
        raise AdapterError("the adapter's configuration cannot be read", place=str(path), found=str(e)) from None


def open_adapter(path: Path) -> Adapter:
    """A verified adapter: every file present, regular, of the hash its card names, the weights a whole safetensors file of the card's rank
    whose values are all numbers.

    Raises AdapterError with the file and the reason.
    """
    card = read_card(path)
    if set(card.files) != set(card.contents):
        raise AdapterError("the card names other files", place=str(path / CARD), found=", ".join(card.files), valid=", ".join(card.contents))
    config = _unaltered(path / CONFIG, card)
    header = check_weights(path / WEIGHTS, card.files[WEIGHTS])
    for name in card.contents:
        if name in OPTIONAL_FILES.values():
            _unaltered(path / name, card)
    pairs = [n for n in header if n.endswith(".lora_A.weight")]
    if not pairs:
        raise AdapterError("no LoRA weights", place=str(path / WEIGHTS))
    for name in pairs:
        other = name.replace(".lora_A.", ".lora_B.")
        a, b = header[name]["shape"], header.get(other, {}).get("shape")
        if len(a) != 2 or b is None or len(b) != 2 or a[0] != card.rank or b[1] != card.rank:
            raise AdapterError("LoRA shapes do not fit the card", place=f"{path / WEIGHTS}, {name}", found=f"{a} and {b}", valid=f"rank {card.rank}")
    _check_config(path / CONFIG, config)
    return Adapter(adapter_id(card), path, card)


def check_base(adapter: Adapter, base_id: str, revision: str) -> None:
    """Raises AdapterError when the adapter was trained on another base than the one that runs."""
    ref = adapter.card.base
    if (ref.id, ref.revision) != (base_id, revision):
        raise AdapterError(
            "adapter and base do not match",
            place=str(adapter.path),
            found=f"trained on {ref.id} at {ref.revision[:12]}, running {base_id} at {revision[:12]}",
            valid=f"start with --base {ref.id}",
        )


def write_card(path: Path, card: Card) -> None:
    """Write card.json into a directory that already holds the other files: the last step of making an adapter."""
    from tell.files import write_atomic

    write_atomic(path / CARD, card.dump())
