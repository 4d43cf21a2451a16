"""The elements of HTML by their effect on a text. Reads nothing."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elements that are part of a sentence. All others, <br> among them, end one.
INLINE = _names(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp small span strike strong sub sup time tt u"
    " var wbr"
)
# Whose content is no text, or not one to translate.
OPAQUE = _names("script style template noscript iframe object embed svg math code kbd samp var textarea audio video canvas noembed noframes xmp plaintext")
# Code that is written out, which a page may want to be translated all the same.
SPELLED = _names("code kbd samp var")
VOID = _names("area base br col embed hr img input link meta source track wbr")
# Where white space is not layout alone: each line is one of its own.
KEPT = frozenset({"pre", "listing"})

_ROW_GROUPS = _names("tbody tfoot thead")
_CELL_ENDS = _names("td th tr") | _ROW_GROUPS
# Elements that need no end tag, and the start tags of others that end them; the end tag of an element around them does too.
ENDED_BY = {
    "p": _names(
        "address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr main menu"
        " nav ol p pre search section table ul"
    ),
    "li": _names("li"),
    "dt": _names("dt dd"),
    "dd": _names("dt dd"),
    "rt": _names("rt rp"),
    "rp": _names("rt rp"),
    "option": _names("option optgroup hr"),
    "optgroup": _names("optgroup hr"),
    "td": _CELL_ENDS,
    "th": _CELL_ENDS,
    "tr": _names("tr") | _ROW_GROUPS,
    "tbody": _ROW_GROUPS,
    "tfoot": _ROW_GROUPS,
    "thead": _ROW_GROUPS,
    "caption": _names("colgroup tr") | _ROW_GROUPS,
    "colgroup": _names("colgroup tr caption") | _ROW_GROUPS,
}
