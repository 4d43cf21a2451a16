"""`tellmt pair add` says in its first lines how much of the files is a machine's, and passes the option on to `corpus build`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tellmt.pair.add
from tell.languages import parse_pair
from tests.conftest import Ran


def test_the_first_lines_name_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def run_command(step: str, words: list[str]) -> dict[str, Any]:
        commands.append(words)
        return {"read": 100, "kept": 40, "dropped": {"machine output: tellmt, translated": 55, "fuzzy": 5}, "splits": {"train": {"pairs": 40}}}

    monkeypatch.setattr(tellmt.pair.add, "run_command", run_command)
    pair = parse_pair("fo-en")
    workspace: Any = SimpleNamespace(pair=pair, directory_of=lambda direction: tmp_path / str(direction))
    settings: Any = SimpleNamespace(files=[SimpleNamespace(name="a.tmx")], base="tiny", reading={"--with-machine-output": [], "--off": ["ratio"]}, against=[])
    tellmt.pair.add._build_corpus(workspace, settings, {"a.tmx": Path("a.tmx")}, pair, None)
    lines = capsys.readouterr().err.split("\n")
    assert lines[1] == (
        "  left out as machine output that nobody confirmed: 60 of 100 pairs (tellmt, translated: 55; fuzzy: 5); that is more than half: "
        "--with-machine-output takes it all the same"
    )
    assert commands[0][-3:] == ["--with-machine-output", "--off", "ratio"]


@pytest.mark.parametrize(
    ("options", "reading"), [((), {}), (("--with-machine-output",), {"--with-machine-output": []}), (("--sheet", "A"), {"--sheet": ["A"]})]
)
def test_the_option_is_passed_on(here: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], reading: dict[str, list[str]]) -> None:
    added: list[Any] = []

    def add_pair(options: Any, workspace: Any) -> dict[str, Any]:
        added.append(options)
        return {"pair": "fo-en", "directions": {}, "notes": []}

    monkeypatch.setattr(tellmt.pair.add, "add_pair", add_pair)
    monkeypatch.setattr(tellmt.pair.add, "result_table", lambda result: None)
    Path("a.tmx").write_text("<tmx/>", encoding="utf-8")
    here("pair", "add", "fo-en", "a.tmx", *options, "--json")
    assert added[0].reading == reading
