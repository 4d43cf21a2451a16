"""What is the HTTP driver's own: addresses, keys, strangers at the other end, broken connections, shared servers, paths, and leaving.

The suite of all drivers runs against a real `vllm serve` (test_engines.py); here something else answers, since vLLM cannot be made to.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.engines.openai.engine import OpenAIEngine
from tell.adapter.card import Adapter
from tell.errors import AdapterError, BadInput, EngineError, Overloaded, TellmtError
from tell.model.base import Base
from tell.model.engine import EngineOptions, Prompt, Sampling
from tests.support.canned import Canned, Drop, Hang, canned
from tests.support.engine_fixtures import KEY, VllmServe, prompts, unstarted_engine, with_key
from tests.support.tiny import make_tiny_adapter

pytest_plugins = ["tests.support.engine_fixtures"]
PROMPT = Prompt((2, 300, 301), 8, False)


@pytest.fixture(scope="module")
def adapter(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    from tests.support.tiny import make_tiny_base

    return make_tiny_adapter(tmp_path_factory.mktemp("registry") / "a", make_tiny_base(tiny_cache))


@pytest.fixture
def vllm_server(tiny: Base) -> Iterator[Canned]:
    """A server that answers as vLLM does, for one model and the adapters it is given."""
    with canned() as server:
        names: dict[str, str] = {}

        def complete(body: Any) -> Any:
            if body["model"] not in (tiny.id, *names):
                return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
            row: dict[str, Any] = {"index": 0, "text": "", "token_ids": [300, 1], "finish_reason": "stop"}
            if "prompt_logprobs" in body:
                row["prompt_logprobs"] = [None, *({str(i): {"logprob": -1.0}} for i in body["prompt"][1:])]
            return 200, {"model": body["model"], "choices": [row]}

        def load(body: Any) -> Any:
            if body["lora_path"].startswith("/tellmt-nothing"):
                return 404, {"error": {"message": "No adapter found", "code": 404}}
            if body["lora_name"] in names:
                return 400, {"error": {"message": "has already been loaded", "code": 400}}
            names[body["lora_name"]] = body["lora_path"]
            return 200, b"Success"

        def unload(body: Any) -> Any:
            if names.pop(body["lora_name"], None) is None:
                return 404, {"error": {"message": "The lora adapter 'tellmt-nothing' cannot be found.", "code": 404}}
            return 200, b"Success"

        def models(body: Any) -> Any:
            rows = [{"id": tiny.id, "root": "x", "parent": None, "max_model_len": 4096}]
            return 200, {"data": rows + [{"id": n, "root": p, "parent": tiny.id} for n, p in names.items()]}

        server.replies = {
            "/health": (200, b""),
            "/v1/models": models,
            "/v1/completions": complete,
            "/v1/load_lora_adapter": load,
            "/v1/unload_lora_adapter": unload,
        }
        yield server


def run(base: Base, url: str, work: Callable[[OpenAIEngine], Awaitable[Any]] | None = None, **options: Any) -> Any:
    async def go() -> Any:
        engine = OpenAIEngine(EngineOptions(base=base, max_rank=8, max_batch=4, url=url, **options))
        try:
            await engine.start()
            return await work(engine) if work else None
        finally:
            await engine.close()

    return asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "needs the address of its server"),
        ("gpu-host:8000", "not an address; found gpu-host:8000"),
        ("file:///etc/passwd", "not an address"),
        ("http://h:123456", "not an address"),
        ("http://h/?a=b", "not an address"),
        ("http://me:secret@h:8000", "a name or password in it"),
    ],
)
def test_an_address_that_is_none(cli: Callable[..., Any], tiny: Base, url: str, message: str) -> None:
    ran = cli("serve", "--port", "0", "--engine", "openai", "--engine-url", url, "--base", "tiny", ok=False)
    assert ran.code == 2 and "--engine-url: " in ran.err and message in ran.err and "secret" not in ran.err


def test_nobody_there(cli: Callable[..., Any], tiny: Base) -> None:
    ran = cli("serve", "--port", "0", "--engine", "openai", "--engine-url", "http://127.0.0.1:9", "--base", "tiny", ok=False)
    assert ran.code == 1 and "http://127.0.0.1:9: the vLLM server cannot be reached; found" in ran.err


@pytest.mark.parametrize("text", ["registry=/mnt", "/srv/registry", "/srv=mnt"])
def test_a_path_map_that_is_none(tiny: Base, text: str) -> None:
    with pytest.raises(BadInput, match="--engine-path-map: not two absolute paths"):
        run(tiny, "http://h", path_map=text)


DEEP = b"[" * 100_000
STRANGERS = [
    ((200, b"<html>welcome</html>"), "no vLLM server answers here; found HTTP 200 for /v1/models"),
    ((502, b"<html>bad gateway</html>"), "found HTTP 502 for /v1/models"),
    ((302, b"elsewhere"), "found HTTP 302"),
    ((200, DEEP), "no vLLM server answers here"),
    ((200, b"\xff\xfe\x00"), "no vLLM server answers here"),
    ((200, []), "no vLLM server answers here"),
    ((200, {"data": "none"}), "no vLLM server answers here"),
    ((200, {"data": [{"name": "tiny"}]}), "no vLLM server answers here"),
    ((200, {"data": []}), r"serves another base; found no model; valid: --served-model-name tiny"),
    ((200, {"data": [{"id": "llama", "max_model_len": 4096}]}), r"serves another base; found llama; valid: --served-model-name tiny"),
    ((200, {"data": [{"id": "tiny", "max_model_len": 128}]}), r"context is too short; found 128; valid: --max-model-len 2048 or more"),
    ((200, {"data": [{"id": "tiny"}]}), r"context is too short; found None"),
    ((401, {"error": "Unauthorized"}), "refuses the key; found HTTP 401; valid: the server's key in TELLMT_ENGINE_KEY"),
    ((500, {"error": {"message": f"wrong key: {KEY}"}}), r"found HTTP 500: wrong key: \.\.\. for"),
    (Drop, "cannot be reached"),
]


@pytest.mark.parametrize(("reply", "message"), STRANGERS)
def test_a_stranger_at_start(tiny: Base, vllm_server: Canned, monkeypatch: pytest.MonkeyPatch, reply: Any, message: str) -> None:
    monkeypatch.setenv("TELLMT_ENGINE_KEY", KEY)
    vllm_server.replies["/v1/models"] = reply
    with pytest.raises(EngineError, match=message) as e:
        run(tiny, vllm_server.url)
    assert KEY not in str(e.value)


def test_a_server_that_loads_no_adapters(tiny: Base, vllm_server: Canned) -> None:
    load = vllm_server.replies["/v1/load_lora_adapter"]
    vllm_server.replies["/v1/load_lora_adapter"] = (500, {"error": {"message": "Call failed: LoRA is not enabled. Use --enable-lora.", "code": 500}})
    with pytest.raises(EngineError, match=r"takes no adapters; .*; valid: --enable-lora"):
        run(tiny, vllm_server.url)
    vllm_server.replies["/v1/load_lora_adapter"] = load
    for reply in ((404, {"detail": "Not Found"}), (404, {"error": {"message": "Not Found", "code": 404}}), (405, b"")):
        vllm_server.replies["/v1/unload_lora_adapter"] = reply
        with pytest.raises(EngineError, match=r"takes no adapters; .*VLLM_ALLOW_RUNTIME_LORA_UPDATING=true"):
            run(tiny, vllm_server.url)


ANSWERS = [
    ((200, b"<html>"), EngineError, "holds no token ids"),
    ((200, {"model": "tiny"}), EngineError, "holds no token ids"),
    ((200, {"model": "tiny", "choices": []}), EngineError, "holds no token ids"),
    ((200, {"model": "tiny", "choices": [{"text": "older servers", "token_ids": None}]}), EngineError, "holds no token ids"),
    ((200, {"model": "tiny", "choices": [{"token_ids": [1, "2"]}]}), EngineError, "holds no token ids"),
    ((200, {"model": "tiny", "choices": [{"token_ids": [-1]}]}), EngineError, "holds no token ids"),
    ((200, {"model": "other", "choices": [{"token_ids": [1]}]}), EngineError, "answered with another model; found other; valid: tiny"),
    ((404, {"error": {"message": "gone", "code": 404}}), EngineError, "does not know the model"),
    ((400, {"error": {"message": "you asked me to translate Leyndarmál", "code": 400}}), EngineError, "failed on a request; found HTTP 400$"),
    ((503, b"<html>overloaded proxy</html>"), EngineError, "found HTTP 503"),
    ((429, b""), Overloaded, "too much to do"),
    (Drop, EngineError, "cannot be reached"),
]


@pytest.mark.parametrize(("reply", "kind", "message"), ANSWERS)
def test_an_answer_that_is_none(tiny: Base, vllm_server: Canned, reply: Any, kind: type[TellmtError], message: str) -> None:
    async def work(engine: OpenAIEngine) -> None:
        vllm_server.replies["/v1/completions"] = reply
        with pytest.raises(kind, match=message) as e:
            await engine.generate([PROMPT], None)
        assert "Leyndar" not in str(e.value)

    run(tiny, vllm_server.url, work)


def test_what_is_asked_of_the_server(tiny: Base, vllm_server: Canned, adapter: Adapter) -> None:
    """Token ids go out, BOS included; nothing is left to the server's defaults; the key goes along."""

    async def work(engine: OpenAIEngine) -> None:
        await engine.load(adapter.id, adapter.path)
        generations = await engine.generate([Prompt((2, 300, 301), 8, False, 1.2)], adapter.id)
        assert [(g.tokens, g.finish) for g in generations] == [(1, "stop")]
        await engine.generate([Prompt((2, 300), 4, False, sampling=Sampling(0.5, 40, 0.9, 7))], None)

    with with_key():
        run(tiny, vllm_server.url + "/v1/", work)
    *_, greedy_request, sampled_request = vllm_server.requests_to("/v1/completions")
    assert [sampled_request[name] for name in ("temperature", "top_k", "top_p", "seed", "min_p")] == [0.5, 40, 0.9, 7, 0]
    assert [greedy_request[name] for name in ("temperature", "top_k", "top_p", "seed", "min_p")] == [0, 0, 1, None, 0]
    assert greedy_request["model"] == f"tellmt-{adapter.id}" and greedy_request["prompt"] == [2, 300, 301] and greedy_request["max_tokens"] == 8
    assert (
        greedy_request["temperature"] == 0
        and greedy_request["repetition_penalty"] == 1.2
        and greedy_request["stop_token_ids"] == [1]
        and greedy_request["return_token_ids"] is True
    )
    keys = {headers.get("Authorization") for path, _, headers in vllm_server.seen if path.startswith("/v1")}
    assert keys == {f"Bearer {KEY}"}


def test_a_connection_that_breaks_is_tried_once_more(tiny: Base, vllm_server: Canned) -> None:
    answer: Any = vllm_server.replies["/v1/completions"]
    breaks_left = [1]

    def once(body: Any) -> Any:
        breaks_left[0] -= 1
        return Drop if breaks_left[0] >= 0 else answer(body)

    async def work(engine: OpenAIEngine) -> None:
        vllm_server.replies["/v1/completions"] = once
        assert (await engine.generate([PROMPT], None))[0].tokens == 1
        breaks_left[0] = 2
        with pytest.raises(EngineError, match="cannot be reached"):
            await engine.generate([PROMPT], None)

    run(tiny, vllm_server.url, work)


def test_an_adapter_that_the_server_lost_is_loaded_again(tiny: Base, vllm_server: Canned, adapter: Adapter) -> None:
    """It was restarted, or another service that shares it unloaded the adapter."""

    async def work(engine: OpenAIEngine) -> None:
        await engine.load(adapter.id, adapter.path)
        forget: Any = vllm_server.replies["/v1/unload_lora_adapter"]
        forget({"lora_name": f"tellmt-{adapter.id}"})
        assert len(await engine.generate([PROMPT] * 8, adapter.id)) == 8
        forget({"lora_name": f"tellmt-{adapter.id}"})
        await engine.unload(adapter.id)

    run(tiny, vllm_server.url, work)


def test_an_adapter_that_is_there_already_is_taken_as_it_is_and_one_of_another_path_is_not(tiny: Base, vllm_server: Canned, adapter: Adapter) -> None:
    async def work(engine: OpenAIEngine) -> None:
        await engine.load(adapter.id, adapter.path)

    load: Any = vllm_server.replies["/v1/load_lora_adapter"]
    load({"lora_name": f"tellmt-{adapter.id}", "lora_path": str(adapter.path)})
    run(tiny, vllm_server.url, work)
    assert vllm_server.requests_to("/v1/unload_lora_adapter") == [{"lora_name": "tellmt-nothing"}]
    unload: Any = vllm_server.replies["/v1/unload_lora_adapter"]
    unload({"lora_name": f"tellmt-{adapter.id}"})
    load({"lora_name": f"tellmt-{adapter.id}", "lora_path": "/somewhere/else"})
    run(tiny, vllm_server.url, work)
    models: Any = vllm_server.replies["/v1/models"]
    assert models(None)[1]["data"][1]["root"] == str(adapter.path)


def test_a_path_is_told_as_the_server_sees_it(tiny: Base, vllm_server: Canned, adapter: Adapter) -> None:
    async def work(engine: OpenAIEngine) -> None:
        await engine.load(adapter.id, adapter.path)

    run(tiny, vllm_server.url, work, path_map=f"{adapter.path.parent}/=/mnt/adapters")
    assert vllm_server.requests_to("/v1/load_lora_adapter")[-1]["lora_path"] == f"/mnt/adapters/{adapter.path.name}"


def test_a_refused_adapter_says_why(tiny: Base, vllm_server: Canned, adapter: Adapter) -> None:
    async def work(engine: OpenAIEngine) -> None:
        for status, message in ((404, "No adapter found for it"), (500, "Call failed:\nLoRA rank 16 is greater than max_lora_rank 8.")):
            vllm_server.replies["/v1/load_lora_adapter"] = (status, {"error": {"message": message, "code": status}})
            with pytest.raises(AdapterError, match=rf"refused the adapter; found HTTP {status}: .*{message[-12:-1]}") as e:
                await engine.load(adapter.id, adapter.path)
            assert ("--engine-path-map" in str(e.value)) == (status == 404)
        assert engine.loaded() == []

    run(tiny, vllm_server.url, work)


def test_leaving_closes_the_request(tiny: Base, vllm_server: Canned) -> None:
    async def work(engine: OpenAIEngine) -> None:
        vllm_server.replies["/v1/completions"] = Hang
        call = asyncio.create_task(engine.generate([PROMPT] * 3, None))
        while vllm_server.running < 3:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        end = time.monotonic() + 5
        while vllm_server.left < 3 and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert vllm_server.left == 3

    run(tiny, vllm_server.url, work)


def test_connections_are_bounded_and_all_is_answered(tiny: Base, vllm_server: Canned) -> None:
    answer: Any = vllm_server.replies["/v1/completions"]

    def slow(body: Any) -> Any:
        time.sleep(0.05)
        return answer(body)

    async def work(engine: OpenAIEngine) -> None:
        vllm_server.replies["/v1/completions"] = slow
        calls = [engine.generate([PROMPT] * 10, None) for _ in range(12)]
        assert sum(map(len, await asyncio.gather(*calls))) == 120

    run(tiny, vllm_server.url, work)
    assert 4 < vllm_server.most <= 16


def test_a_server_that_falls_silent_ends_the_calls(tiny: Base, vllm_server: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine is gone: connections stay open and nothing comes. One late answer is no death."""
    import serve.engines.openai.engine as driver

    monkeypatch.setattr(driver, "LOOK", 0.02)
    monkeypatch.setattr(driver, "LATE", 0.05)

    async def work(engine: OpenAIEngine) -> None:
        vllm_server.replies["/v1/completions"] = Hang
        call = asyncio.create_task(engine.generate([PROMPT], None))
        while not vllm_server.running:
            await asyncio.sleep(0.01)
        assert await engine.healthy()
        vllm_server.replies["/health"] = Hang
        with pytest.raises(EngineError, match="does not answer"):
            await asyncio.wait_for(call, 5)
        assert not await engine.healthy()
        vllm_server.replies["/health"] = (200, b"")
        while not await engine.healthy():
            await asyncio.sleep(0.01)
        vllm_server.replies["/health"] = (503, b"")
        assert not await engine.healthy()

    run(tiny, vllm_server.url, work)


def test_a_key_that_no_header_can_carry_is_not_shown(tiny: Base, vllm_server: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLMT_ENGINE_KEY", "geheim\x07lykill")
    with pytest.raises(BadInput, match="TELLMT_ENGINE_KEY") as e:
        run(tiny, vllm_server.url)
    assert "geheim" not in str(e.value)


@pytest.mark.slow
@pytest.mark.usefixtures("in_cache")
def test_with_a_real_server(base: Base, vllm_serve: VllmServe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key, and that leaving aborts the work in vLLM itself."""

    async def go() -> None:
        engine = unstarted_engine("openai", base, vllm_serve)
        await engine.start()
        try:
            call = asyncio.create_task(engine.generate(prompts(16, 400), None))
            while vllm_serve.metric("vllm:num_requests_running") < 8:
                assert not call.done()
                await asyncio.sleep(0.02)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            end = time.monotonic() + 2
            while vllm_serve.metric("vllm:num_requests_running") + vllm_serve.metric("vllm:num_requests_waiting{"):
                assert time.monotonic() < end, "vLLM still works on it"
                await asyncio.sleep(0.02)
        finally:
            await engine.close()

    with with_key():
        asyncio.run(asyncio.wait_for(go(), 60))
    monkeypatch.setenv("TELLMT_ENGINE_KEY", "wrong")
    with pytest.raises(EngineError, match="refuses the key") as e:
        asyncio.run(asyncio.wait_for(go(), 60))
    assert json.dumps(str(e.value)).find("wrong") < 0
