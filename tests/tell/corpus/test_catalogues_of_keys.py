"""Catalogues whose originals are keys of a program are no corpus; those whose originals look a little like keys are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tell.corpus.readers.dispatch import groups, read_group
from tell.corpus.readers.segment import ReadOptions
from tell.errors import CorpusError
from tell.languages import parse_pair
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
