"""Put a trained adapter among those that come with tellmt.

Reads an adapter directory and scores.json files of `tellmt score`. Writes adapters/<pair>/: the same weights, and a card that names the licence and
the makers of everything it was trained on, carries the scores, and no path of the machine it was trained on.

    .venv/bin/python scripts/ship.py OUT/adapter --scores OUT/scores/scores.json
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.gate.publish import read_scores
from tell.adapter.card import WEIGHTS, Adapter, Card, open_adapter, write_card
from tell.adapter.shipped import MAX_WEIGHTS
from tell.errors import AdapterError, BadInput, TellmtError
from tell.files import atomic_dir
from tell.languages import parse_pair
from tell.model.base import PACKAGED

ROOT = Path(__file__).resolve().parent.parent
_PAPER = "Documents of the TELL paper (arXiv 2404.00914), from LinesHogan/Token-Efficient-Leverage-Learning, Apache-2.0"
# By the names that train/recipes/shipped.sh gives its corpora, and by file for general data.
SOURCES = {
    "dev1": _PAPER,
    "dev2": _PAPER,
    "flores": "FLORES-200 (NLLB Team, arXiv 2207.04672), CC BY-SA 4.0",
    "ntrex": "NTREX-128 (Federmann, Kocmi and Xin 2022; MicrosoftTranslator/NTREX), CC BY-SA 4.0",
    "pud": "Parallel Universal Dependencies, English and Icelandic (universaldependencies.org), CC BY-SA 4.0",
    "tatoeba": "Sentences by the contributors of Tatoeba (tatoeba.org), CC BY 2.0 FR",
    "p3-train.jsonl.gz": "General examples from P3 (BigScience, arXiv 2110.08207), Apache-2.0",
}


def _name(path: str) -> str:
    return path.rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]


def notes_of(card: Card, extra_notes: dict[str, str]) -> list[str]:
    """The licences of base and data. Raises BadInput for a corpus or general file that nothing is known of."""
    all_sources = {**SOURCES, **extra_notes}
    base = PACKAGED.get(card.base.id)
    licence, notice = (base.licence, base.notice) if base else (card.base.licence, card.base.notice)
    if not licence:
        raise BadInput("the licence of the base is not known", found=card.base.id, valid=f"one of {', '.join(PACKAGED)}, or a base whose card names it")
    notes = [f"Weights derived from {card.base.id} by training. Licence of the base: {licence}. {notice}."]
    used = [str(c["name"]) for c in card.data.get("corpora", [])]
    used += [_name(str(s["path"])) for s in card.data.get("general_sources", []) if s.get("used", 1)]
    for name in used:
        if name not in all_sources:
            raise BadInput("nothing is known of the licence of this data", place="the adapter's card", found=name, valid=f"--note {name}=TEXT")
        if (note := f"Trained on: {all_sources[name]}.") not in notes:
            notes.append(note)
    return notes


def _pathless(data: dict[str, Any]) -> dict[str, Any]:
    public_data = dict(data)
    for key in ("corpora", "general_sources"):
        if key in public_data:
            public_data[key] = [{**entry, "path": _name(str(entry["path"]))} for entry in public_data[key]]
    return public_data


def _decided(verdict: dict[str, Any] | None) -> dict[str, Any] | None:
    """The gate's numbers. Its notes and reasons speak of one machine's files and registry, and are left behind."""
    return None if verdict is None else {k: v for k, v in verdict.items() if k not in ("notes", "reasons")}


def ship(adapter: Adapter, scores: Sequence[Path], extra_notes: dict[str, str], to: Path, credits: Sequence[str] = ()) -> Adapter:
    """The adapter as it lies in `to`/<pair>/ now, in place of the one that did."""
    size = (adapter.path / WEIGHTS).stat().st_size
    if size > MAX_WEIGHTS:
        raise AdapterError("too large to come with tellmt", place=str(adapter.path / WEIGHTS), found=f"{size} bytes", valid=f"at most {MAX_WEIGHTS}")
    card_scores = [read_scores(s, adapter) for s in scores]
    names = {s["name"] for s in card_scores}
    card = adapter.card.model_copy(
        update={
            "notes": [*notes_of(adapter.card, extra_notes), *credits],
            "data": _pathless(adapter.card.data),
            "scores": [*(s for s in adapter.card.scores if s.get("name") not in names), *card_scores],
            "verdict": _decided(adapter.card.verdict),
        }
    )
    final = to / parse_pair(card.pair).slug
    with atomic_dir(final) as aside:
        for name in card.contents:
            shutil.copyfile(adapter.path / name, aside / name)
        write_card(aside, card)
    return open_adapter(final)


def main() -> int:
    parser = argparse.ArgumentParser(description="Put a trained adapter among those that come with tellmt.")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--scores", type=Path, action="append", default=[], help="a scores.json to keep on the card; may be given again")
    parser.add_argument("--note", action="append", default=[], metavar="NAME=TEXT", help="maker and licence of a corpus or general file; may be given again")
    parser.add_argument("--credit", action="append", default=[], metavar="TEXT", help="whose work is in it besides, such as a dictionary's; may be given again")
    parser.add_argument("--to", type=Path, default=ROOT / "adapters", help="[adapters/]")
    options = parser.parse_args()
    bad = [n for n in options.note if not all(part.strip() for part in n.partition("=")[::2])]
    if bad:
        parser.error(f"--note: found {bad[0]!r}; valid: NAME=TEXT")
    try:
        shipped = ship(open_adapter(options.adapter), options.scores, dict(n.split("=", 1) for n in options.note), options.to, options.credit)
    except TellmtError as e:
        print(f"ship: {e}", file=sys.stderr)
        return e.exit_code
    print(f"{shipped.path}: {shipped.card.pair}, adapter {shipped.id}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
