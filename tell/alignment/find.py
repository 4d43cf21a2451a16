"""Where a lexicon lies: at a path, or with a pair that was added. Reads the names of directories."""

from __future__ import annotations

from pathlib import Path

from tell.errors import LanguageError, NotFound
from tell.languages import parse_pair
from tell.paths import pairs_dir


def find_lexicon(named: str) -> Path:
    """The lexicon at a path, or of a pair that was added (`tellmt pair add`). Raises NotFound where there is none."""
    path = Path(named)
    if path.exists():
        return path
    try:
        pair = parse_pair(named)
    except LanguageError:
        raise NotFound("there is no lexicon here", place=named, valid="a directory made by tellmt lexicon build, or a pair that was added") from None
    found = sorted(pairs_dir().glob(f"*/{pair.slug}/lexicon"))
    if not found:
        raise NotFound("this pair has no lexicon", place=str(pairs_dir()), found=str(pair), valid="tellmt pair add with the pair, or the path of a lexicon")
    return found[0]
