"""The adapters that come with tellmt, one directory for each pair. They answer while the registry has no live version of the pair.

Reads `adapters/<pair>/` beside this file, which in a checkout is a link to the repository's own adapters/; TELLMT_SHIPPED names another
directory. Writes nothing: shipped adapters are never part of the registry.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import click

from tell.adapter.card import CARD, Adapter, Card, adapter_id, open_adapter, read_card
from tell.console import say
from tell.errors import AdapterError, LanguageError, TellmtError
from tell.languages import parse_pair
from tell.model.base import Base

# So that a checkout and a wheel stay small: a rank-16 adapter of a 270M base in float32 is 15.2 MB.
MAX_WEIGHTS = 16_000_000
NO_SHIPPED = click.option("--no-shipped", is_flag=True, help="Leave out the adapters that come with tellmt.")


@dataclasses.dataclass(frozen=True, slots=True)
class Shipped:
    """A shipped adapter, known by its card alone; `open` verifies it."""

    pair: str
    path: Path
    card: Card

    @property
    def id(self) -> str:
        return adapter_id(self.card)

    def open(self) -> Adapter:
        return open_adapter(self.path)


def shipped_dir() -> Path:
    """`TELLMT_SHIPPED`, else the directory that is installed with this module. Raises TellmtError when the variable names none."""
    if setting := os.environ.get("TELLMT_SHIPPED"):
        path = Path(setting).expanduser().absolute()
        if not path.is_dir():
            raise TellmtError("no such directory", place="TELLMT_SHIPPED", found=setting, valid="a directory of adapters, one a pair; it may be empty")
        return path
    # Resolved: engines know adapters by their path, and a checkout's is a link.
    return (Path(__file__).parent / "shipped_adapters").resolve()


def _read(path: Path) -> Shipped:
    pair = str(parse_pair(path.name.replace("--", ":"), str(path)))
    card = read_card(path)
    if str(parse_pair(card.pair, str(path / CARD))) != pair:
        raise AdapterError("the card is of another pair than its directory", place=str(path), found=card.pair, valid=pair)
    return Shipped(pair, path, card)


def shipped_adapters(left_out: bool = False) -> dict[str, Shipped]:
    """The shipped adapters by pair. An adapter that cannot be read is left out with a message of one line; `left_out` leaves out all (--no-shipped)."""
    by_pair: dict[str, Shipped] = {}
    root = shipped_dir()
    for path in sorted(root.iterdir()) if not left_out and root.is_dir() else []:
        if not path.is_dir() or path.name.startswith("."):
            continue
        try:
            shipped = _read(path)
        except (AdapterError, LanguageError) as e:
            say(f"a shipped adapter is not used: {e}")
            continue
        by_pair[shipped.pair] = shipped
    return by_pair


def on_base(by_pair: dict[str, Shipped], base: Base) -> dict[str, Shipped]:
    """The adapters that were trained on the running base; prints one line for each of the others."""
    usable = {}
    for pair, shipped in by_pair.items():
        ref = shipped.card.base
        if (ref.id, ref.revision) == (base.id, base.revision):
            usable[pair] = shipped
            continue
        which = ref.id if ref.id != base.id else f"another revision of it, {ref.revision[:12]}"
        say(f"{pair}: the shipped adapter is not used: the base that runs is {base.id}, and it was trained on {which}")
    return usable
