"""`tellmt translate`: one output line per input line, whatever the lines are; and what it says when it cannot."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SHARED, Ran
from fake_eval_engine import light_adapter, light_base

import serve.local
import serve.remote
from tell.bases import Base
from tell.cli import main
from tell.engine import EngineOptions, Generation, Prompt
from tell.registry import Registry
from tell.tokens import Tokens
from tell.translate import Translator


class Upper:
    """An engine whose adapters write in capitals; its bare base repeats the source."""

    name = "upper"

    def __init__(self, options: EngineOptions):
        self.base, self.options, self.tokens = options.base, options, Tokens(options.base)
        self.batches: list[list[str]] = []
        self.closed = False

    async def start(self) -> None: ...
    async def load(self, adapter_id: str, path: Path) -> None: ...
    async def unload(self, adapter_id: str) -> None: ...
    def loaded(self) -> list[str]:
        return []

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None:
        self.closed = True

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        sources = [self.tokens.decode(list(p.ids)).split("\n\n")[1] for p in prompts]
        if adapter_id is not None:
            self.batches.append(sources)
        await asyncio.sleep(0)
        return [self.answer(s, adapter_id) for s in sources]

    def answer(self, source: str, adapter_id: str | None) -> Generation:
        if "BREAK" in source:
            return Generation("one\u2028two\rthree", 3, "stop")
        if "SILENT" in source:
            return Generation("", 0, "stop")
        return Generation(source.upper() if adapter_id else source, len(source), "length" if "ENDLESS" in source else "stop")


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Upper]:
    """The engines a command started."""
    started: list[Upper] = []

    def open_engine(name: str, options: EngineOptions) -> Upper:
        started.append(Upper(options))
        return started[-1]

    monkeypatch.setattr(serve.local, "open_engine", open_engine)
    return started


@pytest.fixture
def live(isolated: Path, engines: list[Upper]) -> Callable[..., str]:
    """Publish an adapter for a pair; returns its id."""

    def publish(pair: str = "is-en", seed: int = 0) -> str:
        base: Base = light_base(isolated / "cache")
        adapter = light_adapter(isolated / f"{pair}-{seed}", base, pair, seed)
        registry = Registry()
        id = registry.add(adapter.path, adapter.card)
        registry.promote(pair, id, "for this test")
        return id

    return publish


@pytest.fixture
def run(capfdbinary: Any) -> Callable[..., tuple[int, bytes, str]]:
    """Run a command in this process, where the engine is a fake."""

    def go(*args: object) -> tuple[int, bytes, str]:
        code = main([*map(str, args)])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return code, out, err.decode()

    return go


LAYOUTS = {
    "plain": (b"hestur\nfjall\n", b"HESTUR\nFJALL\n"),
    "no final line feed": (b"hestur\nfjall", b"HESTUR\nFJALL"),
    "blank lines": (b"\n\nhestur\n \t \n\nfjall\n\n", b"\n\nHESTUR\n \t \n\nFJALL\n\n"),
    "CRLF": (b"hestur\r\n\r\nfjall\r\n", b"HESTUR\r\n\r\nFJALL\r\n"),
    "mixed ends": (b"hestur\r\nfjall\nskip", b"HESTUR\r\nFJALL\nSKIP"),
    "indented": (b"  hestur  \n\tfjall\n", b"  HESTUR  \n\tFJALL\n"),
    "BOM": (b"\xef\xbb\xbfhestur\n", b"\xef\xbb\xbfHESTUR\n"),
    "empty": (b"", b""),
    "one line feed": (b"\n", b"\n"),
    "separators are text": ("a\u2028b\x85c\n".encode(), "A\u2028B\x85C\n".encode()),
    "equal lines": (b"hestur\nfjall\nhestur\n", b"HESTUR\nFJALL\nHESTUR\n"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_kept(name: str, live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    given, wanted = LAYOUTS[name]
    live()
    (tmp_path / "in.txt").write_bytes(given)
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "-o", tmp_path / "out.txt")
    assert (code, out) == (0, b""), err
    assert (tmp_path / "out.txt").read_bytes() == wanted
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.txt", "out.txt"]


def test_result_as_json(live: Callable[..., str], run: Callable[..., Any], engines: list[Upper], tmp_path: Path) -> None:
    id = live()
    (tmp_path / "in.txt").write_text("hestur\n\nENDLESS saga\nhestur\nSILENT\n")
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "-o", tmp_path / "out.txt", "--json")
    result = json.loads(out)
    assert code == 0 and result.pop("seconds") >= 0
    assert result == {
        "segments": 5, "translated": 4, "blank": 1, "truncated": 1, "empty": 1, "failed": 0,
        "output": str(tmp_path / "out.txt"), "adapter": id, "adapters": [id],
    }  # fmt: skip
    assert "cut at the length limit: line 3" in err and "returned nothing for line 5" in err
    assert (tmp_path / "out.txt").read_text() == "HESTUR\n\nENDLESS SAGA\nHESTUR\n\n"
    assert sum(b.count("hestur") for b in engines[0].batches) == 1 and engines[0].closed


def test_batches_hold_lines_of_like_length(live: Callable[..., str], run: Callable[..., Any], engines: list[Upper], tmp_path: Path) -> None:
    live()
    lines = ["o" * (1 + (i * 37) % 150) + str(i) for i in range(150)]
    (tmp_path / "in.txt").write_text("\n".join(lines))
    code, out, _ = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en")
    assert code == 0 and out.decode() == "\n".join(lines).upper()
    batches = [b for b in engines[0].batches if b[0] in lines]
    assert [len(b) for b in batches] == [64, 64, 22]
    assert [len(s) for b in batches for s in b] == sorted(map(len, lines), reverse=True)


def test_line_breaks_of_the_engine_make_no_new_lines(live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    live()
    (tmp_path / "in.txt").write_text("BREAK\nhestur\n")
    code, out, _ = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en")
    assert (code, out) == (0, b"one two three\nHESTUR\n")


def test_a_line_longer_than_the_context_is_cut_at_its_sentences(live: Callable[..., str], run: Callable[..., Any], engines: list[Upper], tmp_path: Path) -> None:
    live()
    line = " ".join(f"Saga númer {i} er löng." for i in range(200))
    (tmp_path / "in.txt").write_text(f"hestur\n{line}\n")
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en")
    assert code == 0 and out.decode() == f"HESTUR\n{line.upper()}\n", err
    assert max(len(b) for b in engines[0].batches) > 10


def test_failed_lines_are_left_empty_and_named(live: Callable[..., str], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    live()
    real = Translator.prompt

    def prompt(self: Translator, source: str) -> Prompt:
        from tell.errors import RequestError

        if "of langt" in source:
            raise RequestError("a segment is too long", found="9999 tokens")
        return real(self, source)

    monkeypatch.setattr(Translator, "prompt", prompt)
    (tmp_path / "in.txt").write_text("hestur\nþetta er of langt\r\nfjall\n")
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "-o", tmp_path / "out.txt", "--json")
    assert code == 3 and json.loads(out)["failed"] == 1 and json.loads(out)["translated"] == 2
    assert (tmp_path / "out.txt").read_bytes() == b"HESTUR\n\r\nFJALL\n"
    assert "in.txt, line 2: not translated, left empty: a segment is too long; found 9999 tokens" in err


def test_standard_input_and_output(live: Callable[..., str], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    live()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("hestur\nfjall".encode())))
    assert run("translate", "-", "--from", "is", "--to", "en", "-o", "-")[:2] == (0, b"HESTUR\nFJALL")


def test_gzip_in_and_out(live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    live()
    (tmp_path / "in.gz").write_bytes(gzip.compress(b"hestur\n"))
    assert run("translate", tmp_path / "in.gz", "--from", "is", "--to", "en", "-o", tmp_path / "out.gz")[0] == 0
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == b"HESTUR\n"


def test_languages_may_be_left_out_where_one_pair_fits(live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("hestur\n")
    live("is-en")
    assert run("translate", tmp_path / "in.txt")[:2] == (0, b"HESTUR\n")
    live("is-fo")
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is")
    assert (code, out) == (2, b"") and "--to needed" in err and "is-en, is-fo" in err
    assert run("translate", tmp_path / "in.txt", "--to", "fo")[:2] == (0, b"HESTUR\n")


def test_output_through_a_link_and_into_a_device(live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    live()
    (tmp_path / "in.txt").write_text("hestur\n")
    (tmp_path / "real.txt").write_text("old\n")
    (tmp_path / "link.txt").symlink_to("real.txt")
    assert run("translate", tmp_path / "in.txt", "-o", tmp_path / "link.txt")[0] == 0
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "HESTUR\n"
    assert run("translate", tmp_path / "in.txt", "-o", "/dev/null")[0] == 0
    assert Path("/dev/null").is_char_device()


def test_bad_input_is_refused_before_any_work(live: Callable[..., str], run: Callable[..., Any], engines: list[Upper], tmp_path: Path) -> None:
    live()
    good = tmp_path / "in.txt"
    good.write_text("hestur\n")
    (tmp_path / "bad.txt").write_bytes(b"hestur\nfj\xe1ll\n")
    (tmp_path / "link.txt").symlink_to(good)
    (tmp_path / "hard.txt").hardlink_to(good)
    pair = ("--from", "is", "--to", "en")
    table: list[tuple[tuple[object, ...], int, str]] = [
        ((good, "--from", "xx-bad-code", "--to", "en"), 2, "--from: unknown language code; found 'xx-bad-code'"),
        ((good, "--from", "is", "--to", "icelandic!"), 2, "--to: unknown language code"),
        ((good, "--from", "en", "--to", "en"), 2, "source and target are the same language"),
        ((good, "--from", "en", "--to", "is"), 1, "no adapter is live for this pair; found en-is; valid: is-en"),
        ((tmp_path / "none.txt", *pair), 2, "no such file"),
        ((tmp_path, *pair), 2, "this is a directory"),
        ((tmp_path / "bad.txt", *pair), 2, "bad.txt, line 2, byte 9: not UTF-8; found 0xe1"),
        ((good, *pair, "-o", good), 2, "the output is the input"),
        ((good, *pair, "-o", tmp_path / "link.txt"), 2, "the output is the input"),
        ((good, *pair, "-o", tmp_path / "hard.txt"), 2, "the output is the input"),
        ((good, *pair, "-o", tmp_path / "no" / "out.txt"), 2, "no such directory"),
        ((good, *pair, "-o", tmp_path), 2, "this is a directory"),
        ((good, *pair, "-o", tmp_path / ("n" * 250)), 2, "the output cannot be written"),
        ((good, *pair, "--json"), 2, "cannot both go to standard output"),
        ((good, *pair, "--engine", "ctt2"), 2, "ct2 (did you mean this?)"),
        ((good, *pair, "--server", "localhost:8080"), 2, "not an address"),
        ((good, *pair, "--server", "http://"), 2, "not an address"),
    ]
    if Path("/proc/self").exists():
        table.append(((good, *pair, "-o", "/proc/out.txt"), 2, "the output cannot be written"))
    for args, wanted, message in table:
        code, out, err = run("translate", *args)
        assert (code, out) == (wanted, b"") and message in err, (args, code, err)
    assert good.read_text() == "hestur\n" and not any(e.batches for e in engines)


def test_an_empty_registry_says_what_to_do(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("hestur\n")
    for pair, wanted in (((), 2), (("--from", "is", "--to", "en"), 1)):
        code, _, err = run("translate", tmp_path / "in.txt", *pair)
        assert code == wanted and "tellmt publish" in err


def test_an_engine_that_dies_leaves_no_output(live: Callable[..., str], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tell.errors import EngineError

    live()
    real = Upper.generate

    async def generate(self: Upper, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        if len(self.batches) == 2:
            raise EngineError("the engine has died")
        return await real(self, prompts, adapter_id)

    monkeypatch.setattr(Upper, "generate", generate)
    (tmp_path / "in.txt").write_text("\n".join(f"hestur {i}" for i in range(200)))
    (tmp_path / "out.txt").write_text("from before\n")
    code, _, err = run("translate", tmp_path / "in.txt", "-o", tmp_path / "out.txt")
    assert code == 1 and "the engine has died" in err
    assert (tmp_path / "out.txt").read_text() == "from before\n" and len(list(tmp_path.iterdir())) == 2
