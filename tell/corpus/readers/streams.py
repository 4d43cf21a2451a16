"""Files as streams of text: compression looked through, the encoding named, known by its mark, or found out.

Reads .gz, .bz2 and .xz as what they hold. Writes nothing.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tell.errors import CorpusError, suggestion
from tell.languages import LanguagePair
from tell.text.charsets import charset_name

PACKED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
# Characters of one line, and bytes of a file that must be read whole: more would fill the memory for nothing that is a corpus.
MOST_LINE, MOST_WHOLE = 1 << 24, 1 << 28
# Bytes of a file that a guess at its encoding looks at, and bytes beyond ASCII without which nothing can be told.
LOOKED_AT, LEAST = 1 << 17, 8
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What corpora come in; charset-normalizer knows more, and takes short texts for them.
_COMMON = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "iso8859_2", "iso8859_4", "iso8859_5", "iso8859_7",
    "iso8859_10", "koi8_r", "koi8_u", "mac_roman", "cp850", "cp866", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr",
]  # fmt: skip


def plain_name(path: Path) -> str:
    """The name without the ending of a compressed file."""
    return path.stem if path.suffix.lower() in PACKED else path.name


@contextmanager
def open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of the file, unpacked. What goes wrong while it is read is a CorpusError that names it."""
    packed = PACKED.get(path.suffix.lower(), "")
    try:
        unpack: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
        raw: Any = unpack.get(packed, open)(path, "rb")
        with raw, io.BufferedReader(raw, 1 << 20) if packed else raw as stream:
            yield stream
    except FileNotFoundError:
        raise CorpusError("no such file", place=str(path)) from None
    except IsADirectoryError:
        raise CorpusError("this is a directory", place=str(path), valid="a file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as e:
        raise CorpusError(f"the {packed or 'compressed'} data is damaged or cut short", place=str(path), found=str(e)) from None
    except OSError as e:
        # What bz2 says of damaged data has no number.
        if e.errno is None and packed:
            raise CorpusError(f"the {packed} data is damaged or cut short", place=str(path), found=str(e)) from None
        raise


def read_whole(path: Path) -> bytes:
    """All bytes of a file whose format cannot be read in parts. Raises CorpusError for more than MOST_WHOLE."""
    with open_unpacked(path) as f:
        data = f.read(MOST_WHOLE + 1)
    if len(data) > MOST_WHOLE:
        raise CorpusError("the file is too large for its format", place=str(path), found=f"more than {MOST_WHOLE:,} bytes", valid="several smaller files")
    return data


def named_encoding(name: str) -> str:
    """Python's name of an encoding. Raises CorpusError with the nearest one."""
    if encoding := charset_name(name):
        return encoding
    known = [
        "utf-8",
        "utf-16",
        "windows-1250",
        "windows-1251",
        "windows-1252",
        "windows-1257",
        "iso-8859-1",
        "iso-8859-2",
        "koi8-r",
        "gb18030",
        "shift_jis",
        "euc-kr",
    ]
    raise CorpusError("unknown encoding", place="--encoding", found=name, valid=suggestion(name, known))


def encoding_of(path: Path, pair: LanguagePair | None = None, named: str | None = None) -> tuple[str, str]:
    """(encoding, how it is known): named, by its mark, since all of it is UTF-8, or detected.

    Reads the file to its end, or to the first byte that is not UTF-8. Raises CorpusError where that is damage, or where there is too little to tell by.
    """
    if named is not None:
        return named_encoding(named), "named"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_unpacked(path) as f:
        block = f.read(LOOKED_AT)
        for mark, name in _MARKS:
            if block.startswith(mark) and name != "utf-8":
                return name, "by its byte order mark"
        if wide := _wide(block, path):
            return wide, "detected"
        position = line = 0
        beyond = False
        while block:
            try:
                text = decoder.decode(block)
            except UnicodeDecodeError as e:
                # What the decoder had kept of the block before is counted again.
                start = position - (len(e.object) - len(block)) + e.start
                rest = bytes(e.object)
                first = rest.rfind(b"\n", 0, e.start) + 1
                line += rest.count(b"\n", 0, e.start) + 1
                damaged = beyond or not rest[: e.start].isascii()
                sample = rest[first:] + f.read(LOOKED_AT)
                return _other(sample, damaged, path, pair, line, start, rest[e.start])
            beyond = beyond or not text.isascii()
            position += len(block)
            line += block.count(b"\n")
            block = f.read(1 << 20)
    return "utf-8", "UTF-8"


def _wide(block: bytes, path: Path) -> str | None:
    """UTF-16 without a mark has a zero in every other byte of what is ASCII. Raises CorpusError for other files full of zeros."""
    head = block[:4096]
    zeros = head.count(0)
    if zeros * 20 < len(head) or zeros < 4:
        return None
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 > len(head) // 2 and min(even, odd) * 20 < max(even, odd):
        return "utf-16-be" if even > odd else "utf-16-le"
    raise CorpusError(
        "this is not text", place=str(path), found=f"{zeros} NUL bytes in the first {len(head)}", valid="text, or a name that ends as its format does"
    )


def _other(sample: bytes, damaged: bool, path: Path, pair: LanguagePair | None, line: int, byte: int, found: int) -> tuple[str, str]:
    """The encoding of what is not UTF-8, by charset-normalizer and, among its candidates, by the languages of the pair."""
    high = sum(b > 127 for b in sample)
    best = None
    # UTF-8 up to here, and not any more: a damaged byte, and no other encoding.
    if not damaged and high >= LEAST:
        from charset_normalizer import from_bytes

        matches = list(from_bytes(sample, cp_isolation=_COMMON, threshold=0.4))[:8]
        best = max(matches, key=lambda m: _fits(sample, m.encoding, pair), default=None)
    if best is None:
        place = f"{path}, line {line}, byte {byte}"
        raise CorpusError("not UTF-8", place=place, found=f"0x{found:02x}", valid="UTF-8 text, or --encoding NAME, such as windows-1252")
    return str(best.encoding), "detected"


def _fits(sample: bytes, encoding: str, pair: LanguagePair | None) -> float:
    """How much of the lines beyond ASCII are in the pair's languages when they are read so."""
    from tell.text.language_id import label, language_likelihoods

    if pair is None:
        return 0.0
    expected = {label(x.tag) for x in (pair.source, pair.target)} - {None}
    lines = [line for line in sample.decode(encoding, "replace").split("\n")[:400] if not line.isascii()][:40]
    return sum(line_scores.get(tag or "", 0.0) for line_scores in map(language_likelihoods, lines) for tag in expected)


def iter_text(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text without their ends, split at LF alone (at CR where there is no LF at all), a BOM left off.

    Raises CorpusError for a line of more than MOST_LINE characters, and where the bytes are not of the encoding.
    """
    with open_unpacked(path) as raw:
        head = raw.peek(1 << 16)[: 1 << 16] if isinstance(raw, io.BufferedReader) else b""
        old = b"\r" in head and b"\n" not in head
        text = io.TextIOWrapper(raw, encoding, newline="\r" if old else "\n")
        number = 0
        try:
            while line := text.readline(MOST_LINE):
                number += 1
                if number == 1:
                    line = line.removeprefix("\ufeff")
                if len(line) == MOST_LINE:
                    raise CorpusError("this line has no end", place=f"{path}, line {number}", found=f"{MOST_LINE:,} characters", valid="a sentence a line")
                yield line.removesuffix("\n").removesuffix("\r")
        except UnicodeError as e:
            place = f"{path}, after line {number}"
            raise CorpusError(
                f"not {encoding}", place=place, found=str(getattr(e, "reason", e)), valid="--encoding NAME, or none to have it found out"
            ) from None
        finally:
            text.detach()


def decoded_lines(path: Path, pair: LanguagePair | None, named: str | None, encodings: dict[str, str]) -> Iterator[str]:
    """`iter_text` in the encoding that is named or found out; `encodings` gets it by the file's name."""
    encoding, how = encoding_of(path, pair, named)
    encodings[str(path)] = encoding if how in ("named", "UTF-8") else f"{encoding} ({how})"
    yield from iter_text(path, encoding)
