"""What is plain text and what is not: by name, and by the first characters. A file with a structure that is not known is never translated line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.documents.parts import open_document
from serve.files.outputs import plan
from serve.formats import FORMATS, check_start, format_of
from serve.formats.structure import kind_by_start
from tell.errors import BadInput, CorpusError
from tell.languages import parse_pair

# Names of files that are none of the formats, each with what is found.
REFUSED = {
    "a.tar.gz": ".tar",
    "page.rst": ".rst",
    "lib.js": ".js",
    "a.tsx": ".tsx",
    "x.php": ".php",
    "x.py": ".py",
    "paper.tex": ".tex",
    "x.adoc": ".adoc",
    "x.rst": ".rst",
    "x.ini": ".ini",
    "pyproject.toml": ".toml",
    "Info.plist": ".plist",
    "a.json5": ".json5",
    "x.vue": ".vue",
    "x.html.erb": ".erb",
    "x.md.j2": ".j2",
    "x.css": ".css",
    "App.svelte": ".svelte",
    "a.ass": ".ass",
    "a.pptx": ".pptx",
    "a.odt": ".odt",
    "package.json": "package.json",
    "tsconfig.json": "tsconfig.json",
    "docker-compose.yml": "docker-compose.yml",
    "Makefile": "Makefile",
    "requirements.txt": "requirements.txt",
    "dir/AndroidManifest.xml": "AndroidManifest.xml",
}


@pytest.mark.parametrize("name", REFUSED)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(CorpusError, match="files of this format are not translated") as e:
        format_of(name)
    message = str(e.value)
    assert message.startswith(f"{name}: ") and f"found {REFUSED[name]} (" in message and ".po" in message and "--format text" in message


@pytest.mark.parametrize("name", ["README", "letter.is", "letter.cs", "notes.log", "a.txt.gz", "COPYING", "chapter.1", "x.unknown"])
def test_names_that_say_nothing(name: str) -> None:
    assert format_of(name).name == "text"


STRUCTURED = {
    '{\n  "greeting": "Hello",\n  "bye": "Bye"\n}\n': "JSON",
    '[{"id": "a", "translation": "b"}]': "JSON",
    '["One", "Two"]': "JSON",
    "{}": "JSON",
    '{"text": "a"}\n{"text": "b"}\n': "JSON",
    '<?xml version="1.0"?>\n<a/>': "XML, HTML or PHP",
    "<resources>\n<string>a</string></resources>": "XML, HTML or PHP",
    "<!DOCTYPE html>\n<p>a": "XML, HTML or PHP",
    "<?php\necho 1;": "XML, HTML or PHP",
    "#!/bin/sh\necho a": "a script",
    'msgid ""\nmsgstr ""\n': "gettext's PO",
    '# c\nmsgid "a"\nmsgstr "b"\n': "gettext's PO",
    "en:\n  hello: Hello\n  bye: Bye\n": "YAML",
    "# c\nis:\n  a:\n    b: c\n": "YAML",
    "---\ntitle: A page\n---\n\nText.\n": "YAML, or Markdown that begins with it",
    "a.b=Hello\na.c=Bye\n": "keys and values",
    "# c\nname = Jon\nage = 3\n": "keys and values",
    "[main]\na = b\n": "keys and values",
    "user.name: Name\nuser.age: Age\n": "keys and values",
    '"a" = "Hello";\n"b" = "Bye";\n': "keys and values",
    "import x from 'y'\n\nexport function a() {\n  return 1;\n}\n": "source code",
    "def a():\n    x = 1\n    return x\n": "source code",
    ".a {\n  color: red;\n}\n": "source code",
    "\\documentclass{article}\n\\begin{document}": "TeX",
    "WEBVTT\n\n00:01.000 --> 00:02.000\na": "subtitles",
    "1\n00:00:01,000 --> 00:00:02,000\na": "subtitles",
    "a\0b": "binary data",
    "{\\rtf1 a}": "RTF",
    ".TH ls 1\n.SH NAME\n": "a page of a manual (roff)",
}


@pytest.mark.parametrize("text", STRUCTURED)
def test_first_characters_of_a_structure(text: str) -> None:
    assert kind_by_start(text.encode()) == kind_by_start(b"\xef\xbb\xbf" + text.encode()) == STRUCTURED[text]
    with pytest.raises(CorpusError, match=r"this is not plain text; found .*--format text"):
        check_start(FORMATS["text"], text.encode(), guessed=True)
    if "\0" not in text:
        check_start(FORMATS["text"], text.encode())


PROSE = [
    "Hello world.\nThis is a letter.\n",
    "",
    "One line",
    "Anna: Hello!\nJon: Good day.\nAnna: Bye.\n",
    "From: Jon\nTo: Anna\nSubject: Boats\n\nHello.\n",
    "- one\n- two\n- three\n",
    "* one\n* two\n",
    "# A heading\n\nText of it.\n",
    "10.30: Breakfast\n11.00: Meeting\n12.15: Lunch\n",
    "[1] A footnote.\n[2] Another.\n",
    "{name} has {count} letters.\n",
    "<John> hello there\n<Anna> hi\n",
    "Note: x < y\n",
    'He said: "Yes."\n"No," she said.\n',
    "---\n\nA ruler before a text.\n",
    "----------\nTitle\n----------\nText of it: see below.\n",
    "Title\n=====\n\nText.\n",
    "2 + 2 = 4, as everybody knows.\nThat is all.\n",
    "Dagar: mán.\n  Opið: 10-18\n",
    "...and so on\n",
    "12:30 to 14:00 the pool is closed;\nit opens again at 15:00.\n",
    "[Silence]\nShe leaves.\n",
    "E-mail: a@b.is\nSími: 555 1234\n",
    "i.e. this one\ne.g.: that one\n",
    "import of goods rose by 5%.\nexport fell.\n",
    "1. First\n2. Second\n",
    "> quoted\n> lines\n",
    "1. gr. Lögin gilda;\n2. gr. þó ekki;\n3. gr. um þetta;\n",
    "Staðan er 3:2.\nÞað er gott;\nmjög gott.\n",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_text(text: str) -> None:
    assert kind_by_start(text.encode()) is None


def test_files_that_the_command_takes(tmp_path: Path) -> None:
    for name in ("README", "letter.txt"):
        (tmp_path / name).write_text('{"a": "Hello"}')
        with pytest.raises(BadInput, match=rf"{name}: this is not plain text; found JSON; valid: .*--format text translates it line by line"):
            plan([str(tmp_path / name)], str(tmp_path / "out"), None)
        assert plan([str(tmp_path / name)], str(tmp_path / "out"), "text")[0].format.name == "text"
    (tmp_path / "x.py").write_text("a = 1\n")
    assert plan([str(tmp_path / "x.py")], str(tmp_path / "out"), "text")[0].format.name == "text"


@pytest.mark.parametrize(("name", "raw", "message"), [
    ("a.txt", b'{"a": "b"}', "file: this is not plain text; found JSON; valid: the ending of its format: .txt, .md"),
    ("requirements.txt", b"torch", "file: files of this kind are not translated; found settings"),
    ("page.adoc", b"a", "file: files of this format are not translated; found .adoc"),
])  # fmt: skip
def test_files_that_the_service_refuses(name: str, raw: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_document(name, raw, parse_pair("en-is"), 1000, 10)
