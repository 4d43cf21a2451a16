"""`tellmt translate` over files of many formats: what is reused, reported, resumed and refused. The engine writes in capitals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import serve.files.local
import serve.files.remote
from serve.config import Limits
from serve.files.runner import batches
from serve.files.segment_store import SHARD_SIZE, SegmentResult, SegmentStore, Shard
from tell.errors import EngineError, TellmtError
from tell.model.engine import EngineOptions, Generation, Prompt
from tell.model.translator import Translator
from tellmt.cli import main
from tests.conftest import ROOT
from tests.support.batch_engine import Capitals
from tests.support.formats_fixture import members
from tests.support.running import publish, serving

GOLDEN = ROOT / "tests" / "golden" / "files"
PAIR = ("--from", "en", "--to", "is")
Run = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, isolated: Path) -> list[Capitals]:
    """The engines a command started, with a pair live."""
    publish(isolated, "en-is")
    started: list[Capitals] = []

    def open_engine(name: str, options: EngineOptions) -> Capitals:
        started.append(Capitals(options))
        return started[-1]

    monkeypatch.setattr(serve.files.local, "open_engine", open_engine)
    return started


@pytest.fixture
def run(engines: list[Capitals], capfdbinary: Any) -> Run:
    def go(*args: object) -> tuple[int, bytes, str]:
        code = main(["translate", *map(str, args)])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err, err.decode()
        return code, out, err.decode()

    return go


def states(home: Path) -> list[Path]:
    """What runs have left in the cache."""
    root = home / "cache" / "translate"
    return list(root.iterdir()) if root.exists() else []


def test_files_of_all_formats_into_a_directory(run: Run, engines: list[Capitals], isolated: Path, tmp_path: Path) -> None:
    names = [p.name for p in sorted(GOLDEN.iterdir()) if p.is_file() and p.name != "table.tsv"]
    out = tmp_path / "out"
    code, stdout, err = run(*(GOLDEN / n for n in names), *PAIR, "--tries", 0, "-o", out, "--json", "--report", tmp_path / "report.json")
    assert code == 0, err
    for name in names:
        output, expected = (out / name).read_bytes(), (GOLDEN / "translated" / name).read_bytes()
        assert members(output) == members(expected) if name.endswith((".docx", ".xlsx")) else output == expected, name
    result, report = json.loads(stdout), json.loads((tmp_path / "report.json").read_text())
    assert [f["file"] for f in result["files"]] == [str(GOLDEN / n) for n in names] and result["failed"] == 0
    assert {"kept": result["kept"], "warnings": result["warnings"]} == {"kept": 4, "warnings": 2}
    assert sum(f["segments"] for f in result["files"]) == result["segments"] == report["segments"]
    assert "film.srt: begins before the one before it ends: cue 2, line 7" in err
    # What stands in several places, in several files, was translated once; the longest first.
    assert max(Counter(engines[0].sources).values()) == 1
    assert states(isolated) == []


def test_what_is_flagged_is_tried_again_and_reported(run: Run, engines: list[Capitals], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def answer(self: Capitals, source: str, adapter_id: str | None) -> Generation:
        # Loses what it does not know, unless it stands alone.
        return Generation(source if adapter_id is None else "Sæll" if "%s" in source else source.upper(), 3, "stop")

    monkeypatch.setattr(Capitals, "answer", answer)
    (tmp_path / "a.txt").write_text("Good %s morning\nNumber 47 is here | so\n")
    code, out, _ = run(tmp_path / "a.txt", *PAIR)
    assert (code, out) == (0, b"GOOD %s MORNING\nNUMBER 47 IS HERE | SO\n"), "put together around the placeholder"
    (tmp_path / "b.txt").write_text("Good %s morning\nNumber 47 is here | so\n")
    code, out, err = run(tmp_path / "b.txt", *PAIR, "--tries", 0, "--report", tmp_path / "r.md", "-o", tmp_path / "out.txt", "--json")
    assert code == 0 and json.loads(out)["flags"] == {"copied": 1, "placeholder": 1} and "2 flagged" in err
    report = (tmp_path / "r.md").read_text()
    assert f"| {tmp_path}/b.txt, line 1 | placeholder | Good %s morning | Sæll |" in report and "| copied | 1 |\n| placeholder | 1 |" in report


def test_segments_of_a_corpus_are_taken_from_it(run: Run, engines: list[Capitals], tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    assert main(["corpus", "build", str(ROOT / "examples" / "en-is" / "everyday.tsv"), "--pair", "is-en", "-o", str(corpus)]) == 0
    first, second = [json.loads(line) for line in (corpus / "pairs.jsonl").read_text().split("\n")[:2]]
    (tmp_path / "a.txt").write_text(f"{first['target']}\nGood evening\n- {second['target']}\n")
    code, out, err = run(tmp_path / "a.txt", *PAIR, "--tries", 0, "--corpus", corpus, "-o", tmp_path / "out.txt", "--json")
    assert code == 0 and (tmp_path / "out.txt").read_text() == f"{first['source']}\nGOOD EVENING\n- {second['source']}\n"
    assert json.loads(out[out.index(b'{"adapter"') :])["reused"] == 2 and "2 from the corpus" in err and engines[0].sources == ["Good evening"]
    xliff = f'<xliff version="1.2"><file><trans-unit id="1"><source>{first["target"]}</source></trans-unit></file></xliff>'
    (tmp_path / "a.xlf").write_text(xliff)
    assert run(tmp_path / "a.xlf", *PAIR, "--corpus", corpus, "-o", tmp_path / "o.xlf")[0] == 0
    assert f'state-qualifier="exact-match">{first["source"]}</target>' in (tmp_path / "o.xlf").read_text() and len(engines) == 1
    code, _, err = run(tmp_path / "a.txt", "--from", "is", "--to", "fo", "--corpus", corpus, "-o", "-")
    assert code == 2 and "the corpus is of another pair; found is-en; valid: is-fo" in err


def test_auto_finds_the_language_of_each_file(run: Run, engines: list[Capitals], isolated: Path, tmp_path: Path) -> None:
    publish(isolated, "fo-is", 1)
    publish(isolated, "de-is", 2)
    (tmp_path / "e.txt").write_text("This is a letter in English, and it says nothing of importance to anybody.\n")
    (tmp_path / "d.md").write_text("# Dies ist ein Brief auf Deutsch, und er sagt niemandem etwas Wichtiges.\n")
    (tmp_path / "i.txt").write_text("Þetta er bréf á íslensku og í því stendur ekkert sem máli skiptir.\n")
    code, out, _ = run(tmp_path / "e.txt", tmp_path / "d.md", "--from", "auto", "--to", "is", "-o", tmp_path / "out", "--json")
    assert code == 0 and [(r["pair"], r["segments"]) for r in json.loads(out)["pairs"]] == [("en-is", 1), ("de-is", 1)]
    assert (tmp_path / "out" / "d.md").read_text().startswith("# DIES IST EIN BRIEF")
    code, _, err = run(tmp_path / "i.txt", "--from", "auto", "--to", "is")
    assert code == 1 and "the file is in the target language already; found is" in err
    assert "--to needed with --from auto" in run(tmp_path / "e.txt", "--from", "auto")[2]


def test_a_pipe_in_any_format(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for format in ("po", "docx"):
        name = {"po": "menu.po", "docx": "letter.docx"}[format]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((GOLDEN / name).read_bytes())))
        code, out, err = run("-", *PAIR, "--tries", 0, "--format", format)
        expected = (GOLDEN / "translated" / name).read_bytes()
        assert code == 0 and (out == expected if format == "po" else members(out) == members(expected)), err


def test_a_dry_run_counts_and_writes_nothing(run: Run, engines: list[Capitals], tmp_path: Path) -> None:
    lines = [f"Line number {i} of {'a ' * (i % 30)}file" for i in range(500)]
    (tmp_path / "a.txt").write_text("\n".join(lines + lines[:50]))
    code, out, err = run(tmp_path / "a.txt", *PAIR, "-o", tmp_path / "out.txt", "--dry-run", "--json", "--tries", 0)
    estimate = json.loads(out)
    assert code == 0 and (estimate["segments"], estimate["different"], estimate["characters"]) == (550, 500, sum(map(len, lines + lines[:50]))), err
    assert estimate["seconds"] >= 0 and "550 segments, 500 different to translate" in err and not (tmp_path / "out.txt").exists()
    assert 60 <= len(engines[0].sources) <= 70
    sizes = [len(t) for t in engines[0].sources]
    assert max(sizes) - min(sizes) > 50
    # What it translated is not translated again.
    assert run(tmp_path / "a.txt", *PAIR, "-o", tmp_path / "out.txt", "--tries", 0)[0] == 0
    assert sorted(engines[0].sources + engines[1].sources) == sorted(lines)


def test_only_what_is_not_translated_unless_all(run: Run, tmp_path: Path) -> None:
    po = 'msgid ""\nmsgstr "Language: is\\nContent-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "one"\nmsgstr "einn"\n\nmsgid "two"\nmsgstr ""\n'
    (tmp_path / "a.po").write_text(po)
    assert run(tmp_path / "a.po", *PAIR, "-o", tmp_path / "b.po")[0] == 0
    assert (tmp_path / "b.po").read_text() == po.replace('msgid "two"\nmsgstr ""', '#, fuzzy\nmsgid "two"\nmsgstr "TWO"')
    assert run(tmp_path / "b.po", *PAIR, "--all", "-o", tmp_path / "c.po")[0] == 0
    assert 'msgid "one"\nmsgstr "ONE"' in (tmp_path / "c.po").read_text() and (tmp_path / "c.po").read_text().count("#, fuzzy") == 2


def test_what_failed_is_named_and_tried_again(run: Run, engines: list[Capitals], monkeypatch: pytest.MonkeyPatch, isolated: Path, tmp_path: Path) -> None:
    from tell.errors import RequestError

    real = Translator.prompt

    def prompt(self: Translator, source: str, *more: Any) -> Prompt:
        if "too long" in source:
            raise RequestError("a segment is too long", found="9999 tokens")
        return real(self, source, *more)

    (tmp_path / "a.jsonl").write_text('{"text": "one"}\nrubbish\n{"text": "this is too long"}\n')
    (tmp_path / "b.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nthis is too long\n")
    with monkeypatch.context() as m:
        m.setattr(Translator, "prompt", prompt)
        code, out, err = run(tmp_path / "a.jsonl", tmp_path / "b.srt", *PAIR, "-o", tmp_path / "out", "--json")
    assert code == 3 and json.loads(out)["failed"] == 3
    assert "a.jsonl, line 2: left as it is: not JSON: Expecting value" in err
    assert "a.jsonl, line 3: not translated, left empty: a segment is too long" in err
    assert "b.srt, cue 1, line 2: not translated, left as it is: a segment is too long" in err
    assert (tmp_path / "out" / "a.jsonl").read_text() == '{"text": "ONE"}\nrubbish\n{"text": ""}\n'
    rows = [json.loads(line) for line in (tmp_path / "out.failed.jsonl").read_text().splitlines()]
    assert [(Path(r["file"]).name, r["place"]) for r in rows] == [("a.jsonl", "line 3"), ("b.srt", "cue 1, line 2"), ("a.jsonl", "line 2")] or len(rows) == 3
    assert len(states(isolated)) == 1
    # The same command again: only the failed segment is translated.
    code, _, err = run(tmp_path / "a.jsonl", tmp_path / "b.srt", *PAIR, "-o", tmp_path / "out", "--tries", 0)
    assert code == 3 and "going on: 1 of 3 segments are there already" in err
    assert engines[-1].sources == ["this is too long"] and (tmp_path / "out" / "b.srt").read_text().endswith("THIS IS TOO LONG\n")


def test_an_engine_that_dies_and_the_same_command_again(
    run: Run, engines: list[Capitals], monkeypatch: pytest.MonkeyPatch, isolated: Path, tmp_path: Path
) -> None:
    real = Capitals.generate

    async def generate(self: Capitals, prompts: Any, adapter_id: str | None) -> list[Generation]:
        if adapter_id is not None and len(self.batches) >= 4:
            raise EngineError("the engine has died")
        return await real(self, prompts, adapter_id)

    lines = [f"Line {i} of a file that is translated" for i in range(600)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    with monkeypatch.context() as m:
        m.setattr(Capitals, "generate", generate)
        code, _, err = run(tmp_path / "a.txt", *PAIR, "--tries", 0, "-o", tmp_path / "out.txt")
        assert code == 1 and "the engine has died" in err and not (tmp_path / "out.txt").exists()
    first = list(engines[-1].sources)
    assert 0 < len(first) < 600
    # The file has changed a little meanwhile.
    lines[0] = "Another line"
    (tmp_path / "a.txt").write_text("\n".join(lines))
    code, _, err = run(tmp_path / "a.txt", *PAIR, "--tries", 0, "-o", tmp_path / "out.txt")
    assert code == 0 and "going on: " in err and (tmp_path / "out.txt").read_text() == "\n".join(lines).upper()
    assert not set(first) & set(engines[-1].sources) and set(first) | set(engines[-1].sources) >= set(lines)
    assert states(isolated) == []
    # Another version is live: what the old one has made is not mixed with its.
    with monkeypatch.context() as m:
        m.setattr(Capitals, "generate", generate)
        assert run(tmp_path / "a.txt", *PAIR, "--tries", 0, "-o", tmp_path / "out.txt")[0] == 1
    publish(isolated, "en-is", 5)
    code, _, err = run(tmp_path / "a.txt", *PAIR, "--tries", 0, "-o", tmp_path / "out.txt")
    assert code == 0 and "another version is live since the last run" in err and len(engines[-1].sources) == 600


def test_a_server_that_goes_away_and_comes_back(run: Run, isolated: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve.files.remote, "WAITS", (0.01, 0.02))
    monkeypatch.setattr(serve.files.remote, "LONGEST_WAIT", 0.02)
    lines = [f"Line {i} of a file" for i in range(300)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    with serving(isolated, Limits(context=2048, tries=0)) as server:
        args = (tmp_path / "a.txt", *PAIR, "--server", server.url, "--jobs", 1, "-o", tmp_path / "out.txt")
        answered = []

        def answer(source: str, adapter_id: str | None) -> Generation:
            answered.append(source)
            if len(answered) == 100:
                server.engine.problems = [EngineError("the engine has died")] * 999
            return Generation(source.upper(), 3, "stop")

        server.engine.answer = answer  # type: ignore[method-assign]
        code, _, err = run(*args)
        assert code == 1 and "gave up after 3 tries" in err and "the same command goes on from here" in err and not (tmp_path / "out.txt").exists()
        server.engine.problems = []
        code, _, err = run(*args)
    assert code == 0 and "going on: " in err
    # No recorded segment was translated again.
    assert (tmp_path / "out.txt").read_text() == "\n".join(lines).upper() and 300 <= len(answered) <= 332


def test_killed_and_run_again(isolated: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle; in the end every segment was translated, and none twice but those that were under way at the kill."""
    publish(isolated, "en-is")
    lines = [f"Line {i} of a file that takes a while, number {i * 7919 % 1000}" for i in range(800)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    log, out = tmp_path / "log", tmp_path / "out.txt"
    log.touch()
    command = [sys.executable, "-m", "tests.support.batch_engine", str(log), "0.1"]
    command += ["translate", str(tmp_path / "a.txt"), *PAIR, "--tries", "0", "-o", str(out)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while log.read_text().count("\n") < 300 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert 300 <= log.read_text().count("\n") < 800 and not out.exists()
    second_run = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert second_run.returncode == 0 and "going on: " in second_run.stderr, second_run.stderr
    assert out.read_text() == "\n".join(lines).upper()
    decodes = Counter(json.loads(line) for line in log.read_text().split("\n") if line)
    # Three batches of 64 are under way; what was answered and not yet recorded is in them.
    assert set(decodes) == set(lines) and sum(decodes.values()) - len(lines) <= 3 * 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "log", "out.txt"]


def test_two_runs_of_the_same_files_at_once(run: Run, engines: list[Capitals], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("lína\n")
    exit_codes: list[int] = []
    real = serve.files.local.open_engine

    def open_engine(name: str, options: EngineOptions) -> Any:
        engine = real(name, options)
        engine.after_first = lambda: exit_codes.append(main(["translate", str(tmp_path / "a.txt"), *PAIR, "-o", str(tmp_path / "out.txt")]))  # type: ignore[attr-defined]
        return engine

    monkeypatch.setattr(serve.files.local, "open_engine", open_engine)
    code, _, err = run(tmp_path / "a.txt", *PAIR, "-o", tmp_path / "out.txt")
    assert (code, exit_codes) == (0, [2]) and "the same files are being translated by another process" in err


def test_a_file_that_changes_meanwhile(run: Run, engines: list[Capitals], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("lína\n")
    real = serve.files.local.open_engine

    def open_engine(name: str, options: EngineOptions) -> Any:
        engine = real(name, options)
        engine.after_first = lambda: (tmp_path / "a.txt").write_text("lína\nmore\n")  # type: ignore[attr-defined]
        return engine

    monkeypatch.setattr(serve.files.local, "open_engine", open_engine)
    code, _, err = run(tmp_path / "a.txt", *PAIR, "-o", tmp_path / "out.txt")
    assert code == 2 and "a.txt: the file changed while it was read" in err and not (tmp_path / "out.txt").exists()


def test_a_full_disk(run: Run, isolated: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one line\n" * 20_000)
    code, _, err = run(tmp_path / "a.txt", *PAIR, "-o", "/dev/full")
    assert code == 1 and "No space left on device; free some space and run the same command again" in err
    assert len(states(isolated)) == 1
    store = SegmentStore(tmp_path / "small.sqlite")
    store._db.execute("PRAGMA max_page_count = 40")
    with pytest.raises(OSError, match="No space left on device"):
        store.add(f"{i} " * 50 for i in range(5000))
    assert store.totals().segments == 0
    store.close()
    (tmp_path / "broken.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(TellmtError, match=r"cannot be read.*--fresh"):
        SegmentStore(tmp_path / "broken.sqlite")


def test_what_is_refused_before_any_work(run: Run, engines: list[Capitals], tmp_path: Path) -> None:
    a, b, other = tmp_path / "a.txt", tmp_path / "b.docx", tmp_path / "other" / "a.txt"
    other.parent.mkdir()
    a.write_text("one\n")
    other.write_text("two\n")
    b.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100))
    (tmp_path / "c.xlsx").write_bytes((GOLDEN / "letter.docx").read_bytes())
    (tmp_path / "d.txt").write_bytes((GOLDEN / "letter.docx").read_bytes())
    (tmp_path / "locked").mkdir(mode=0o500)
    table: list[tuple[tuple[object, ...], str]] = [
        ((a, other, *PAIR), "several files need a directory for their outputs"),
        ((a, other, *PAIR, "-o", tmp_path / "out"), "two files would have one name"),
        ((a, GOLDEN / "menu.po", *PAIR, "-o", tmp_path), "the output is the input"),
        ((a, GOLDEN / "menu.po", *PAIR, "-o", GOLDEN / "menu.po"), "this is not a directory"),
        ((b, *PAIR, "-o", tmp_path / "x.docx"), "b.docx: this docx cannot be read; found a password"),
        ((tmp_path / "c.xlsx", *PAIR, "-o", tmp_path / "x.xlsx"), "c.xlsx: this is not a xlsx; found a docx; valid: a .xlsx"),
        ((tmp_path / "d.txt", *PAIR), "d.txt: this is not text; found a zip archive"),
        ((GOLDEN / "table.csv", *PAIR, "--column", "foo"), "--column: no such column; found foo"),
        ((a, *PAIR, "--format", "word"), "--format: unknown format; found word"),
        ((a, *PAIR, "--report", tmp_path / "r.txt"), "--report: the report's name tells its format"),
        ((tmp_path / "x.pdf", *PAIR), "files of this format are not translated; found .pdf"),
    ]
    if os.geteuid() != 0:
        table.append(((a, *PAIR, "-o", tmp_path / "locked" / "x.txt"), "the output cannot be written"))
    for args, message in table:
        code, out, err = run(*args)
        assert (code, out) == (2, b"") and message in err, (args, code, err)
    assert not any(e.sources for e in engines) and not (tmp_path / "x.docx").exists()


def test_shards_are_all_that_a_cluster_needs(tmp_path: Path) -> None:
    """Shards may be translated in any order; recorded, they are done for good."""
    store = SegmentStore(tmp_path / "ledger.sqlite")
    texts = [f"{'word ' * (i % 40)}{i}" for i in range(2 * SHARD_SIZE + 100)]
    store.start_collecting()
    store.add([*texts, *texts[:10]])
    store.divide_into_shards()
    shards = list(store.shards())
    assert [len(s.texts) for s in shards] == [SHARD_SIZE, SHARD_SIZE, 100] and sorted(t for s in shards for t in s.texts) == sorted(texts)
    sizes = [len(t) for s in shards for t in s.texts]
    assert sizes == sorted(sizes, reverse=True)
    parts = list(batches(shards[0], 64, 5000))
    assert [t for p in parts for t in p.texts] == list(shards[0].texts) and max(sum(map(len, p.texts)) for p in parts) <= 5000
    assert [p.texts for p in batches(Shard(0, (1, 2), ("a" * 50, "b" * 50)), 64, 10)] == [("a" * 50,), ("b" * 50,)]
    for shard in reversed(shards[1:]):
        store.record(shard.ids, [SegmentResult(t.upper()) for t in shard.texts], ["x"])
        store.close_shard(shard.number)
    store.close()
    again = SegmentStore(tmp_path / "ledger.sqlite")
    assert [s.number for s in again.shards()] == [0]
    again.start_collecting()
    again.add(texts)
    again.divide_into_shards()
    assert [len(s.texts) for s in again.shards()] == [SHARD_SIZE] and again.totals().done == SHARD_SIZE + 100
    assert (segment := again.find(texts[0])) is not None and segment.text == (texts[0].upper() if segment.text else None)
    assert again.find("nowhere") is None
    again.close()
