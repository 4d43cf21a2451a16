"""What is written with letters and is no text: addresses, keys of programs, ids, numbers with units of catalogues. Reads and writes strings alone."""

from __future__ import annotations

import re

# A word of a text that stands for something and is not read: an address of the web or of mail, a path, a date or number, a key or a name in a program, a hash,
# an article's number.
_FORMS = (
    r"[A-Za-z][A-Za-z0-9+.-]{1,15}://\S+",
    r"www\.\S+",
    r"[\w.+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    r"(?:[A-Za-z0-9-]+\.)+(?:com|org|net|edu|gov|io|is|fo|no|dk|se|fi|de|fr|uk|eu)(?:/\S*)?",
    r"[~.]{0,2}(?:/[\w.+-]+){2,}/?",
    r"[A-Za-z]:\\\S+",
    r"[\d.,:;/%+()\[\]#°*x×-]+",
    # menu.file.open, file_menu_open, ERROR_NOT_FOUND, fileMenuOpen, menu:file, en-US.
    r"[a-z][\w-]*(?:[.:][A-Za-z0-9_-]{2,})+",
    r"[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+(?:\.[A-Za-z0-9]{2,5})?",
    r"[a-z]+(?:[A-Z][a-z0-9]+)+",
    r"(?=[a-fA-F]*[0-9])[0-9a-fA-F]{6,}(?:-[0-9a-fA-F]{2,})*",
    r"[0-9a-fA-F]{4,}(?:-[0-9a-fA-F]{4,}){2,}",
    r"[A-Z]{1,5}[-_]?\d{3,}\w*",
    r"v?\d+(?:\.\d+)*[A-Za-z]{0,2}",
)
_IDENTIFIER = re.compile("|".join(f"(?:{form})" for form in _FORMS))
# The forms of keys in catalogues whose originals are no texts: two parts at least.
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[._:/-][A-Za-z0-9]+)+|[a-z]+(?:[A-Z][a-z0-9]+)+|[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+")
_SIGNS = re.compile(r"[^\W_]")
# A longer word is no text either, and is not looked at.
_MOST = 2000


def is_text(text: str) -> bool:
    """Whether there is a word in it: something other than addresses, numbers and ids."""
    return any(_SIGNS.search(word) and not (len(word) > _MOST or _IDENTIFIER.fullmatch(word.strip(".,;!?()\"'"))) for word in text.split())


def is_key(text: str) -> bool:
    """Whether it is the key of a text in a program (`menu.file.open`, `FILE_OPEN`, `fileOpen`) and no text itself."""
    return len(text) <= 200 and _KEY.fullmatch(text.strip()) is not None
