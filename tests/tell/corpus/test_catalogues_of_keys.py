"""Catalogues whose originals are keys of a program are no corpus; those whose originals look a little like keys are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tell.corpus.readers.dispatch import groups, read_group
from tell.corpus.readers.segment import ReadOptions
from tell.errors import CorpusError
from tell.languages import parse_pair
from tests.conftest import Ran
from tests.support import corpora

TEXTS = ["Skrá", "Opna skrá", "Loka glugganum", "Skráin fannst ekki", "Ertu viss?", "Vista"]


def read(keys: str, texts: list[str]) -> list[tuple[str, str]]:
    Path("is.po").write_bytes(corpora.po(list(zip(texts, keys.split(","), strict=True))))
    (group,) = groups((Path("is.po"),))
    return [(s.source, s.target) for s in read_group(group, ReadOptions(parse_pair("en-is")), group.reading())]


@pytest.mark.parametrize(
    "keys",
    ["menu.file,menu.file.open,window.close,error.notFound,dialog.sure,menu.save", "MENU_FILE,MENU_OPEN,WINDOW_CLOSE,NOT_FOUND,ARE_YOU_SURE,SAVE_FILE",
     "menuFile,menuOpen,closeWindow,notFound,areYouSure,saveFile", "file,open_file,close,not_found,are_you_sure,save",
     "ui:file,ui:open,ui:close,ui:missing,ui:sure,ui:save"],
)  # fmt: skip
def test_keys_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=r"the originals of this catalogue are keys, no texts"):
        read(keys, TEXTS)


@pytest.mark.parametrize(
    ("originals", "texts"),
    [("File,Open file,Close the window,The file was not found,Are you sure?,Save", TEXTS), ("file,open,close,missing,sure,save", TEXTS),
     ("e-mail,Wi-Fi,and/or,Open the file,Close the window,Save it", TEXTS),
     ("gnome-terminal,libc-bin,man-db,perl-base,File,Open", ["gnome-terminal", "libc-bin", "man-db", "perl-base", *TEXTS[:2]])],
)  # fmt: skip
def test_texts_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, originals: str, texts: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(originals, texts) == list(zip(originals.split(","), texts, strict=True))


def test_of_a_program_in_many_languages_the_catalogue_of_the_pair_is_read(here: Callable[..., Ran]) -> None:
    Path("po").mkdir()
    for name, language in (("is", "is"), ("de", "de"), ("app", "")):
        Path(f"po/{name}.po").write_bytes(corpora.po(corpora.pairs(40), language).replace(b"Language: \\n", b"X: \\n"))
    Path("po/app.po").rename("po/app.pot")
    options = ("--off", "near-duplicate", "--dev", 0, "--test", 0, "-o", "c", "--json")
    done = here("corpus", "build", "po", "--pair", "is-en", *options)
    assert done.json["kept"] == 40 and "po/de.po: passed over: this catalogue is in another language; found de" in done.err
    refused = here("corpus", "build", "po/de.po", "--pair", "is-en", *options, ok=False)
    assert "this catalogue is in another language; found de" in refused.err
    Path("po/is.po").unlink()
    Path("po/app.pot").unlink()
    assert "no file here is of both languages" in here("corpus", "build", "po", "--pair", "is-en", *options, ok=False).err


@pytest.mark.parametrize(("name", "header"), [("app-is", ""), ("app", ""), ("web", ""), ("is", ""), ("app", "is_IS"), ("django.is", "")])
def test_names_of_catalogues(tmp_path: Path, name: str, header: str) -> None:
    path = tmp_path / f"{name}.po"
    path.write_text(f'msgid ""\nmsgstr ""\n"Language: {header}\\n"\n\nmsgid "A horse"\nmsgstr "Hestur"\n', encoding="utf-8")
    (group,) = groups((path,))
    assert [(s.source, s.target) for s in read_group(group, ReadOptions(parse_pair("is-en")), group.reading())] == [("Hestur", "A horse")]
