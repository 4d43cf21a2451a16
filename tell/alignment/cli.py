"""`tellmt lexicon build|show|strike|merge`: bilingual lexicons, learned from corpora and joined with dictionaries."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click

from tell.alignment.find import find_lexicon
from tell.command import Command, Group, Many
from tell.console import emit, say, table
from tell.errors import BadInput, NotFound
from tell.lexicon.lexicon import HEAD, Lexicon
from tell.lexicon.words import keys

_PATH = click.Path(path_type=Path)


@click.group(cls=Group)
def lexicon() -> None:
    """Learn a bilingual lexicon from corpora, and look into it."""


@lexicon.command("build", cls=Command)
@click.argument("corpora", metavar="CORPUS...", nargs=-1, required=True, type=_PATH)
@click.option("--dictionary", "dictionaries", cls=Many, type=_PATH, help="Bilingual dictionary: TSV, TBX, TMX of terms, or Apertium's .dix; may name several.")
@click.option("--reversed", "reversed_", cls=Many, type=_PATH, help="Dictionary whose sides are the other way round; may name several.")
@click.option("--lexicon", "lexicons", cls=Many, type=_PATH, help="Lexicon or adapter of the pair whose words are added; may name several.")
@click.option("--strike", "struck", cls=Many, type=_PATH, help="File of entries that stay out: source word, tab, candidate; may name several.")
@click.option("--force", is_flag=True, help="Build although nothing changed.")
@click.option("-o", "--out", required=True, type=_PATH, help="Lexicon directory to write.")
def build_(
    corpora: tuple[Path, ...],
    dictionaries: tuple[Path, ...],
    reversed_: tuple[Path, ...],
    lexicons: tuple[Path, ...],
    struck: tuple[Path, ...],
    force: bool,
    out: Path,
) -> None:
    """Learn a lexicon from the training pairs of CORPUS by word alignment.

    Dev and test segments of the corpora are not looked at. build.json has the counts; links.jsonl.gz has what each pair gave, so that training can leave it
    out. Entries that were struck with tellmt lexicon strike stay out.
    """
    from tell.alignment.build import LexiconPlan, build

    for option, files in (("--dictionary", dictionaries), ("--reversed", reversed_), ("--strike", struck)):
        if missing := [path for path in files if not path.is_file()]:
            raise BadInput("no such file", place=option, found=str(missing[0]), valid="a file")
    report, reused = build(LexiconPlan(corpora, dictionaries, reversed_, struck, lexicons), out, force)
    if reused:
        say(f"{out}: unchanged, reused")
    for note in report["notes"]:
        say(note)
    emit(report, lambda: _built(report, out))


def _built(report: dict[str, Any], out: Path) -> Any:
    rows: list[list[Any]] = [[name, n] for name, n in report["counts"].items()]
    rows += [[f"left out: {reason}", n] for reason, n in report.get("left_out", {}).items()]
    for d in report.get("dictionaries", []):
        name = Path(d["path"]).name
        rows += [[f"{name}: words", d["words"]], *([f"{name}, left out: {reason}", n] for reason, n in d["left_out"].items())]
    rows += [[f"{other['path']}: keys", other["keys"]] for other in report.get("lexicons", [])]
    rows += [[f"pruned: {what}", n] for what, n in report["pruned"].items() if n]
    return table(f"{out}  {report['pair']}", ["", "number"], rows)


@lexicon.command("show", cls=Command)
@click.argument("named", metavar="LEXICON|PAIR")
@click.argument("words", nargs=-1)
@click.option("--most", type=click.IntRange(min=1), default=50, show_default=True, help="Number of entries, the most frequent words first.")
@click.option("--skip-common", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the commonest words that are left out.")
def show(named: str, words: tuple[str, ...], most: int, skip_common: int) -> None:
    """List the most frequent words of a lexicon with what it offers for them, or look up WORDS.

    The rank is the word's place among the corpus's words by how often they occur, of the first thousand. A word may occur often and be aligned seldom. A wrong
    entry is struck with tellmt lexicon strike.
    """
    found = Lexicon.read(find_lexicon(named))
    shown = [_entry(found, w) for w in words] if words else _most_frequent(found, most, skip_common)
    result = {"pair": str(found.pair), "keys": len(found), "entries": shown}
    columns = ["rank", "word", "times aligned", "candidates"]
    rows = [["" if e["rank"] is None else e["rank"], e["word"], e["times"], _listed(e["candidates"])] for e in shown]
    emit(result, lambda: table(f"{named}  {found.pair}, {len(found):,} keys", columns, rows))


def _entry(found: Lexicon, word: str) -> dict[str, Any]:
    candidates = found.ranked(word)
    times = sum(found.candidates(keys(word, found.keying)[0][0]).values())
    rank = found.rank(word)
    entry = {"word": word, "rank": None if rank is None else rank + 1, "times": round(times)}
    return {**entry, "candidates": [{"text": text, "strength": round(strength, 3)} for text, strength in candidates.items()]}


def _most_frequent(found: Lexicon, most: int, skip_common: int) -> list[dict[str, Any]]:
    # The corpus's commonest words are known as they are written; a dictionary's only by its headwords, in no order but the alphabet's.
    named = found.common[skip_common:] if found.common else [k.removesuffix(HEAD) for k in found.lines if k.endswith(HEAD)]
    entries = (_entry(found, word) for word in named)
    return list(itertools.islice((e for e in entries if e["candidates"]), most))


def _listed(candidates: list[dict[str, Any]]) -> str:
    return ", ".join(f"{c['text']} {c['strength']:.3g}" for c in candidates[:5]) or "none"


@lexicon.command("strike", cls=Command)
@click.argument("named", metavar="LEXICON|PAIR")
@click.argument("word")
@click.argument("candidate", required=False)
def strike_(named: str, word: str, candidate: str | None) -> None:
    """Strike WORD, or one CANDIDATE for it, from every later build of a lexicon.

    The word is written to struck.tsv in the lexicon's directory. A word ending in * is a key: all words that begin so.
    """
    from tell.alignment.struck import FILE, read_struck, struck_entry, write_struck

    entry = struck_entry(word, candidate or "")
    directory = find_lexicon(named)
    if not directory.is_dir():
        raise NotFound("this is not the directory of a lexicon", place=str(directory), valid="a directory made by tellmt lexicon build")
    file = directory / FILE
    struck = {*read_struck([file] if file.exists() else []), entry}
    if not word.endswith("*") and not Lexicon.read(directory).ranked(word):
        say(f"note: the lexicon has nothing for {word} now")
    write_struck(file, struck)
    say(f"{file}: {len(struck):,} struck; they are out once the lexicon is built again")
    emit({"path": str(file), "struck": len(struck), "word": word, "candidate": candidate})


@lexicon.command("merge", cls=Command)
@click.argument("lexicons", metavar="LEXICON...", nargs=-1, required=True, type=_PATH)
@click.option("--weight", "weights", cls=Many, type=click.FloatRange(min=0, min_open=True), help="What each lexicon's counts are multiplied by.  [default: 1]")
@click.option("--force", is_flag=True, help="Merge although nothing changed.")
@click.option("-o", "--out", required=True, type=_PATH, help="Lexicon directory to write.")
def merge_(lexicons: tuple[Path, ...], weights: tuple[float, ...], force: bool, out: Path) -> None:
    """Join lexicons of one pair: their counts are added up."""
    from tell.alignment.merge import merge

    report, reused = merge(lexicons, weights, out, force)
    if reused:
        say(f"{out}: unchanged, reused")
    emit(report, lambda: _built(report, out))
