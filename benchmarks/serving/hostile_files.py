#!/usr/bin/env python3
"""Files of at most a mebibyte in awkward shapes, of every format: what one costs the process that reads it, and whether the service answers meanwhile.

Needs no model. Each file is read by the processes that the service has for documents, and a small one after it; what could be read is written back with its
own texts. Meanwhile /health of a service in this process is asked all the time, as a client would, over HTTP.

    python -m benchmarks.serving.hostile_files
    python -m benchmarks.serving.hostile_files --only md,docx --json

Aims, which make the exit code 1 where they are broken: no file takes more than 10 s of a process, or more than 512 MiB of it, or moves the 99th percentile of
/health above 50 ms; no file ends otherwise than as a document or as an error that names what is wrong with it; the small file is read every time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import socket
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.serving.harness.load import percentile, table
from serve.documents.parts import File
from serve.documents.workers import DocumentWorkers
from tell.errors import BadInput, TellmtError
from tell.languages import parse_pair

SIZE = 1 << 20
AIM_SECONDS, AIM_MIB, AIM_HEALTH = 10.0, 512, 50.0
PAIR = parse_pair("is-en")
SMALL = b"1\n00:00:01,000 --> 00:00:02,000\nHall\xc3\xb3\n"
# Bytes that zipped shapes unpack to at most; what packs better is refused by its growth.
UNPACKED = 48 << 20


def repeated(unit: str, before: str = "", after: str = "", size: int = SIZE) -> bytes:
    count = max(1, (size - len(before.encode()) - len(after.encode())) // len(unit.encode()))
    return (before + unit * count + after).encode()


def nested(opening: str, inside: str, closing: str, depth: int, before: str = "", after: str = "") -> bytes:
    return (before + opening * depth + inside + closing * depth + after).encode()


def rising(sign: str, size: int = SIZE) -> bytes:
    """Runs of a sign, each longer than the one before it."""
    parts: list[str] = []
    length = 0
    while length < size - len(parts) - 2:
        parts.append(sign * (len(parts) + 1))
        length += len(parts[-1]) + 1
    return " ".join(parts).encode()[:size]


def zipped(member: str, numbered: Callable[[int], str], before: str, after: str, others: tuple[str, ...] = ()) -> bytes:
    """A document whose member has as many units as a mebibyte holds when it is packed; numbers in them keep it from packing too well."""

    def archive(count: int) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            for other in others:
                packed.writestr(other, "<x/>")
            packed.writestr(member, before + "".join(map(numbered, range(count))) + after)
        return out.getvalue()

    sample = 2000
    packed_size, unit = len(archive(sample)) / sample, len(numbered(sample).encode())
    count = int(min(0.9 * SIZE / packed_size, UNPACKED / unit))
    while len(raw := archive(count)) > SIZE:
        count = count * 9 // 10
    return raw


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def docx(numbered: Callable[[int], str], before: str = "", after: str = "") -> bytes:
    return zipped("word/document.xml", numbered, f"<w:document {W}><w:body>{before}", f"{after}</w:body></w:document>")


def xlsx(numbered: Callable[[int], str], before: str = "", after: str = "") -> bytes:
    return zipped("xl/sharedStrings.xml", numbered, f"<sst>{before}", f"{after}</sst>", ("xl/workbook.xml",))


XLIFF, END_XLIFF = '<xliff version="1.2"><file source-language="is" target-language="en"><body>', "</body></file></xliff>"
UNIT, END_UNIT = '<trans-unit id="1"><source>', "</source></trans-unit>"
CUE = "1\n00:00:01,000 --> 00:00:02,000\n"


def numbered_elements(n: int) -> str:
    """A paragraph with elements within the bound. Equal ones would pack so well that the file were refused for its growth."""
    elements = "".join(f'<w:x w:a="{n * 9000 + i}"/>' for i in range(9000))
    return f"<w:p>{elements}<w:r><w:t>a</w:t></w:r></w:p>"


def nested_links(n: int) -> str:
    return f'<w:p w:a="{n}">{"<w:hyperlink>" * 90}<w:r><w:t>a</w:t></w:r>{"</w:hyperlink>" * 90}</w:p>'


def open_fields(n: int) -> str:
    begin = '<w:r><w:fldChar w:fldCharType="begin"/></w:r>'
    return f"<w:p>{begin * 1000}<w:r><w:t>a {n}</w:t></w:r></w:p>"


def different_runs(n: int) -> str:
    runs = (f'<w:r><w:rPr><w:sz w:val="{n + i}"/></w:rPr><w:t>a</w:t></w:r>' for i in range(500))
    return f"<w:p>{''.join(runs)}</w:p>"


# By format: what is awkward, and the file.
SHAPES: dict[tuple[str, str], Callable[[], bytes]] = {
    ("txt", "empty lines"): lambda: repeated("\n"),
    ("txt", "short lines"): lambda: repeated("a\n"),
    ("txt", "signs without a space"): lambda: repeated(";:,"),
    ("md", "runs of backticks, rising"): lambda: rising("`"),
    ("md", "runs of backticks in short paragraphs"): lambda: repeated("a ` b `` c ``` d ```` e\n\n"),
    ("md", "marks that open"): lambda: repeated("*a _b **c "),
    ("md", "marks in short paragraphs"): lambda: repeated("*a _b **c ~~d " * 100 + "\n\n"),
    ("md", "comments without an end"): lambda: repeated("a <!-- " * 1000 + "\n\n"),
    ("md", "links inside paragraphs"): lambda: repeated("[a](b) " * 1000 + "\n\n"),
    ("md", "brackets that open"): lambda: repeated("[a " * 1000 + "\n\n"),
    ("md", "a wide table of short rows"): lambda: repeated("|a\n", "|a" * 10_000 + "\n" + "|-" * 10_000 + "\n"),
    ("md", "many small tables"): lambda: repeated("|a|b|\n|-|-|\n|c|d|\n\n"),
    ("md", "short paragraphs"): lambda: repeated("a\n\n"),
    ("md", "items"): lambda: repeated("- a\n"),
    ("html", "tags"): lambda: repeated("<b>"),
    ("html", "tags that do not end"): lambda: repeated("<a "),
    ("html", "attributes"): lambda: repeated("<a b='c\" d=e translate=>"),
    ("html", "short paragraphs"): lambda: repeated("<p>a"),
    ("html", "comments"): lambda: repeated("<!-- a <!--"),
    ("html", "names of the root"): lambda: repeated("<html lang=is "),
    ("po", "empty lines"): lambda: repeated("\n"),
    ("po", "one text of many lines"): lambda: repeated('"a"\n', 'msgid ""\n', 'msgstr ""\n'),
    ("po", "short entries"): lambda: repeated('msgid "a"\nmsgstr ""\n\n'),
    ("po", "escapes"): lambda: repeated("\\n", 'msgid "', '"\nmsgstr ""\n'),
    ("po", "braces"): lambda: repeated("{a,plural,x{", 'msgid "', '"\nmsgstr ""\n'),
    ("xlf", "elements in one unit"): lambda: repeated("<x/>", XLIFF + UNIT, END_UNIT + END_XLIFF),
    ("xlf", "nested elements"): lambda: nested("<g>", "a", "</g>", 90_000, XLIFF + UNIT, END_UNIT + END_XLIFF),
    ("xlf", "nested elements within the bound"): lambda: repeated("".join((UNIT, "<g>" * 90, "a", "</g>" * 90, END_UNIT)), XLIFF, END_XLIFF),
    ("xlf", "short units"): lambda: repeated(f"{UNIT}a{END_UNIT}", XLIFF, END_XLIFF),
    ("xlf", "references"): lambda: repeated("&amp;", XLIFF + UNIT, END_UNIT + END_XLIFF),
    ("tmx", "short units"): lambda: repeated('<tu><tuv xml:lang="is"><seg>a</seg></tuv></tu>', "<tmx><body>", "</body></tmx>"),
    ("tmx", "attributes"): lambda: repeated("<tu " + " ".join(f'a{n}="b"' for n in range(2000)) + "/>", "<tmx><body>", "</body></tmx>"),
    ("json", "short texts"): lambda: repeated('"a":"b",', "{", '"c":"d"}'),
    ("json", "nested objects"): lambda: nested('{"a":', '"b"', "}", 150_000),
    ("json", "nested lists within the bound"): lambda: repeated("[" * 90 + '"a"' + "]" * 90 + ",", "[", '"b"]'),
    ("json", "plurals"): lambda: repeated('"a_one":"b","a_other":"c",', "{", '"c":"d"}'),
    ("json", "escapes"): lambda: repeated("\\\"", '{"a":"', '"}'),
    ("properties", "backslashes"): lambda: repeated("\\"),
    ("properties", "lines that go on"): lambda: repeated("a\\\n"),
    ("properties", "short values"): lambda: repeated("a=b\n"),
    ("yml", "short values"): lambda: repeated("a: b\n"),
    ("yml", "nested lists"): lambda: repeated("["),
    ("yml", "anchors and aliases"): lambda: repeated("- &a b\n- *a\n", "a:\n"),
    ("yml", "a long text in quotes"): lambda: repeated("\\n", 'a: "', '"\n'),
    ("yml", "keys in braces"): lambda: repeated("{a: ", "a: "),
    ("yml", "plurals"): lambda: repeated("  b:\n    one: c\n    other: d\n", "a:\n"),
    ("ftl", "short messages"): lambda: repeated("a = b\n"),
    ("ftl", "placeables in one message"): lambda: repeated("{a}", "a = "),
    ("ftl", "nested placeables"): lambda: repeated("{", "a = "),
    ("ftl", "variants"): lambda: repeated("[a] b\n", "a = {$n ->\n", "*[other] c\n}\n"),
    ("ftl", "what is no message"): lambda: repeated("a\n"),
    ("ftl", "blank lines in a text"): lambda: repeated("    b\n\n", "a =\n"),
    ("xml", "short strings"): lambda: repeated('<string name="a">b</string>', "<resources>", "</resources>"),
    ("xml", "escapes"): lambda: repeated("\\'", '<resources><string name="a">', "</string></resources>"),
    ("xml", "references"): lambda: repeated("&#160;", '<resources><string name="a">b', "</string></resources>"),
    ("xml", "plurals"): lambda: repeated(
        '<plurals name="a"><item quantity="one">b</item><item quantity="other">c</item></plurals>', "<resources>", "</resources>"
    ),
    ("resx", "short values"): lambda: repeated('<data name="a"><value>b</value></data>', "<root>", "</root>"),
    ("ts", "short messages"): lambda: repeated("<message><source>a</source></message>", "<TS><context>", "</context></TS>"),
    ("srt", "short cues"): lambda: repeated(CUE + "a\n\n"),
    ("srt", "one cue of many lines"): lambda: repeated("a\n", CUE),
    ("srt", "tags"): lambda: repeated("<i>", CUE),
    ("vtt", "references"): lambda: repeated("&amp;", "WEBVTT\n\n" + CUE),
    ("docx", "empty elements in one paragraph"): lambda: docx(lambda n: f'<w:x w:a="{n}"/>', "<w:p>", "</w:p>"),
    ("docx", "elements in one paragraph, within the bound"): lambda: docx(numbered_elements),
    ("docx", "nested links within the bound"): lambda: docx(nested_links),
    ("docx", "fields that do not end"): lambda: docx(open_fields),
    ("docx", "short paragraphs"): lambda: docx(lambda n: f"<w:p><w:r><w:t>a {n}</w:t></w:r></w:p>"),
    ("docx", "a formatting for each run"): lambda: docx(different_runs),
    ("xlsx", "empty elements in one cell"): lambda: xlsx(lambda n: f'<t a="{n}"/>', "<si>", "</si>"),
    ("xlsx", "short cells"): lambda: xlsx(lambda n: f"<si><t>a {n}</t></si>"),
}  # fmt: skip


def figures_of(pid: int) -> tuple[float, int]:
    """Seconds that a process has computed, and the most bytes that it had."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
    peak = next((line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) << 10


class Watch:
    """Asks /health and looks at the processes, until it is stopped."""

    def __init__(self, workers: DocumentWorkers, port: int):
        self.workers, self.port = workers, port
        self.health: list[float] = []
        self.began: dict[int, float] = {}
        self.seen: dict[int, tuple[float, int]] = {}

    async def ask_health(self) -> None:
        while True:
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            self.health.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)

    async def look(self) -> None:
        while True:
            for pid in self.workers.pids():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    self.seen[pid] = figures_of(pid)
                    self.began.setdefault(pid, 0.0)
            await asyncio.sleep(0.02)

    def restart(self) -> None:
        self.health.clear()
        self.begin()

    def begin(self) -> None:
        """Count what the processes take from now on."""
        self.began = {pid: figures[0] for pid, figures in self.seen.items() if pid in self.workers.pids()}
        self.seen = {}

    def most(self) -> tuple[float, float]:
        """The seconds and mebibytes of the process that took most since the last start."""
        seconds = max((figures[0] - self.began.get(pid, 0.0) for pid, figures in self.seen.items()), default=0.0)
        return seconds, max((figures[1] for figures in self.seen.values()), default=0) / (1 << 20)


async def outcome(workers: DocumentWorkers, ending: str, raw: bytes, between: Callable[[], object] = lambda: None) -> tuple[str, bool]:
    """What becomes of a file, in words, and whether it may. `between` is called when it is read and not written yet."""
    try:
        document = await workers.read("a", f"file.{ending}", raw, PAIR, 100_000, 512)
        if isinstance(document, File):
            await asyncio.sleep(0.05)
            between()
            await workers.filled("a", document, document.parts)
        return f"{len(document.parts):,} parts", True
    except BadInput as e:
        return f"{e.status} {e.thing}", True
    except TellmtError as e:
        return f"{e.status} {e.thing}", False


@contextlib.contextmanager
def health_server() -> Iterator[tuple[Any, int]]:
    """An application that answers /health, in the loop that waits for the documents as the service's does."""
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", access_log=False))
        yield (server, sock), sock.getsockname()[1]


async def measure(shapes: dict[tuple[str, str], Callable[[], bytes]], say: Callable[[str], None]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with health_server() as ((server, sock), port):
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        workers = DocumentWorkers()
        watch = Watch(workers, port)
        await asyncio.sleep(0.5)
        watching = [asyncio.create_task(watch.ask_health()), asyncio.create_task(watch.look())]
        for (ending, shape), make in shapes.items():
            raw = await asyncio.to_thread(make)
            watch.restart()
            costs: list[tuple[float, float]] = []

            def note(costs: list[tuple[float, float]] = costs) -> None:
                costs.append(watch.most())
                watch.begin()

            words, allowed = await outcome(workers, ending, raw, note)
            await asyncio.sleep(0.05)
            seconds, mebibytes = map(max, zip(*costs, watch.most(), strict=True))
            small, read = await outcome(workers, "srt", SMALL)
            health = 1000 * percentile(watch.health, 0.99)
            rows.append({
                "format": ending, "shape": shape, "KiB": len(raw) >> 10, "outcome": words, "seconds": round(seconds, 2), "MiB": round(mebibytes),
                "health_p99_ms": round(health, 1), "good": allowed and read and small == "1 parts" and seconds <= AIM_SECONDS + 0.5
                and mebibytes <= AIM_MIB and health <= AIM_HEALTH,
            })  # fmt: skip
            say(f"{ending}, {shape}: {words}")
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        workers.close()
        server.should_exit = True
        await serving
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), help="formats by their endings, such as md,docx, or words of a shape")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    wanted = {key: make for key, make in SHAPES.items() if not options.only or any(o == key[0] or (len(o) > 4 and o in key[1]) for o in options.only)}
    rows = asyncio.run(measure(wanted, lambda text: print(text, file=sys.stderr)))
    head = ["file", "KiB", "outcome", "s", "MiB", "/health p99 ms", "aim"]
    cells = [[f"{r['format']}: {r['shape']}", r["KiB"], r["outcome"], r["seconds"], r["MiB"], r["health_p99_ms"], "yes" if r["good"] else "NO"] for r in rows]
    print(json.dumps(rows, indent=1) if options.json else "\n".join(table(head, cells)))
    return 0 if rows and all(r["good"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
