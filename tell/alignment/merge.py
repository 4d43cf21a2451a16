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
from tell.alignment.join import joined, read_fitting
from tell.alignment.pruning import pruned
from tell.errors import BadInput
from tell.files import atomic_dir, check_replaceable, key_of, sha256_bytes, sha256_file, write_json
from tell.lexicon import lexicon as lex
from tell.lexicon.lexicon import Lexicon
from tell.text.normalise import spelled

# Nobody trusts one lexicon a thousand times as much as another; larger counts would be shown in hundreds of digits.
MOST_WEIGHT = 1000


def merge(paths: Sequence[Path], weights: Sequence[float], out: Path, force: bool = False) -> tuple[dict[str, Any], bool]:
    """Writes the union of the lexicons to `out`. Returns its build.json, and whether it was reused. Raises BadInput where they do not fit each other."""
    if weights and len(weights) != len(paths):
        raise BadInput("not a weight for each lexicon", place="--weight", found=f"{len(weights)} for {len(paths)}", valid="one for each, in their order")
    if bad := [w for w in weights if not 0 < w <= MOST_WEIGHT]:
        raise BadInput("not a weight", place="--weight", found=f"{bad[0]:g}", valid=f"above 0, at most {MOST_WEIGHT}")
    if out.resolve() in [path.resolve() for path in paths]:
        raise BadInput("a lexicon cannot be merged into itself", place=str(out), valid="another directory with -o")
    weights = weights or [1.0] * len(paths)
    first = Lexicon.read(paths[0])
    lexicons = [first, *(read_fitting(path, first.pair, first.keying) for path in paths[1:])]
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
