"""Joins lexicons of one pair: what they count is added up, each with a weight.

Reads lexicon directories or files. Writes a directory: lexicon.tsv, links.jsonl.gz where one of them has its links, and build.json.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.alignment import links
from tell.alignment.build import FORMAT, REPORT, intact
from tell.alignment.pruning import pruned
from tell.errors import BadInput
from tell.files import atomic_dir, check_replaceable, key_of, sha256_bytes, sha256_file, write_json
from tell.lexicon import lexicon as lex
from tell.lexicon.lexicon import Lexicon
from tell.lexicon.words import folded
from tell.text.normalise import spelled

# Nobody trusts one lexicon a thousand times as much as another; larger counts would be shown in hundreds of digits.
MOST_WEIGHT = 1000


def joined(lexicons: Sequence[Lexicon], weights: Sequence[float]) -> Lexicon:
    """The union of lexicons of one pair and keying, each count times its lexicon's weight. Where two write a candidate differently, the first one's way stays.

    A struck word is struck in the union. The commonest source words are in the order of their best rank in any lexicon.
    """
    first = lexicons[0]
    counts: dict[str, dict[str, float]] = {}
    written: dict[str, str] = {}
    totals: dict[str, float] = {}
    ranks: dict[str, int] = {}
    for lexicon, weight in zip(lexicons, weights, strict=True):
        for source_key in lexicon.lines:
            entry = counts.setdefault(source_key, {})
            for text, count in lexicon.candidates(source_key).items():
                name = folded(text)
                written.setdefault(name, text)
                entry[name] = entry.get(name, 0) + weight * count
        for name, count in lexicon.totals.items():
            totals[name] = totals.get(name, 0) + weight * count
        for rank, word in enumerate(lexicon.common):
            ranks[word] = min(rank, ranks.get(word, rank))
    entries = {k: {written[name]: count for name, count in entry.items()} for k, entry in counts.items()}
    common = sorted(ranks, key=lambda word: (ranks[word], word))
    struck = frozenset[str]().union(*(lexicon.struck for lexicon in lexicons))
    return Lexicon.of(first.pair, first.keying, common, entries, {name: round(n) for name, n in totals.items()}, struck)


def merge(paths: Sequence[Path], weights: Sequence[float], out: Path, force: bool = False) -> tuple[dict[str, Any], bool]:
    """Writes the union of the lexicons to `out`. Returns its build.json, and whether it was reused. Raises BadInput where they do not fit each other."""
    if weights and len(weights) != len(paths):
        raise BadInput("not a weight for each lexicon", place="--weight", found=f"{len(weights)} for {len(paths)}", valid="one for each, in their order")
    if bad := [w for w in weights if not 0 < w <= MOST_WEIGHT]:
        raise BadInput("not a weight", place="--weight", found=f"{bad[0]:g}", valid=f"above 0, at most {MOST_WEIGHT}")
    if out.resolve() in [path.resolve() for path in paths]:
        raise BadInput("a lexicon cannot be merged into itself", place=str(out), valid="another directory with -o")
    weights = weights or [1.0] * len(paths)
    lexicons = [Lexicon.read(path) for path in paths]
    for path, lexicon in zip(paths, lexicons, strict=True):
        if lexicon.pair != lexicons[0].pair:
            raise BadInput("this lexicon is of another pair", place=str(path), found=str(lexicon.pair), valid=str(lexicons[0].pair))
        if lexicon.keying != lexicons[0].keying:
            raise BadInput("this lexicon keys words otherwise", place=str(path), found=str(lexicon.keying), valid=str(lexicons[0].keying))
    files = [path / lex.FILE if path.is_dir() else path for path in paths]
    # An adapter's lexicon is its entries alone: what a pair gave to it is not known, and so nothing of it is left out for that pair.
    with_links = [(path / links.FILE, weight) for path, weight in zip(paths, weights, strict=True) if (path / links.FILE).is_file()]
    hashes = [sha256_file(f) for f in (*files, *(file for file, _ in with_links))]
    wanted = key_of({"format": FORMAT, "merged": hashes, "weights": list(weights)})
    if not force and (unchanged := intact(out, wanted)) is not None:
        return unchanged, True
    # A lexicon that was built has links and struck entries beside it, which no merge brings back.
    check_replaceable(out, (REPORT, lex.FILE, *([links.FILE] if _was_merged(out) else [])))
    kept, pruning = pruned(joined(lexicons, weights))
    data = kept.dump()
    sha256 = {lex.FILE: sha256_bytes(data)}
    report = {
        "format": FORMAT,
        "key": wanted,
        "pair": str(kept.pair),
        "keying": dataclasses.asdict(kept.keying),
        "merged": [{"path": spelled(str(p)), "weight": w, "keys": len(x)} for p, w, x in zip(paths, weights, lexicons, strict=True)],
        "counts": {"keys": len(kept), "bytes": len(data)},
        "pruned": pruning,
        "sha256": sha256,
    }
    with atomic_dir(out) as aside:
        (aside / lex.FILE).write_bytes(data)
        if with_links:
            links.write_union(aside / links.FILE, with_links)
            sha256[links.FILE] = sha256_file(aside / links.FILE)
        write_json(aside / REPORT, report)
    return report, False


def _was_merged(out: Path) -> bool:
    try:
        return "merged" in json.loads((out / REPORT).read_bytes())
    except (OSError, ValueError, TypeError):
        return False
