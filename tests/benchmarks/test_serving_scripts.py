"""The serving benchmarks: copies of adapters, the client that loads a service, and each script once over a fake engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import CONFIG, WEIGHTS, open_adapter
from tell.registry.registry import Registry
from tests.conftest import ROOT
from tests.support.fake_eval_engine import light_base


def test_copies_have_ids_of_their_own_and_the_same_every_time(serving: Any, home: Path) -> None:
    work = serving("harness.workspace").prepare(home / "work")
    registry = work.registry("one")
    assert isinstance(registry, Registry) and work.cache.joinpath("bases").is_symlink()
    variants = [("is-en", 0, 1.0), ("is-de", 0, 1.0), ("is-de", 1, 1.0), ("is-en", 0, 0.5)]
    ids = [serving("harness.workspace").variant(work, registry, *w) for w in variants]
    assert len(set(ids)) == 4 and ids == [serving("harness.workspace").variant(work, registry, *w) for w in variants]
    copies = [open_adapter(registry.path(id)) for id in ids]
    assert [c.card.pair for c in copies] == ["is-en", "is-de", "is-de", "is-en"]
    assert copies[1].card.anchor == copies[0].card.anchor and "a copy of" in copies[0].card.notes[0]
    source = home / "shipped" / "is-en"
    assert (copies[0].path / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes() != (copies[2].path / WEIGHTS).read_bytes()
    assert (copies[0].path / CONFIG).read_bytes() == (source / CONFIG).read_bytes()


def test_segments_are_the_samples_texts(serving: Any) -> None:
    texts = serving("harness.workspace").segments("is")
    assert len(texts) == len(set(texts)) > 500 and texts == serving("harness.workspace").segments("is")
    assert "Hver borðaði síðasta bananann?" in texts and "Who ate the last banana?" in serving("harness.workspace").segments("en")


class Peculiar(BaseHTTPRequestHandler):
    """Answers as a path says: with a length, in chunks, cut short, never, or closing a connection that it had kept."""

    protocol_version = "HTTP/1.1"
    served = 0

    def do_GET(self) -> None:
        type(self).served += 1
        if self.path == "/never":
            threading.Event().wait(3)
            self.close_connection = True
            return
        self.send_response(200)
        if self.path == "/chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
            return
        self.send_header("Content-Length", "9" if self.path == "/short" else "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.close_connection = self.path in ("/short", "/close")

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def peculiar() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Peculiar) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_client_tells_how_a_request_went(serving: Any, peculiar: str) -> None:
    import asyncio

    client = serving("harness.client")

    async def go() -> None:
        async with client.LoadClient(peculiar) as c:
            assert (await c.get("/plain")).body == b"ok" and (await c.get("/chunks")).body == b"abcde"
            assert len(c._idle) == 1
            short = await c.get("/short", again=False)
            assert (short.status, short.problem) == (0, "lost: IncompleteReadError")
            # The server closes this one after its answer and says nothing: the next request goes out again, on a new connection.
            assert (await c.get("/close")).status == 200
            await asyncio.sleep(0.05)
            assert (await c.get("/plain")).status == 200
            response = await c.send(client.LoadRequest("/never", b"", method="GET"), leave_after=0.1)
            assert (response.status, response.problem) == (0, "left") and response.seconds < 1
        async with client.LoadClient("http://127.0.0.1:9") as c:
            assert (await c.get("/")).problem == "refused: ConnectionRefusedError"

    asyncio.run(go())


def test_the_load_is_what_it_says(serving: Any, peculiar: str) -> None:
    import asyncio

    client, load = serving("harness.client"), serving("harness.load")
    ask = client.LoadRequest("/plain", b"", method="GET")

    async def go() -> None:
        async with client.LoadClient(peculiar) as c:
            closed = await load.closed_loop(c, [ask] * 20, 3)
            assert [a.status for a in closed] == [200] * 20 and load.wall(closed) > 0
            opened = await load.open_loop(c, [ask] * 1000, rate=50, seconds=0.4, patience=5)
            assert len(opened) == 20 and 0.35 < opened[-1].sent - opened[0].sent < 0.6

    asyncio.run(go())


def test_a_kept_connection_takes_as_many_requests_as_come(serving: Any, home: Path) -> None:
    """Whole requests in one piece each: their heads must not be added up to one that is too large."""
    import asyncio

    from tell.paths import cache_dir
    from tests.support.serving import publish, running

    client, load, registry = serving("harness.client"), serving("harness.load"), Registry(home / "registry")
    publish(registry, open_adapter(home / "shipped" / "is-en"))
    with running(light_base(cache_dir()), registry) as service:

        async def go() -> Any:
            async with client.LoadClient(service.url) as c:
                return await load.closed_loop(c, [client.translation_request("is-en", "a" * 100)] * 400, 1)

        assert load.statuses(asyncio.run(go())) == {"200": 400}


def script(name: str, *arguments: object, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.serving.{name}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env={**os.environ, "PYTHONPATH": str(ROOT), **env})
    assert "Traceback" not in done.stderr, done.stderr
    assert not ok or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


FAKE = ("--engine", "ct2", "--module", "tests.support.fake_busy_serve", "--quick", "--json")
RAW = ("--raw", ROOT / "tests" / "support" / "fake_raw.py")


@pytest.mark.clock
@pytest.mark.long
def test_the_benchmark_from_end_to_end(home: Path) -> None:
    done = script("bench_serve", *FAKE, *RAW, "--only", "throughput,mixed,live,hotload,cache")
    report = json.loads(done.stdout)
    text = "\n".join(report["lines"])
    for line in (
        "throughput against the raw engine at 1: ", "throughput against the raw engine at 4: ", "added per request at 1: ",
        "texts unlike the raw engine's at 4: 0 of 32", "8 adapters mixed against 1 at 8: ", "from promote to live, converted before: ",
        "from roll back to live: ", "from promote to live, new to this machine: ", "latency in flight during hot-loads, new to this machine: ",
        "the same segments again, at 4: ",
    ):  # fmt: skip
        assert line in text, text
    assert report["failures"] == [] and report["throughput"]["levels"]["4"]["segments"] == 16
    assert report["machine"]["cores"] >= 1 and report["machine"]["versions"]["tellmt"]


def test_a_raw_engine_that_says_something_else_voids_it(home: Path) -> None:
    done = script("bench_serve", *FAKE, *RAW, "--only", "throughput", ok=False, FAKE_UNLIKE="!")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and "VOID against the raw engine at 4: the texts differ" in report["lines"]
    assert not any(line.startswith("throughput against") for line in report["lines"])


@pytest.mark.clock
@pytest.mark.long
def test_overload_from_end_to_end(home: Path) -> None:
    report = json.loads(script("overload", *FAKE).stdout)
    assert report["failures"] == [] and {"200", "503"} == set(report["statuses"]), report
    assert report["crossed"] == 0 and report["checked"] > 10 and report["peak"] and report["refusals_ms"]["p99"] > 0


@pytest.mark.clock
def test_churn_from_end_to_end(home: Path) -> None:
    report = json.loads(script("churn", *FAKE, FAKE_LETTERS="1").stdout)
    assert report["changes"] == 6 and report["failures"] == [] and set(report["statuses"]) == {"200"} and set(report["verdicts"]) == {"right"}


@pytest.mark.clock
@pytest.mark.long
def test_stop_from_end_to_end(home: Path) -> None:
    report = json.loads(script("shutdown", *FAKE, "--lines", "900", "--after", "0.4", FAKE_BURN="0.02").stdout)
    assert report["failures"] == [] and report["sigterm"][0]["accepted"] > 0 and report["sigterm"][0]["lost"] == []
    assert len(report["leaving"]) >= 3 and all(f["goes_on_s"] <= 2 for f in report["leaving"].values())


@pytest.mark.clock
@pytest.mark.long
def test_soak_from_end_to_end(home: Path) -> None:
    report = json.loads(script("soak", *FAKE, "--plot", home / "soak.png").stdout)
    assert report["failures"] == [] and len(report["seconds_to_live"]) >= 2 and report["requests"]["bad"] > 0 and report["statuses"]["200"] > 20
    assert (home / "soak.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["bench_serve", "overload", "churn", "shutdown", "soak"])
def test_help_is_at_hand(name: str) -> None:
    assert "--engine" in script(name, "--help").stdout


def test_bad_arguments() -> None:
    assert "found fast; valid: throughput, mixed, live" in script("bench_serve", "--only", "fast", ok=False).stderr
    assert "found 0,8; valid: numbers from 1" in script("bench_serve", "--concurrency", "0,8", ok=False).stderr
    assert "--all and -o DIR go together" in script("bench_serve", "--all", ok=False).stderr


def test_without_adapters_it_says_so_in_one_line() -> None:
    done = script("churn", *FAKE, ok=False)
    assert done.returncode == 1 and done.stderr == "churn: no adapter for is-en came with tellmt; valid: a checkout with adapters/, or TELLMT_SHIPPED\n"


def test_one_page_of_all(serving: Any) -> None:
    everything = serving("all")
    machine = {"processor": "CPU", "cores": 2, "gpus": [], "load": 0.1, "python": "3.11", "versions": {"tellmt": "1"}, "commit": "abc", "engine": "ct2"}
    reports = {
        "bench": {"machine": machine, "lines": ["## throughput", "", "| a | b |", "|---|---:|", "| c | 1 |", "ratio: 1.00x"], "failures": []},
        "churn": {"machine": machine, "lines": ["failed requests: 1"], "failures": ["1 x status 500"]},
        "stop": {"problem": "exit code 1"},
    }
    page = everything.page(reports, {n: [f"deploy/{n}.py", "--engine", "ct2"] for n in reports})
    assert "Machine: CPU, 2 core(s), load 0.1, Python 3.11; tellmt 1; commit abc; engine ct2." in page
    assert "### throughput\n\n| a | b |\n|---|---:|\n| c | 1 |\n    ratio: 1.00x\n" in page
    assert "    failed requests: 1\n\n    FAILED 1 x status 500\n" in page and "NOT MEASURED: exit code 1" in page


def test_make_knows_it() -> None:
    commands = subprocess.run(["make", "-n", "-s", "bench-serve"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert commands[:2] == ["python3 scripts/setup_env.py all", ".venv/bin/python -m benchmarks.serving.bench_serve "]
