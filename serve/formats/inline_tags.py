"""Text with tags inside as one line for a translator, and its translation with the tags back in their places.

Reads and writes pieces: text, and tags as their formats write them. A tag inside the text goes along as a short stand-in (`<x1>`, `</x1>`, `<x2/>`), which
looks like a placeholder to the guards; tags all around the text are taken off, since what a model does not see it cannot lose.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from serve.formats.tag_placeholders import free_letter, matches, split_at_tags, without_tags
from serve.formats.units import Unit, UnitVisitor, changed

Kind = Literal["text", "open", "close", "void"]
# Pieces of a line; a line with more is no sentence, and stays as it is.
MOST = 4000
_SPACES = re.compile(" {2,}")


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Text, decoded; or a tag in the format's own writing, which opens, closes, or stands alone."""

    kind: Kind
    value: str


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """`text` is translated; `before` and `after` stand around it. One stand-in may be for several tags that follow one another and belong together."""

    before: tuple[Piece, ...]
    text: str
    after: tuple[Piece, ...]
    tokens: dict[str, tuple[Piece, ...]]

    @property
    def tagged(self) -> bool:
        return bool(self.tokens)

    def translated(self, visitor: UnitVisitor, place: str, what: str = "tags") -> list[Piece] | None:
        """The line's translation as pieces, with `before` and `after`; None where it stays. `what` is warned of where it could not be put in its places."""
        translation = changed(visitor, Unit(self.text, place, tagged=self.tagged))
        if translation is None:
            return None
        pieces, placed = self.placed(translation)
        if not placed:
            visitor.warn(place, f"{what} inside the text lost their places")
        return [*self.before, *pieces, *self.after]

    def placed(self, translation: str) -> tuple[list[Piece], bool]:
        """The translation as pieces, without `before` and `after`, and whether every tag was there once and inside the others as tags must be.

        Where they were not, all of the text comes first and the tags after it, empty.
        """
        parts, well_nested = split_at_tags(translation, self.tokens)
        if well_nested:
            groups = ([Piece("text", value)] if i % 2 == 0 else self.tokens[value] for i, value in enumerate(parts))
            return [p for group in groups for p in group if p.kind != "text" or p.value], True
        plain = _SPACES.sub(" ", without_tags(translation, self.tokens)).strip()
        return [Piece("text", plain), *(piece for group in self.tokens.values() for piece in group)], False


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces without empty text, and with text beside text as one."""
    output: list[Piece] = []
    texts: list[str] = []
    for piece in pieces:
        if piece.kind == "text":
            texts.append(piece.value)
            continue
        if text := "".join(texts):
            output.append(Piece("text", text))
        texts = []
        output.append(piece)
    text = "".join(texts)
    return [*output, Piece("text", text)] if text else output


def line_of(run: Sequence[Piece], visitor: UnitVisitor, place: str) -> Line | None:
    """The run as a line; None where it holds no letter, and where it is in too many pieces, which the visitor is told."""
    if not any(p.kind == "text" and any(map(str.isalpha, p.value)) for p in run):
        return None
    if len(run) > MOST:
        visitor.unreadable(place, f"a sentence in {len(run):,} pieces of text and tags; at most {MOST:,} are translated")
        return None
    closing = matches([p.kind for p in run])[0]
    first, last = 0, len(run) - 1
    before: list[Piece] = []
    after: list[Piece] = []
    while True:
        if run[first].kind == "void" or (run[first].kind == "text" and not run[first].value.strip()):
            before.append(run[first])
            first += 1
        elif run[last].kind == "void" or (run[last].kind == "text" and not run[last].value.strip()):
            after.append(run[last])
            last -= 1
        elif closing.get(first) == last:
            before.append(run[first])
            after.append(run[last])
            first, last = first + 1, last - 1
        else:
            break
    inside = list(run[first : last + 1])
    text = "".join(p.value for p in run if p.kind == "text")
    letter = free_letter(text)
    closed, opened = matches([p.kind for p in inside])
    tokens: dict[str, tuple[Piece, ...]] = {}
    text_parts: list[str] = []
    position = 0
    while position < len(inside):
        piece, end = inside[position], position + 1
        if piece.kind == "text":
            text_parts.append(piece.value)
        else:
            while end < len(inside) and _together(inside, closed, opened, end):
                end += 1
            token = f"<{letter}{position}/>"
            if position in closed:
                token = f"<{letter}{position}>"
            elif position in opened:
                # Named after the first of the group that it closes.
                token = f"</{letter}{opened[end - 1]}>"
            tokens[token] = tuple(inside[position:end])
            text_parts.append(token)
        position = end
    return Line(tuple(before), "".join(text_parts), tuple(reversed(after)), tokens)


def _together(run: Sequence[Piece], closed: dict[int, int], opened: dict[int, int], position: int) -> bool:
    """Whether a tag shares its stand-in with the tag before it: both stand alone, or both enclose the same pieces."""
    if position - 1 in closed:
        return position in closed and closed[position] == closed[position - 1] - 1
    if position - 1 in opened:
        return position in opened and opened[position] == opened[position - 1] - 1
    return run[position].kind != "text" and position not in closed and position not in opened
