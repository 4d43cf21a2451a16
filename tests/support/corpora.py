"""The same sentences in every format that is read, as the tools that people have write them."""

from __future__ import annotations

import io
import json
from html import escape
from pathlib import Path

WORDS = [
    "fjall", "foss", "hestur", "bátur", "vegur", "skóli", "kirkja", "bók", "ljós", "vindur",
    "steinn", "garður", "brú", "klukka", "lykill", "penni", "diskur", "stóll", "gluggi", "hurð",
]  # fmt: skip
ENGLISH = [
    "mountain", "waterfall", "horse", "boat", "road", "school", "church", "book", "light", "wind",
    "stone", "garden", "bridge", "clock", "key", "pen", "plate", "chair", "window", "door",
]  # fmt: skip


def pairs(n: int, start: int = 0) -> list[tuple[str, str]]:
    """Icelandic and English sentences, each with letters of its own."""
    out = []
    for i in range(start, start + n):
        a, b = i % 20, i // 20 % 20
        out.append(
            (f"Gamli maðurinn sá {WORDS[a]} og nýjan {WORDS[b]} hjá húsinu okkar.", f"The old man saw a {ENGLISH[a]} and a new {ENGLISH[b]} near our house.")
        )
    return out


def tmx(rows: list[tuple[str, str]], languages: tuple[str, str] = ("is", "en"), more: str = "", head: str = "") -> bytes:
    tuv = '<tuv xml:lang="{}"><seg>{}</seg></tuv>'
    units = "".join(f"<tu>{tuv.format(languages[0], escape(a))}{tuv.format(languages[1], escape(b))}{more}</tu>" for a, b in rows)
    return f'<?xml version="1.0" encoding="UTF-8"?>{head}<tmx version="1.4"><header srclang="{languages[0]}"/><body>{units}</body></tmx>'.encode()


def xliff(rows: list[tuple[str, str]], source: str = "is", target: str = "en") -> bytes:
    units = "".join(
        f'<trans-unit id="{i}"><source>{escape(a)}</source>{f"<target>{escape(b)}</target>" if b else ""}'
        f"<alt-trans><source>rangt</source><target>wrong</target></alt-trans></trans-unit>"
        for i, (a, b) in enumerate(rows)
    )
    return (
        f'<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2"><file original="a.html" source-language="{source}" target-language="{target}">'
        f"<body>{units}</body></file></xliff>"
    ).encode()


def xliff2(rows: list[tuple[str, str]], source: str = "is", target: str = "en") -> bytes:
    units = "".join(
        f'<unit id="{i}"><segment state="final"><source>{escape(a)}</source><target>{escape(b)}</target></segment></unit>' for i, (a, b) in enumerate(rows)
    )
    space = "urn:oasis:names:tc:xliff:document:2.0"
    return f'<xliff version="2.0" xmlns="{space}" srcLang="{source}" trgLang="{target}"><file id="f1">{units}</file></xliff>'.encode()


def po(rows: list[tuple[str, str]], language: str = "is", charset: str = "UTF-8") -> bytes:
    """The originals are the English side."""
    head = f'msgid ""\nmsgstr ""\n"Language: {language}\\n"\n"Content-Type: text/plain; charset={charset}\\n"\n\n'
    return (
        head
        + "".join(f"#: src/a.c:{i}\nmsgid {json.dumps(b, ensure_ascii=False)}\nmsgstr {json.dumps(a, ensure_ascii=False)}\n\n" for i, (a, b) in enumerate(rows))
    ).encode(charset)


def mo(rows: list[tuple[str, str]]) -> bytes:
    import polib

    catalogue = polib.POFile()
    catalogue.metadata = {"Language": "is", "Content-Type": "text/plain; charset=UTF-8"}
    for a, b in rows:
        catalogue.append(polib.POEntry(msgid=b, msgstr=a))
    return bytes(catalogue.to_binary())


def xlsx(rows: list[tuple[object, ...]], *before: tuple[object, ...]) -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (*before, *rows):
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def table(rows: list[tuple[str, str]], delimiter: str, *header: str) -> bytes:
    quoted = [header, *rows] if header else list(rows)
    return "".join(delimiter.join(f'"{c}"' if delimiter != "\t" else c for c in row) + "\n" for row in quoted).encode()


def directories(at: Path, rows: list[tuple[str, str]], names: tuple[str, str]) -> None:
    """Documents of five lines; `names` are the paths of the two sides, with {} for the number."""
    for i in range(0, len(rows), 5):
        for side in (0, 1):
            path = at / names[side].format(i)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(r[side] + "\n" for r in rows[i : i + 5]), encoding="utf-8")
