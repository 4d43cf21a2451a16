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
VOID = _names("area base br col embed hr img input link meta source track wbr")
# Where white space is not layout alone: each line is one of its own.
KEPT = frozenset({"pre", "listing"})
