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
from serve.engines.in_flight import Calls
from serve.engines.openai.http import LOAD, Answer, Server, parse_url, read_key
from tell.errors import AdapterError, BadInput, EngineError, RequestError, TellmtError
from tell.extras import need
from tell.model.engine import EngineOptions, EngineTraits, Generation, Prompt
from tell.model.stopping import Endings
from tell.model.tokenizer import Tokens

# Seconds between looks at whether the server lives, and how many in a row may go without an answer: a busy server may be late.
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
    here, _, there = text.partition("=")
    if not (here.startswith("/") and there.startswith("/")):
        raise BadInput("not two absolute paths", place="--engine-path-map", found=text, valid="LOCAL=REMOTE, such as /srv/registry=/mnt/registry")
    return Path(os.path.normpath(here)), PurePosixPath(there)


class OpenAIEngine:
    name = "openai"
    # The server batches by itself. Nothing here knows its version.
    traits = EngineTraits()

    def __init__(self, options: EngineOptions):
        self.base = options.base
        self._options = options
        self._url = parse_url(options.url or os.environ.get("TELLMT_ENGINE_URL", ""))
        self._map = parse_map(options.path_map or os.environ.get("TELLMT_ENGINE_PATH_MAP", ""))
        self._context = min(options.max_context, options.base.context)
        self._server: Server | None = None
        # The base's name on the server.
        self._model = ""
        self._paths: dict[str, Path] = {}
        self._leaving: set[str] = set()
        self._loading = asyncio.Lock()
        self._calls = Calls()
        self._watcher: asyncio.Task[None] | None = None
        self._why = "not started"

    async def start(self) -> None:
        """Ask the server what it serves. Raises EngineError when it is not there, serves another base, or cannot load adapters."""
        need("safetensors", "serve")

        def read() -> tuple[dict[str, list[int]], Endings, list[int]]:
            shapes = checkpoint.check_checkpoint(self.base)
            try:
                tokens = Tokens(self.base)
            except TellmtError as e:
                raise EngineError(e.thing, place=e.place, found=e.found) from None
            return shapes, Endings(tokens, tokens.vocabulary().items()), [*tokens.bos, *tokens.encode(PROBE)][:32]

        self._shapes, self._endings, self._probe_ids = await asyncio.to_thread(read)
        server = Server(self._url, read_key(), CONNECTIONS * self._options.max_batch)
        try:
            await self._meet(server)
        except BaseException:
            await server.close()
            raise
        self._server, self._why = server, ""
        self._watcher = asyncio.create_task(self._watch(), name="vLLM server")

    async def _meet(self, server: Server) -> None:
        rows = await server.models()
        known = {self.base.id, str(self.base.path), self._there(self.base.path)}
        bases = [r for r in rows if not r.get("parent")]
        found = next((r for r in bases if r["id"] in known or r.get("root") in known), None)
        if found is None:
            named = ", ".join(r["id"] for r in bases) or "no model"
            raise EngineError("the vLLM server serves another base", place=self._url, found=named, valid=f"--served-model-name {self.base.id}")
        self._model = found["id"]
        size = found.get("max_model_len")
        if not isinstance(size, int) or size < self._context:
            raise EngineError("the vLLM server's context is too short", place=self._url, found=str(size), valid=f"--max-model-len {self._context} or more")
        # Nothing is named so. vLLM says that; a server without the route says that there is no such route, with `detail`.
        answer = await server.ask("POST", "/v1/unload_lora_adapter", {"lora_name": "tellmt-nothing"})
        if answer.status != 404 or "error" not in answer.body or answer.said.endswith("Not Found"):
            raise EngineError(
                "the vLLM server takes no adapters", place=self._url, found=answer.said, valid="VLLM_ALLOW_RUNTIME_LORA_UPDATING=true in its environment"
            )
        # Nor does anything lie here. vLLM says that too, unless it was started without LoRA.
        missing = f"/tellmt-nothing-{os.getpid()}"
        answer = await server.ask("POST", "/v1/load_lora_adapter", {"lora_name": "tellmt-nothing", "lora_path": missing}, seconds=LOAD)
        if answer.status == 500 and "not enabled" in answer.said:
            raise EngineError("the vLLM server takes no adapters", place=self._url, found=answer.said, valid="--enable-lora")
        await self._probe(server)

    async def _probe(self, server: Server) -> None:
        """Raises EngineError when the server does not take ids and give ids back."""
        body = {"model": self._model, "prompt": self._probe_ids, "max_tokens": 1, "temperature": 0, "return_token_ids": True}
        answer = await server.ask("POST", "/v1/completions", body, seconds=LOAD, again=True)
        try:
            answer.body["choices"][0]["token_ids"][0] + 0
        except (KeyError, IndexError, TypeError):
            said = f"HTTP {answer.status}"
            raise EngineError("the vLLM server does not answer as vLLM does", place=self._url, found=said, valid="vllm serve 0.11 or newer") from None

    def _there(self, path: Path) -> str:
        """The path as the server sees it. A path outside of the mapped directory keeps its own."""
        if self._map is not None and path.is_relative_to(self._map[0]):
            return str(self._map[1] / path.relative_to(self._map[0]))
        return str(path)

    def _named(self, adapter_id: str) -> str:
        """The adapter's name on the server: it never stands for other bytes, so several services may share a server."""
        return f"tellmt-{adapter_id}"

    def _alive(self) -> Server:
        if self._server is None or self._why:
            raise EngineError("the engine is not running", place=self._url, found=self._why)
        return self._server

    async def load(self, adapter_id: str, path: Path) -> None:
        """Have the server load an adapter. Raises AdapterError when it does not fit the base or the server refuses it."""
        server = self._alive()
        async with self._loading:
            if adapter_id in self._paths:
                return
            held = len(self._paths) + len(self._leaving)
            if held >= self._options.max_adapters:
                raise AdapterError("too many adapters are loaded", found=str(held), valid=f"at most {self._options.max_adapters}")
            path = path.absolute()
            await asyncio.to_thread(self._check, adapter_id, path)
            await self._send(server, adapter_id, path)
            self._paths[adapter_id] = path

    def _check(self, adapter_id: str, path: Path) -> None:
        checkpoint.check_acts(checkpoint.open_fitting(self.base, self._shapes, adapter_id, path, self._options.max_rank))

    async def _send(self, server: Server, adapter_id: str, path: Path) -> None:
        name, there = self._named(adapter_id), self._there(path)
        for last in (False, True):
            answer = await server.ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": there}, seconds=LOAD)
            if answer.status == 200:
                return
            rows = {r["id"]: r for r in await server.models()}
            if name in rows and rows[name].get("root") == there:
                # From an earlier run of this service, or by another one. An adapter's name is the hash of its content.
                return
            if name in rows and not last:
                await self._forget(server, adapter_id)
                continue
            hint = "a path that the server sees too; --engine-path-map LOCAL=REMOTE where it has another name there" if answer.status == 404 else None
            raise AdapterError("the vLLM server refused the adapter", place=there, found=answer.said, valid=hint)

    async def _forget(self, server: Server, adapter_id: str) -> None:
        with contextlib.suppress(TellmtError):
            await server.ask("POST", "/v1/unload_lora_adapter", {"lora_name": self._named(adapter_id)}, seconds=LOAD)

    async def unload(self, adapter_id: str) -> None:
        """Forget an adapter once the calls that use it have ended. New calls for it are refused at once."""
        if self._paths.pop(adapter_id, None) is None:
            return
        self._leaving.add(adapter_id)
        try:
            await self._calls.drained(adapter_id)
            if self._server is not None and not self._why:
                answer = await self._server.ask("POST", "/v1/unload_lora_adapter", {"lora_name": self._named(adapter_id)}, seconds=LOAD)
                # 404: it is gone already, as after a restart of the server.
                if answer.status not in (200, 404):
                    raise EngineError("the vLLM server could not remove an adapter", place=adapter_id, found=answer.said)
        finally:
            self._leaving.discard(adapter_id)

    def loaded(self) -> list[str]:
        return sorted(self._paths)

    async def healthy(self) -> bool:
        """Whether the server answers. One that is only late counts as answering until it was late several times."""
        return self._server is not None and not self._why and await self._server.alive(LATE) is not False

    async def _watch(self) -> None:
        """Ends the calls that run when the server is gone without a word, as when its machine is: no connection would ever tell."""
        assert self._server is not None
        silent = 0
        while True:
            await asyncio.sleep(LOOK)
            alive = await self._server.alive(LATE)
            silent = silent + 1 if alive is None else 0
            if alive:
                self._why = ""
            elif alive is False or silent >= SILENCES:
                self._why = "the vLLM server does not answer" if alive is None else "the vLLM server has ended"
                self._calls.cancel()

    async def generate(self, prompts: Sequence[Prompt], adapter_id: str | None) -> list[Generation]:
        """Raises AdapterError when the adapter is not loaded, RequestError when a prompt does not fit the context."""
        self._alive()
        if adapter_id is not None and adapter_id not in self._paths:
            raise AdapterError("the adapter is not loaded", found=adapter_id, valid=", ".join(self.loaded()) or "none is")
        if over := [p for p in prompts if len(p.ids) + p.max_tokens > self._context]:
            found = f"{len(over[0].ids)} + {over[0].max_tokens} tokens"
            raise RequestError("prompt and output do not fit the context", found=found, valid=f"at most {self._context}")
        # As in `vllm_engine`: a long call leaves room in vLLM's queue for others.
        gate = asyncio.Semaphore(self._options.max_batch)
        path = self._paths[adapter_id] if adapter_id else None
        return await self._calls.all(adapter_id, [self._one(p, adapter_id, path, gate) for p in prompts])

    async def _one(self, prompt: Prompt, adapter_id: str | None, path: Path | None, gate: asyncio.Semaphore) -> Generation:
        drawn = prompt.sampling
        body: dict[str, Any] = {
            "model": self._model if adapter_id is None else self._named(adapter_id),
            "prompt": list(prompt.ids),
            "max_tokens": prompt.max_tokens,
            # All of these have defaults on the server, which its operator or the base's generation_config.json may have changed.
            "temperature": drawn.temperature if drawn else 0,
            "top_p": drawn.top_p if drawn else 1,
            "top_k": drawn.top_k if drawn else 0,
            "seed": drawn.seed if drawn else None,
            "min_p": 0,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "repetition_penalty": prompt.repetition_penalty,
            "stop_token_ids": self._endings.stops(prompt.one_line),
            "return_token_ids": True,
        }
        try:
            async with gate:
                server = self._alive()
                answer = await server.complete(body)
                if isinstance(answer, Answer) and adapter_id is not None and path is not None:
                    # The server was restarted, or another service that shares it unloaded the adapter.
                    async with self._loading:
                        await self._send(server, adapter_id, path)
                    answer = await server.complete(body)
        except asyncio.CancelledError:
            if self._why:
                raise EngineError(self._why, place=self._url) from None
            raise
        if isinstance(answer, Answer):
            raise EngineError("the vLLM server does not know the model", place=self._url, found=f"HTTP {answer.status}", valid=str(body["model"]))
        return self._endings.generation(answer, prompt)

    async def close(self) -> None:
        """Fail the calls that run and leave the server as it is. Its adapters stay for other services, and for this one's next start."""
        server, self._server, self._why = self._server, None, "the engine was closed"
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        self._paths.clear()
        if server is not None:
            self._calls.cancel()
            await self._calls.ended()
            await server.close()
