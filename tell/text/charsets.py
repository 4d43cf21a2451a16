"""Which names that files give for their charset are names of one. Asks Python's codecs, which are more than charsets."""

from __future__ import annotations

import codecs

# Codecs from bytes to text that no file is written in: names of hosts, escapes, and the one that always fails.
NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"})


def charset_name(name: str) -> str | None:
    """Python's name of a charset; None for what it does not know, and for codecs that are no charset, such as zip, hex and idna."""
    codec = _codec(name)
    is_text = getattr(codec, "_is_text_encoding", True)
    return codec.name if codec and is_text and codec.name.replace("-", "_") not in NO_CHARSETS else None


def is_other_codec(name: str) -> bool:
    """Whether Python knows a codec of this name that is no charset: nobody's file is written in it, while an unknown name may be a slip of the pen."""
    return _codec(name) is not None and charset_name(name) is None


def _codec(name: str) -> codecs.CodecInfo | None:
    try:
        return codecs.lookup(name)
    except (LookupError, ValueError):
        return None
