"""`tellmt translate --glossary FILE`, with an engine of its own and through a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import serve.files.local
from serve.config import Limits
from serve.files.local import UNHINTED
from tell.errors import EngineError
from tell.model.engine import EngineOptions, EngineTraits
from tell.registry.registry import Registry
from tellmt.cli import main
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.hint_engine import HintEngine, hinted_adapter
from tests.support.serving import publish, running


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[HintEngine]:
    started: list[HintEngine] = []

    def open_engine(name: str, options: EngineOptions) -> HintEngine:
        started.append(HintEngine(options))
        return started[-1]

    monkeypatch.setattr(serve.files.local, "open_engine", open_engine)
    return started


@pytest.fixture
def run(isolated: Path, engines: list[HintEngine], capfdbinary: Any) -> Callable[..., tuple[int, str, str]]:
    base = light_base(isolated / "cache")
    publish(Registry(), hinted_adapter(isolated / "is-en", base))
    publish(Registry(), light_adapter(isolated / "fo-en", base, "fo-en"))

    def go(*args: object) -> tuple[int, str, str]:
        code = main(["translate", *map(str, args)])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return go


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    files = {name: tmp_path / name for name in ("in.txt", "terms.tsv", "terms.csv")}
    files["in.txt"].write_text("Hundurinn sefur\nsefur\nHundurinn\n", encoding="utf-8")
    files["terms.tsv"].write_text("hundurinn\tthe hound\n", encoding="utf-8")
    files["terms.csv"].write_text('hundurinn,"a pup"\n', encoding="utf-8")
    return files


def test_an_engine_of_its_own_follows_it(run: Callable[..., Any], files: dict[str, Path]) -> None:
    pair = (files["in.txt"], "--from", "is", "--to", "en")
    assert run(*pair)[1] == "the dog sleeps\nsleeps\nthe dog\n"
    assert run(*pair, "--glossary", files["terms.tsv"])[1] == "the hound sleeps\nsleeps\nthe hound\n"
    code, out, err = run(*pair, "--glossary", files["terms.csv"])
    assert (code, out) == (0, "a pup sleeps\nsleeps\na pup\n") and UNHINTED not in err


def test_a_server_follows_it(run: Callable[..., Any], files: dict[str, Path], isolated: Path) -> None:
    with running(light_base(isolated / "cache"), Registry(), HintEngine, Limits(context=2048)) as server:
        pair = (files["in.txt"], "--from", "is", "--to", "en", "--server", server.url)
        assert run(*pair, "--glossary", files["terms.tsv"])[1] == "the hound sleeps\nsleeps\nthe hound\n"
        # The server's cache has the translations of the other glossary, and gives none of them.
        assert run(*pair)[1] == "the dog sleeps\nsleeps\nthe dog\n"


def test_an_adapter_without_hints_says_so(run: Callable[..., Any], files: dict[str, Path], tmp_path: Path, isolated: Path) -> None:
    common = (files["in.txt"], "--from", "fo", "--to", "en", "--glossary", files["terms.tsv"], "-o", tmp_path / "out.txt", "--json")
    code, out, err = run(*common)
    assert code == 0 and UNHINTED in err and json.loads(out)["flags"]["glossary"] == 2
    with running(light_base(isolated / "cache"), Registry(), HintEngine, Limits(context=2048)) as server:
        code, out, err = run(*common, "--server", server.url)
    assert code == 0 and err.count(UNHINTED) == 1 and json.loads(out)["flags"]["glossary"] == 2


def test_a_run_goes_on_with_its_own_glossary(run: Callable[..., Any], files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    generate = HintEngine.generate

    async def broken(engine: HintEngine, prompts: Any, adapter_id: str | None) -> Any:
        if adapter_id and any("lokaorð" in engine._source(p) for p in prompts):
            raise EngineError("it broke")
        return await generate(engine, prompts, adapter_id)

    # Longest first, in batches of a few: the last word comes last.
    files["in.txt"].write_text("Hundurinn sefur enn\nlokaorð\n", encoding="utf-8")
    monkeypatch.setattr(serve.files.local, "traits_of", lambda _: EngineTraits(segments_per_call=1, calls_at_once=1))
    command = (files["in.txt"], "--from", "is", "--to", "en", "-o", tmp_path / "out.txt")
    with monkeypatch.context() as m:
        m.setattr(HintEngine, "generate", broken)
        assert run(*command)[0] == 1
    # A run with a glossary is another run, and the one without goes on as it was.
    code, _, err = run(*command, "--glossary", files["terms.tsv"])
    assert code == 0 and "going on" not in err and (tmp_path / "out.txt").read_text() == "the hound sleeps enn\nlokaorð\n"
    code, _, err = run(*command)
    assert code == 0 and "going on: 1 of 2 segments" in err and (tmp_path / "out.txt").read_text() == "the dog sleeps enn\nlokaorð\n"


def test_a_glossary_that_cannot_be_used(run: Callable[..., Any], files: dict[str, Path]) -> None:
    files["terms.tsv"].write_text("hundurinn\n", encoding="utf-8")
    code, _, err = run(files["in.txt"], "--from", "is", "--to", "en", "--glossary", files["terms.tsv"])
    assert code == 2 and "terms.tsv, line 1: not two columns" in err
