"""`tellmt serve`: the service as a process. Reads the registry, the shipped adapters and the base; writes nothing but,
where it is asked to, corrections (`serve.corrections`) and the monitor's history (`eval.monitor.history`).

The port is taken before anything slow begins. The HTTP side is up while the engine still starts, so that /health and /ready can be
asked. How the process ends is in `serve.server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tell.adapter.shipped import NO_SHIPPED, Shipped, on_base, shipped_adapters
from tell.command import Command
from tell.console import emit, json_mode, say
from tell.errors import TellmtError
from tell.extras import need
from tell.model.base import DEFAULT_BASE, find_base
from tell.model.engine import EngineOptions, choose_engine, open_engine
from tell.paths import monitor_dir, writable
from tell.registry.registry import Registry

if TYPE_CHECKING:
    from serve.adapters.follower import Follower
    from serve.translation.service import Service
from serve.config import Limits

CONTEXT = 4096


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises TellmtError naming the port when it is taken or may not be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as e:
        raise TellmtError("no such host", place="--host", found=f"{host} ({e})", valid="an address of this machine, such as 127.0.0.1") from None
    sock = socket.socket(family, kind, protocol)
    try:
        # A port that a service just left can be taken again at once.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError as e:
        sock.close()
        if e.errno == errno.EADDRINUSE:
            raise TellmtError(f"port {port} is in use", place=host, valid="another port, with --port, or 0 for any that is free") from None
        raise TellmtError(f"port {port} cannot be taken", place=host, found=e.strerror or str(e), valid="another --port or --host") from None
    return sock


def base_of(registry: Registry, shipped: Mapping[str, Shipped]) -> str:
    """The base that most live adapters were trained on, or else most shipped ones; the default base where there are none.

    Unreadable ones are left to be reported later.
    """
    bases: Counter[str] = Counter()
    for pair in registry.pairs():
        with contextlib.suppress(TellmtError, OSError):
            live = registry.state(pair).live
            if live is not None:
                bases[registry.card(live).base.id] += 1
    bases = bases or Counter(s.card.base.id for s in shipped.values())
    return min(bases, key=lambda b: (-bases[b], b)) if bases else DEFAULT_BASE


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(service: Service, follower: Follower, url: str) -> None:
    """One line when translations are answered; pairs that are not loaded, or not yet, are among them."""
    pairs = {pair: f.wanted for pair, f in follower.pairs.items() if pair in service.pairs()}
    pairs |= {pair: version.adapter.id for pair, version in service.versions.live.items()}
    named = [f"{pair} {str(id)[:12]}" + ("" if pair in service.versions.live else f" ({follower.pairs[pair].state})") for pair, id in sorted(pairs.items())]
    shown = ", ".join(named) or "no pair is live yet"
    refused = {pair: f.reason for pair, f in follower.pairs.items() if pair not in pairs}
    emit({"url": url, "engine": service.engine.name, "base": service.base.id, "pairs": pairs, "refused": refused})
    say(f"ready: {url}, engine {service.engine.name}, base {service.base.id}, {shown}")


def _limits(max_adapters: int, max_rank: int, max_chars: int, context: int) -> Limits:
    from serve.config import Limits

    # One more than live, for the new version during a change.
    return Limits(adapters=max_adapters + 1, rank=max_rank, context=context, characters=max_chars)


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on; 0 takes any free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on. One that other machines reach needs API keys: tellmt keys add.")
@click.option("--engine", default="auto", show_default=True, help="vllm, ct2, openai, or auto: vllm on a GPU, else ct2.")
@click.option("--engine-url", default="", help="For --engine openai: address of a vllm serve. Its key, where it needs one, is read from TELLMT_ENGINE_KEY.")
@click.option("--engine-path-map", default="", metavar="LOCAL=REMOTE", help="For --engine openai: the path of LOCAL on that server.")
@click.option("--base", default=None, help="Base model. Default: the base of the live adapters.")
@click.option("--registry", default=None, help="Registry to follow: a directory, or the URL of an object store. Default: TELLMT_REGISTRY.")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, show_default=True, help="CPU threads of the engine; 0 uses all.")
@click.option("--max-adapters", type=click.IntRange(1, 256), default=8, show_default=True, help="Pairs loaded at once; of more, those that are requested.")
@click.option("--max-rank", type=click.IntRange(1, 256), default=16, show_default=True, help="Largest LoRA rank.")
@click.option("--max-chars", type=click.IntRange(1, 1_000_000), default=100_000, show_default=True, help="Most characters of text in one request.")
@click.option("--max-waiting", type=click.IntRange(1, 1_000_000), default=4096, show_default=True, help="Most segments that may wait, of all requests.")
@click.option("--timeout", type=click.FloatRange(0, 86_400, min_open=True), default=300, show_default=True, help="Most seconds for one request.")
@click.option("--cache-mb", type=click.IntRange(0, 1 << 20), default=32, show_default=True, help="MiB for the cache of translations; 0 switches it off.")
@click.option("--tries", type=click.IntRange(0, 4), default=4, show_default=True, help="Most retries of a flagged segment; 0 switches them off.")
@click.option("--fallback", default="none", show_default=True, help="For pairs without an adapter: pivot (through English), base, pivot,base, or none.")
@click.option("--quota-storage", default="memory://", show_default=True, help="Store that counts the quotas of keys: replicas share redis://HOST.")
@click.option("--feedback", type=click.Path(dir_okay=False, path_type=Path), default=None, help="File to keep users' corrections in, as JSON lines.")
@click.option("--compare-base", is_flag=True, help="Allow requests for the bare base's translation beside the adapter's.")
@click.option("--monitor", is_flag=True, help="Run the canary sets of TELLMT_MONITOR at each deploy and on a schedule.")
@click.option(
    "--canary-minutes", type=click.IntRange(0, 100_000), default=360, show_default=True, help="Minutes between two runs of a set; 0 runs it at deploys only."
)
@click.option("--roll-back-on-alarm", is_flag=True, help="Roll back to the previous version when a canary run shows that the live one is worse.")
@click.option("--alarm-webhook", default="", metavar="URL", help="URL to POST each alarm to, as JSON, when it begins and when it ends.")
@click.option("--drain", type=click.FloatRange(0, 3600), default=30, show_default=True, help="Seconds after SIGTERM within which accepted requests may end.")
@click.option("--grace", type=click.FloatRange(0, 600), default=1, show_default=True, help="Seconds of these in which new requests are still accepted.")
@NO_SHIPPED
def serve(
    port: int,
    host: str,
    engine: str,
    engine_url: str,
    engine_path_map: str,
    base: str | None,
    registry: str | None,
    threads: int,
    max_adapters: int,
    max_rank: int,
    max_chars: int,
    max_waiting: int,
    timeout: float,
    cache_mb: int,
    tries: int,
    fallback: str,
    quota_storage: str,
    feedback: Path | None,
    compare_base: bool,
    monitor: bool,
    canary_minutes: int,
    roll_back_on_alarm: bool,
    alarm_webhook: str,
    drain: float,
    grace: float,
    no_shipped: bool,
) -> int:
    """Serve the live adapters of the registry over HTTP.

    The service follows the registry: a published adapter goes live without a restart. For pairs without a live version the adapters that
    come with tellmt translate, if they were trained on the same base. The page is at /, the API at /api/v1, and LibreTranslate's
    clients use /translate and /languages.
    """
    from serve.translation.routing import parse_ways

    ways = parse_ways(fallback)
    name = choose_engine(engine)
    for module in ("fastapi", "uvicorn", "prometheus_client", "multipart", "limits"):
        need(module, "serve")
    from serve.adapters.follower import Follower
    from serve.auth.keys import keys_for
    from serve.auth.quota import Quota
    from serve.corrections import Feedback
    from serve.monitor import Monitor, Watching
    from serve.server import run
    from serve.translation.service import Service

    if not monitor and (roll_back_on_alarm or alarm_webhook):
        raise click.UsageError("--roll-back-on-alarm and --alarm-webhook go with --monitor")
    watching = Watching()
    if monitor:
        home = writable(monitor_dir(), "monitor's directory", "TELLMT_MONITOR")
        watching = Watching(home, 60.0 * canary_minutes, roll_back_on_alarm, alarm_webhook)
    sock = bind(host, port)
    try:
        keeping = Feedback(feedback) if feedback else None
        access: dict[str, Any] = {"keys": keys_for(sock.getsockname()[0]), "quota": Quota(quota_storage), "feedback": keeping}
        access |= {"compare_base": compare_base, "monitor": Monitor(watching)}
        found = Registry(registry)
        shipped = shipped_adapters(no_shipped)
        model = find_base(base or base_of(found, shipped))
        context = min(CONTEXT, model.context)
        options = EngineOptions(
            base=model, max_adapters=max_adapters + 1, max_rank=max_rank, threads=threads, max_context=context, url=engine_url, path_map=engine_path_map
        )
        if not json_mode():
            say(f"{url_of(sock)}: starting {name} with {model.id}; registry {found.place}")
        limits = _limits(max_adapters, max_rank, max_chars, context)
        limits = dataclasses.replace(limits, waiting=max_waiting, timeout=timeout, cache=cache_mb << 20, batch=options.max_batch, tries=tries, fallback=ways)
        service = Service(open_engine(name, options), limits)
        follower = Follower(service.versions, found, shipped=on_base(shipped, model))
        return asyncio.run(run(service, follower, sock, lambda: _announce(service, follower, url_of(sock)), drain, grace, **access))
    finally:
        sock.close()
