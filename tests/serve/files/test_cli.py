"""`tellmt translate`: one output line per input line, whatever the lines are; and what it says when it cannot."""

from __future__ import annotations

import gzip
import io
import json
import math
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import serve.files.local
import serve.files.remote
from serve.config import Limits
from tell.errors import EngineError, Overloaded, RequestError
from tell.model.engine import EngineOptions, Generation, Prompt
from tell.model.translator import Translator
from tell.text.placeholders import find_placeholders
from tellmt.cli import main
from tests.support.naughty_strings import naughty, naughty_lines
from tests.support.running import Upper, other_server, publish, serving


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Upper]:
    """The engines a command started."""
    started: list[Upper] = []

    def open_engine(name: str, options: EngineOptions) -> Upper:
        started.append(Upper(options))
        return started[-1]

    monkeypatch.setattr(serve.files.local, "open_engine", open_engine)
    return started


@pytest.fixture
def live(isolated: Path, engines: list[Upper]) -> Callable[..., str]:
    """Publish an adapter for a pair; returns its id."""
    return lambda pair="is-en", seed=0: publish(isolated, pair, seed)


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
    source, expected = LAYOUTS[name]
    live()
    (tmp_path / "in.txt").write_bytes(source)
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "-o", tmp_path / "out.txt")
    assert (code, out) == (0, b""), err
    assert (tmp_path / "out.txt").read_bytes() == expected
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.txt", "out.txt"]


def test_result_as_json(live: Callable[..., str], run: Callable[..., Any], engines: list[Upper], tmp_path: Path) -> None:
    id = live()
    (tmp_path / "in.txt").write_text("hestur\n\nENDLESS saga\nhestur\nSILENT\n")
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "-o", tmp_path / "out.txt", "--json")
    result = json.loads(out)
    assert code == 0 and result["seconds"] >= 0
    expected = {
        "segments": 5, "translated": 4, "blank": 1, "truncated": 1, "empty": 1, "failed": 0, "different": 3, "reused": 0, "kept": 0, "flagged": 2,
        "output": str(tmp_path / "out.txt"), "adapter": id, "adapters": [id], "pair": "is-en",
    }  # fmt: skip
    assert {k: result[k] for k in expected} == expected
    assert "cut at the length limit: line 3" in err and "returned nothing for line 5" in err
    assert (tmp_path / "out.txt").read_text() == "HESTUR\n\nENDLESS SAGA\nHESTUR\n\n"
    assert sum(b.count("hestur") for b in engines[0].batches) == 1 and engines[0].closed


def test_batches_hold_lines_of_like_length(live: Callable[..., str], run: Callable[..., Any], engines: list[Upper], tmp_path: Path) -> None:
    live()
    lines = ["o" * (1 + (i * 37) % 150) + str(i) for i in range(150)]
    (tmp_path / "in.txt").write_text("\n".join(lines))
    code, out, _ = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "--jobs", 1, "--tries", 0)
    assert code == 0 and out.decode() == "\n".join(lines).upper()
    batches = [b for b in engines[0].batches if b[0] in lines]
    assert [len(b) for b in batches] == [64, 64, 22]
    assert [len(s) for b in batches for s in b] == sorted(map(len, lines), reverse=True)


def test_line_breaks_of_the_engine_make_no_new_lines(live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    live()
    (tmp_path / "in.txt").write_text("BREAK\nhestur\n")
    code, out, _ = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en")
    assert (code, out) == (0, b"one two three\nHESTUR\n")


def test_long_lines_are_cut_at_their_sentences(live: Callable[..., str], run: Callable[..., Any], engines: list[Upper], tmp_path: Path) -> None:
    live()
    line = " ".join(f"Saga númer {i} er löng." for i in range(200))
    (tmp_path / "in.txt").write_text(f"hestur\n{line}\n")
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en")
    assert code == 0 and out.decode() == f"HESTUR\n{line.upper()}\n", err
    assert max(len(b) for b in engines[0].batches) > 10


def test_failed_lines_are_left_empty_and_named(live: Callable[..., str], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    live()
    real = Translator.prompt

    def prompt(self: Translator, source: str, *more: Any) -> Prompt:
        if "of langt" in source:
            raise RequestError("a segment is too long", found="9999 tokens")
        return real(self, source, *more)

    monkeypatch.setattr(Translator, "prompt", prompt)
    (tmp_path / "in.txt").write_text("hestur\nþetta er of langt\r\nfjall\n")
    code, out, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "-o", tmp_path / "out.txt", "--json")
    assert code == 3 and json.loads(out)["failed"] == 1 and json.loads(out)["translated"] == 2
    assert (tmp_path / "out.txt").read_bytes() == b"HESTUR\n\r\nFJALL\n"
    assert "in.txt, line 2: not translated, left empty: a segment is too long; found 9999 tokens" in err


def test_standard_input_and_output(live: Callable[..., str], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    live()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hestur\nfjall")))
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
    text_file = tmp_path / "in.txt"
    text_file.write_text("hestur\n")
    (tmp_path / "bad.txt").write_bytes(b"hestur\nfj\xe1ll\n")
    (tmp_path / "link.txt").symlink_to(text_file)
    (tmp_path / "hard.txt").hardlink_to(text_file)
    pair = ("--from", "is", "--to", "en")
    table: list[tuple[tuple[object, ...], int, str]] = [
        ((text_file, "--from", "xx-bad-code", "--to", "en"), 2, "--from: unknown language code; found 'xx-bad-code'"),
        ((text_file, "--from", "is", "--to", "icelandic!"), 2, "--to: unknown language code"),
        ((text_file, "--from", "en", "--to", "en"), 2, "source and target are the same language"),
        ((text_file, "--from", "en", "--to", "is"), 1, "no adapter is live for this pair; found en-is; valid: is-en"),
        ((tmp_path / "none.txt", *pair), 2, "no such file"),
        ((tmp_path, *pair), 2, "this is a directory"),
        ((tmp_path / "bad.txt", *pair), 2, "bad.txt, line 2, byte 9: not UTF-8; found 0xe1"),
        ((text_file, *pair, "-o", text_file), 2, "the output is the input"),
        ((text_file, *pair, "-o", tmp_path / "link.txt"), 2, "the output is the input"),
        ((text_file, *pair, "-o", tmp_path / "hard.txt"), 2, "the output is the input"),
        ((text_file, *pair, "-o", tmp_path / "no" / "out.txt"), 2, "no such directory"),
        ((text_file, *pair, "-o", tmp_path), 2, "the output is the input"),
        ((text_file, *pair, "-o", tmp_path / ("n" * 250)), 2, "the output cannot be written"),
        ((text_file, *pair, "--json"), 2, "cannot both go to standard output"),
        ((text_file, *pair, "--engine", "ctt2"), 2, "ct2 (did you mean this?)"),
        ((text_file, *pair, "--server", "localhost:8080"), 2, "not an address"),
        ((text_file, *pair, "--server", "http://"), 2, "not an address"),
    ]
    if Path("/proc/self").exists():
        table.append(((text_file, *pair, "-o", "/proc/out.txt"), 2, "the output cannot be written"))
    for args, exit_code, message in table:
        code, out, err = run("translate", *args)
        assert (code, out) == (exit_code, b"") and message in err, (args, code, err)
    assert text_file.read_text() == "hestur\n" and not any(e.batches for e in engines)


def test_an_empty_registry_says_what_to_do(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("hestur\n")
    for pair, exit_code in (((), 2), (("--from", "is", "--to", "en"), 1)):
        code, _, err = run("translate", tmp_path / "in.txt", *pair)
        assert code == exit_code and "tellmt publish" in err


def test_an_engine_that_dies_leaves_no_output(live: Callable[..., str], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


# Through a running server: the real application over the same engine.


@naughty
@pytest.mark.parametrize("through", ["a server", "an engine of its own"])
def test_naughty_strings(through: str, isolated: Path, live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    live()
    lines = naughty_lines(tmp_path / "in.txt")
    args: list[object] = ["translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "-o", tmp_path / "out.txt", "--json"]
    if through == "a server":
        with serving(isolated) as server:
            code, out, err = run(*args, "--server", server.url)
    else:
        code, out, err = run(*args)
    result = json.loads(out)
    assert code == 0, err
    assert (result["segments"], result["failed"]) == (515, 0) and result["translated"] + result["blank"] == 515
    translated = (tmp_path / "out.txt").read_bytes().decode().split("\n")
    assert translated.pop() == "" and len(translated) == 515
    # Only lines that are all ASCII: what capitals are elsewhere is Python's business.
    plain = [(m, line) for m, line in zip(translated, lines, strict=True) if line.isascii() and "\r" not in line and line.upper() != line]
    assert all(m.upper() == line.upper() for m, line in plain)
    # What keeps its letters small is markup, addresses, and data without a space.
    unchanged = [line for m, line in plain if m != line.upper()]
    assert len(plain) - len(unchanged) > 50 and all(find_placeholders(line) or len(line) > 500 for line in unchanged), unchanged
    assert [m for m, line in zip(translated, lines, strict=True) if not line.strip()] == [line for line in lines if not line.strip()]


def test_a_server_translates_in_batches_and_keeps_the_layout(isolated: Path, live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    id = live()
    lines = [f"  lína {i} " + "og " * (i % 40) if i % 7 else "" for i in range(200)]
    (tmp_path / "in.txt").write_bytes("\r\n".join(lines).encode())
    with serving(isolated) as server:
        code, out, err = run("translate", tmp_path / "in.txt", "--server", server.url, "-o", tmp_path / "out.txt", "--json")
        assert code == 0, err
        samples = [s for m in server.service.metrics.registry.collect() for s in m.samples if s.name == "tellmt_requests_total"]
        requests = sum(s.value for s in samples if s.labels["route"] == "/api/v1/translate")
        assert requests == math.ceil(171 / 32), "32 lines a request"
    assert json.loads(out)["adapter"] == id and json.loads(out)["blank"] == 29
    assert (tmp_path / "out.txt").read_bytes() == "\r\n".join(lines).upper().encode()


def test_a_server_without_the_pair(isolated: Path, live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    live()
    (tmp_path / "in.txt").write_text("hestur\n")
    with serving(isolated) as server:
        code, _, err = run("translate", tmp_path / "in.txt", "--from", "fo", "--to", "en", "--server", server.url)
    assert code == 1 and "no adapter is live for this pair; found fo-en; valid: is-en" in err


def test_a_busy_server(isolated: Path, live: Callable[..., str], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    live()
    monkeypatch.setattr(serve.files.remote, "WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(serve.files.remote, "LONGEST_WAIT", 0.05)
    # One segment, so each problem is met by a request of its own.
    (tmp_path / "in.txt").write_text("hestur\n")
    with serving(isolated) as server:
        server.engine.problems = [Overloaded("too many segments are waiting"), EngineError("the engine is starting again")]
        code, out, err = run("translate", tmp_path / "in.txt", "--server", server.url)
        assert (code, out) == (0, b"HESTUR\n") and "too many segments are waiting; trying again in 0.05 s" in err
        server.engine.problems = [EngineError("the engine has died")] * 99
        # Another one: what was translated once is in the cache.
        (tmp_path / "in.txt").write_text("fjall\n")
        code, out, err = run("translate", tmp_path / "in.txt", "--server", server.url, "-o", tmp_path / "out.txt")
    assert code == 1 and "gave up after 4 tries; found the engine has died" in err and not (tmp_path / "out.txt").exists()


def test_the_line_at_fault_is_found(isolated: Path, live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    live()
    lines = [f"lína {i}" for i in range(40)]
    lines[20] = "of langt " * 200
    (tmp_path / "in.txt").write_text("\n".join(lines))
    with serving(isolated, Limits(context=2048, characters=1000)) as server:
        code, out, err = run("translate", tmp_path / "in.txt", "--server", server.url, "-o", tmp_path / "out.txt", "--json")
    assert code == 3 and json.loads(out)["failed"] == 1
    assert "in.txt, line 21: not translated, left empty: too much text in one request" in err
    lines[20] = " "
    assert (tmp_path / "out.txt").read_text() == "\n".join(lines).upper()


def test_a_new_version_meanwhile_is_told(isolated: Path, live: Callable[..., str], run: Callable[..., Any], tmp_path: Path) -> None:
    first = live()
    (tmp_path / "in.txt").write_text("\n".join(f"lína {i}" for i in range(100)))
    second: list[str] = []
    with serving(isolated) as server:

        def change() -> None:
            second.append(live(seed=1))
            deadline = time.monotonic() + 20
            while server.service.versions.live["is-en"].adapter.id != second[0]:
                assert time.monotonic() < deadline
                time.sleep(0.01)

        server.engine.after_first = change
        code, out, err = run("translate", tmp_path / "in.txt", "--server", server.url, "-o", tmp_path / "out.txt", "--jobs", 2, "--json")
    assert code == 0 and json.loads(out)["adapters"] == [first, second[0]]
    assert f"another version went live meanwhile: {first[:12]}, {second[0][:12]} answered" in err


def test_no_server_there(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve.files.remote, "FIRST_WAITS", (0.01,))
    (tmp_path / "in.txt").write_text("hestur\n")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        code, _, err = run("translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "--server", url)
        assert code == 1 and f"{url}: gave up after 2 tries" in err and "tellmt serve" in err
    with other_server() as url:
        code, _, err = run("translate", tmp_path / "in.txt", "--server", url)
        assert code == 2 and f"{url}: no tellmt server answers here; found HTTP status 404 for /languages" in err


def test_quality_best_by_an_engine_of_its_own_and_by_a_server(
    live: Callable[..., str], engines: list[Upper], run: Callable[..., Any], isolated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The greedy line is alone, the candidates agree; and one that lost its placeholder is not taken, though most did."""
    from serve.translation.decoder import CANDIDATES

    generate = Upper.generate

    async def drawn(self: Upper, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        generations = await generate(self, prompts, adapter_id)
        seeds = [p.sampling.seed if p.sampling else 0 for p in prompts]
        texts = [
            g.text.replace("GULT", "RAUTT" if seed else "GULT").replace("{nafn}", "{nafn}" if seed == 3 else "")
            for g, seed in zip(generations, seeds, strict=True)
        ]
        return [Generation(t, g.tokens, g.finish) for t, g in zip(texts, generations, strict=True)]

    def answer(self: Upper, source: str, adapter_id: str | None) -> Generation:
        return Generation(source.upper().replace("{NAFN}", "{nafn}") if adapter_id else source, len(source), "stop")

    monkeypatch.setattr(Upper, "generate", drawn)
    monkeypatch.setattr(Upper, "answer", answer)
    live()
    file = tmp_path / "in.txt"
    file.write_text("húsið er gult\n\n  sæl {nafn} mín\n")
    best, fast = b"H\xc3\x9aSI\xc3\x90 ER RAUTT\n\n  S\xc3\x86L {nafn} M\xc3\x8dN\n", b"H\xc3\x9aSI\xc3\x90 ER GULT\n\n  S\xc3\x86L  M\xc3\x8dN\n"
    assert run("translate", file, "--tries", 0)[1] == fast
    assert run("translate", file, "--quality", "best")[1] == best
    assert len([b for b in engines[-1].batches if "húsið er gult" in b]) == CANDIDATES
    with serving(isolated) as server:
        assert run("translate", file, "--quality", "best", "--server", server.url)[1] == best
    code, _, err = run("translate", file, "--quality", "good")
    assert code == 2 and "--quality" in err and "best" in err
