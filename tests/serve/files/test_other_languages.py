"""`tellmt translate` and catalogues of other languages: refused before any work, filled on demand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import serve.files.local
from tell.model.engine import EngineOptions
from tellmt.cli import main
from tests.support.batch_engine import Capitals
from tests.support.running import publish

PO = 'msgid ""\nmsgstr "Language: {}\\nContent-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "{}"\nmsgstr ""\n'


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, isolated: Path) -> list[Capitals]:
    publish(isolated, "en-is")
    publish(isolated, "de-is", 1)
    started: list[Capitals] = []

    def open_engine(name: str, options: EngineOptions) -> Capitals:
        started.append(Capitals(options))
        return started[-1]

    monkeypatch.setattr(serve.files.local, "open_engine", open_engine)
    return started


@pytest.fixture
def run(engines: list[Capitals], capfdbinary: Any) -> Callable[..., tuple[int, str]]:
    def go(*args: object) -> tuple[int, str]:
        code = main(["translate", *map(str, args)])
        sys.stdout.flush()
        return code, capfdbinary.readouterr().err.decode()

    return go


def test_it_is_refused_before_any_work(run: Callable[..., tuple[int, str]], engines: list[Capitals], tmp_path: Path) -> None:
    for name, language in (("a.po", "is"), ("b.po", "de")):
        (tmp_path / name).write_text(PO.format(language, "good morning"))
    code, err = run(tmp_path / "a.po", tmp_path / "b.po", "--from", "en", "--to", "is", "-o", tmp_path / "out")
    message = f"{tmp_path}/b.po, header, Language: this is a translation into another language; found de; valid: is; --force fills it all the same"
    assert code == 2 and message in err and not engines and not list((tmp_path / "out").iterdir())
    code, _ = run(tmp_path / "a.po", tmp_path / "b.po", "--from", "en", "--to", "is", "-o", tmp_path / "out", "--force")
    assert code == 0 and all('msgstr "GOOD MORNING"' in (tmp_path / "out" / name).read_text() for name in ("a.po", "b.po"))
    assert '"Language: is\\n"' in (tmp_path / "out" / "b.po").read_text()


def test_its_name_counts_where_the_header_says_nothing(run: Callable[..., tuple[int, str]], engines: list[Capitals], tmp_path: Path) -> None:
    (tmp_path / "de.po").write_text(PO.format("", "good morning"))
    code, err = run(tmp_path / "de.po", "--from", "en", "--to", "is", "-o", tmp_path / "out.po")
    assert code == 2 and "de.po, the file's name: this is a translation into another language; found de" in err and not engines


def test_files_of_several_pairs_are_looked_at_before_the_first_is_translated(
    run: Callable[..., tuple[int, str]], engines: list[Capitals], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("This is a letter in English, and it says nothing of importance to anybody.\n")
    (tmp_path / "b.po").write_text(PO.format("fo", "Dies ist ein Brief auf Deutsch, und er sagt niemandem etwas Wichtiges."))
    code, err = run(tmp_path / "a.txt", tmp_path / "b.po", "--from", "auto", "--to", "is", "-o", tmp_path / "out")
    assert code == 2 and "found fo; valid: is" in err and not engines and not list((tmp_path / "out").iterdir())
