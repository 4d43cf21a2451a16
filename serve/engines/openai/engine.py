"""The driver for a `vllm serve` elsewhere: prompts go out as token ids over its OpenAI-compatible HTTP API, adapters as paths that it reads itself.

Reads the base's headers and the adapter directories here; the server must see the same directories, under the same path or the one
that `path_map` says. The server's side is described in docs/engines.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from serve.engines import checkpoint
from serve.engines.in_flight import CallsInFlight
from serve.engines.openai.http import LOAD, ServerResponse, VllmServer, parse_url, read_key
from tell.errors import AdapterError, BadInput, EngineError, RequestError, TellmtError
from tell.extras import need
from tell.model.engine import EngineOptions, EngineTraits, Generation, Prompt
from tell.model.stopping import StopTokens
from tell.model.tokenizer import BaseTokenizer

# Seconds between two health checks, seconds for an answer to one, and how many in a row may stay without: a busy server may be late.
LOOK = 1.0
LATE = 2.0
SILENCES = 5
# Connections per prompt of a batch: several calls fill vLLM's queue, and more would only wait there.
CONNECTIONS = 4
PROBE = "The weather was good yesterday, but tomorrow there will be rain and wind."


def parse_map(text: str) -> tuple[Path, PurePosixPath] | None:
    """`LOCAL=REMOTE`: where a directory of this machine lies for the server. None for the empty text. Raises BadInput."""
    if not text:
        return None
    local_path, _, server_path = text.partition("=")
    if not (local_path.startswith("/") and server_path.startswith("/")):
        raise BadInput("not two absolute paths", place="--engine-path-map", found=text, valid="LOCAL=REMOTE, such as /srv/registry=/mnt/registry")
    return Path(os.path.normpath(local_path)), PurePosixPath(server_path)


class OpenAIEngine:
    name = "openai"
    # The server batches by itself, and its version is not known here.
    traits = EngineTraits(penalises_prompt=True)

    def __init__(self, options: EngineOptions):
        self.base = options.base
        self._options = options
        self._url = parse_url(options.url or os.environ.get("TELLMT_ENGINE_URL", ""))
        self._map = parse_map(options.path_map or os.environ.get("TELLMT_ENGINE_PATH_MAP", ""))
        self._context = min(options.max_context, options.base.context)
        self._server: VllmServer | None = None
        # The base's name on the server.
        self._model = ""
        self._paths: dict[str, Path] = {}
        self._leaving: set[str] = set()
        self._loading = asyncio.Lock()
        self._calls = CallsInFlight()
        self._watcher: asyncio.Task[None] | None = None
        self._end_reason = "not started"

    async def start(self) -> None:
        """Ask the server what it serves. Raises EngineError when it is not there, serves another base, or cannot load adapters."""
        need("safetensors", "serve")

        def read() -> tuple[dict[str, list[int]], StopTokens, list[int]]:
            shapes = checkpoint.check_checkpoint(self.base)
            try:
                tokens = BaseTokenizer(self.base)
            except TellmtError as e:
                raise EngineError(e.thing, place=e.place, found=e.found) from None
            return shapes, StopTokens(tokens, tokens.vocabulary().items()), [*tokens.bos, *tokens.encode(PROBE)][:32]

        self._shapes, self._stop_tokens, self._probe_ids = await asyncio.to_thread(read)
        server = VllmServer(self._url, read_key(), CONNECTIONS * self._options.max_batch)
        try:
            await self._check_server(server)
        except BaseException:
            await server.close()
            raise
        self._server, self._end_reason = server, ""
        self._watcher = asyncio.create_task(self._watch(), name="vLLM server")

    async def _check_server(self, server: VllmServer) -> None:
        models = await server.models()
        base_names = {self.base.id, str(self.base.path), self._server_path(self.base.path)}
        bases = [model for model in models if not model.get("parent")]
        base_row = next((model for model in bases if model["id"] in base_names or model.get("root") in base_names), None)
        if base_row is None:
            served_names = ", ".join(model["id"] for model in bases) or "no model"
            raise EngineError("the vLLM server serves another base", place=self._url, found=served_names, valid=f"--served-model-name {self.base.id}")
        self._model = base_row["id"]
        max_model_len = base_row.get("max_model_len")
        if not isinstance(max_model_len, int) or max_model_len < self._context:
            raise EngineError(
                "the vLLM server's context is too short", place=self._url, found=str(max_model_len), valid=f"--max-model-len {self._context} or more"
            )
        # No adapter has this name. vLLM says so; a server without the route says that there is no such route, with `detail`.
        response = await server.request("POST", "/v1/unload_lora_adapter", {"lora_name": "tellmt-nothing"})
        if response.status != 404 or "error" not in response.body or response.message.endswith("Not Found"):
            raise EngineError(
                "the vLLM server takes no adapters", place=self._url, found=response.message, valid="VLLM_ALLOW_RUNTIME_LORA_UPDATING=true in its environment"
            )
        # No file lies at this path either. vLLM says so, unless it was started without LoRA.
        missing = f"/tellmt-nothing-{os.getpid()}"
        response = await server.request("POST", "/v1/load_lora_adapter", {"lora_name": "tellmt-nothing", "lora_path": missing}, seconds=LOAD)
        if response.status == 500 and "not enabled" in response.message:
            raise EngineError("the vLLM server takes no adapters", place=self._url, found=response.message, valid="--enable-lora")
        await self._probe(server)

    async def _probe(self, server: VllmServer) -> None:
        """Raises EngineError when the server does not take ids and give ids back."""
        body = {"model": self._model, "prompt": self._probe_ids, "max_tokens": 1, "temperature": 0, "return_token_ids": True}
        response = await server.request("POST", "/v1/completions", body, seconds=LOAD, retry=True)
        try:
            response.body["choices"][0]["token_ids"][0] + 0
        except (KeyError, IndexError, TypeError):
            status = f"HTTP {response.status}"
            raise EngineError("the vLLM server does not answer as vLLM does", place=self._url, found=status, valid="vllm serve 0.11 or newer") from None

    def _server_path(self, path: Path) -> str:
        """The path as the server sees it. A path outside of the mapped directory keeps its own."""
        if self._map is not None and path.is_relative_to(self._map[0]):
            return str(self._map[1] / path.relative_to(self._map[0]))
        return str(path)

    def _server_name(self, adapter_id: str) -> str:
        """The adapter's name on the server: it never stands for other bytes, so several services may share a server."""
        return f"tellmt-{adapter_id}"

    def _running_server(self) -> VllmServer:
        if self._server is None or self._end_reason:
            raise EngineError("the engine is not running", place=self._url, found=self._end_reason)
        return self._server

    async def load(self, adapter_id: str, path: Path) -> None:
        """Have the server load an adapter. Raises AdapterError when it does not fit the base or the server refuses it."""
        server = self._running_server()
        async with self._loading:
            if adapter_id in self._paths:
                return
            held_adapters = len(self._paths) + len(self._leaving)
            if held_adapters >= self._options.max_adapters:
                raise AdapterError("too many adapters are loaded", found=str(held_adapters), valid=f"at most {self._options.max_adapters}")
            path = path.absolute()
            await asyncio.to_thread(self._check_adapter, adapter_id, path)
            await self._load_on_server(server, adapter_id, path)
            self._paths[adapter_id] = path

    def _check_adapter(self, adapter_id: str, path: Path) -> None:
        checkpoint.check_acts(checkpoint.open_fitting(self.base, self._shapes, adapter_id, path, self._options.max_rank))

    async def _load_on_server(self, server: VllmServer, adapter_id: str, path: Path) -> None:
        name, server_path = self._server_name(adapter_id), self._server_path(path)
        for last_try in (False, True):
            response = await server.request("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": server_path}, seconds=LOAD)
            if response.status == 200:
                return
            models = {model["id"]: model for model in await server.models()}
            if name in models and models[name].get("root") == server_path:
                # From an earlier run of this service, or by another one. An adapter's name is the hash of its content.
                return
            if name in models and not last_try:
                await self._unload_on_server(server, adapter_id)
                continue
            hint = "a path that the server sees too; --engine-path-map LOCAL=REMOTE where it has another name there" if response.status == 404 else None
            raise AdapterError("the vLLM server refused the adapter", place=server_path, found=response.message, valid=hint)

    async def _unload_on_server(self, server: VllmServer, adapter_id: str) -> None:
        with contextlib.suppress(TellmtError):
            await server.request("POST", "/v1/unload_lora_adapter", {"lora_name": self._server_name(adapter_id)}, seconds=LOAD)

    async def unload(self, adapter_id: str) -> None:
        """Unload an adapter when the calls that use it have ended. New calls for it are refused at once."""
        if self._paths.pop(adapter_id, None) is None:
            return
        self._leaving.add(adapter_id)
        try:
            await self._calls.drained(adapter_id)
            if self._server is not None and not self._end_reason:
                response = await self._server.request("POST", "/v1/unload_lora_adapter", {"lora_name": self._server_name(adapter_id)}, seconds=LOAD)
                # 404: it is gone already, as after a restart of the server.
                if response.status not in (200, 404):
                    raise EngineError("the vLLM server could not remove an adapter", place=adapter_id, found=response.message)
        finally:
            self._leaving.discard(adapter_id)

    def loaded(self) -> list[str]:
        return sorted(self._paths)

    async def healthy(self) -> bool:
        """Whether the server answers. A late server counts as answering until it was late several times in a row."""
        return self._server is not None and not self._end_reason and await self._server.alive(LATE) is not False

    async def _watch(self) -> None:
        """Ends the calls that run when the server has gone without closing their connections, as when its machine has failed."""
        assert self._server is not None
        silences = 0
        while True:
            await asyncio.sleep(LOOK)
            alive = await self._server.alive(LATE)
            silences = silences + 1 if alive is None else 0
            if alive:
                self._end_reason = ""
            elif alive is False or silences >= SILENCES:
                self._end_reason = "the vLLM server does not answer" if alive is None else "the vLLM server has ended"
                self._calls.cancel()

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        """Raises AdapterError when the adapter is not loaded, RequestError when a prompt does not fit the context."""
        self._running_server()
        if adapter_id is not None and adapter_id not in self._paths:
            raise AdapterError("the adapter is not loaded", found=adapter_id, valid=", ".join(self.loaded()) or "none is")
        if too_long := [p for p in prompts if len(p.ids) + p.max_tokens > self._context]:
            tokens = f"{len(too_long[0].ids)} + {too_long[0].max_tokens} tokens"
            raise RequestError("prompt and output do not fit the context", found=tokens, valid=f"at most {self._context}")
        # As in `serve.engines.vllm`: a long call leaves places in vLLM's queue for others.
        places = asyncio.Semaphore(self._options.max_batch)
        path = self._paths[adapter_id] if adapter_id else None
        return await self._calls.gather(adapter_id, [self._generate_one(p, adapter_id, path, places) for p in prompts])

    async def _generate_one(self, prompt: Prompt, adapter_id: str | None, path: Path | None, places: asyncio.Semaphore) -> Generation:
        sampling = prompt.sampling
        body: dict[str, Any] = {
            "model": self._model if adapter_id is None else self._server_name(adapter_id),
            "prompt": list(prompt.ids),
            "max_tokens": prompt.max_tokens,
            # All of these have defaults on the server, which its operator or the base's generation_config.json may have changed.
            "temperature": sampling.temperature if sampling else 0,
            "top_p": sampling.top_p if sampling else 1,
            "top_k": sampling.top_k if sampling else 0,
            "seed": sampling.seed if sampling else None,
            "min_p": 0,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "repetition_penalty": prompt.repetition_penalty,
            "stop_token_ids": self._stop_tokens.ids(prompt.one_line),
            "return_token_ids": True,
        }
        try:
            async with places:
                server = self._running_server()
                response = await server.complete(body)
                if isinstance(response, ServerResponse) and adapter_id is not None and path is not None:
                    # The server was restarted, or another service that shares it unloaded the adapter.
                    async with self._loading:
                        await self._load_on_server(server, adapter_id, path)
                    response = await server.complete(body)
        except asyncio.CancelledError:
            if self._end_reason:
                raise EngineError(self._end_reason, place=self._url) from None
            raise
        if isinstance(response, ServerResponse):
            raise EngineError("the vLLM server does not know the model", place=self._url, found=f"HTTP {response.status}", valid=str(body["model"]))
        return self._stop_tokens.generation(response, prompt)

    async def close(self) -> None:
        """Fail the calls that run and leave the server as it is. Its adapters stay for other services, and for this one's next start."""
        server, self._server, self._end_reason = self._server, None, "the engine was closed"
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        self._paths.clear()
        if server is not None:
            self._calls.cancel()
            await self._calls.ended()
            await server.close()
