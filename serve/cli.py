"""`tellmt serve`: the service as a process. Reads the registry, the shipped adapters and the base; writes nothing but,
where options ask for it, corrections (`serve.corrections`) and the monitor's history (`eval.monitor.history`).

The process binds its port before anything slow begins. HTTP is up while the engine starts, so that /health and /ready answer. `serve.server` says how
the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import socket
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from serve.config import DocumentsMode, EngineConfig, Limits, ListenConfig, LogConfig, LogFormat, LogLevel, MonitorConfig, ServeConfig, WebConfig
from serve.logs import set_up
from tell.adapter.shipped import NO_SHIPPED, Shipped, on_base, shipped_adapters
from tell.command import Command
from tell.console import emit, json_mode, say
from tell.errors import MissingExtra, TellmtError
from tell.extras import installed, need
from tell.machine import share_memory_of_threads
from tell.model.base import DEFAULT_BASE, find_base
from tell.model.engine import EngineOptions, choose_engine, open_engine
from tell.paths import monitor_dir, writable
from tell.registry.registry import Registry

if TYPE_CHECKING:
    from serve.adapters.follower import Follower
    from serve.documents.ledger import Ledger
    from serve.translation.service import Service

# Where an option is not given.
DEFAULT = ServeConfig()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises TellmtError that names the port when it is in use or not permitted."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as e:
        raise TellmtError("no such host", place="--host", found=f"{host} ({e})", valid="an address of this machine, such as 127.0.0.1") from None
    sock = socket.socket(family, kind, protocol)
    try:
        # A port that a service has just left can be bound again at once.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError as e:
        sock.close()
        if e.errno == errno.EADDRINUSE:
            raise TellmtError(f"port {port} is in use", place=host, valid="another port, with --port, or 0 for any that is free") from None
        raise TellmtError(f"port {port} cannot be bound", place=host, found=e.strerror or str(e), valid="another --port or --host") from None
    return sock


def most_used_base(registry: Registry, shipped: Mapping[str, Shipped]) -> str:
    """The base of most live adapters, or else of most shipped ones; the default base without any.

    Unreadable adapters are reported later.
    """
    count: Counter[str] = Counter()
    for pair in registry.pairs():
        with contextlib.suppress(TellmtError, OSError):
            live = registry.state(pair).live
            if live is not None:
                count[registry.card(live).base.id] += 1
    count = count or Counter(s.card.base.id for s in shipped.values())
    return min(count, key=lambda b: (-count[b], b)) if count else DEFAULT_BASE


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce_ready(service: Service, follower: Follower, url: str) -> None:
    """Print the ready line, with all pairs that are served, loaded or not."""
    pairs = {pair: f.wanted for pair, f in follower.pairs.items() if pair in service.pairs()}
    pairs |= {pair: version.adapter.id for pair, version in service.versions.live.items()}
    names = [f"{pair} {str(id)[:12]}" + ("" if pair in service.versions.live else f" ({follower.pairs[pair].state})") for pair, id in sorted(pairs.items())]
    shown = ", ".join(names) or "no pair is live yet"
    refused = {pair: f.reason for pair, f in follower.pairs.items() if pair not in pairs}
    emit({"url": url, "engine": service.engine.name, "base": service.base.id, "pairs": pairs, "refused": refused})
    say(f"ready: {url}, engine {service.engine.name}, base {service.base.id}, {shown}")


def serve_config(options: Mapping[str, Any]) -> ServeConfig:
    """The one place where the command's options become a ServeConfig. Raises BadInput and click.UsageError; TypeError for an option it does not know."""
    from serve.http.origins import parse_host, parse_origin, parse_proxy, parse_public_url
    from serve.translation.routing import parse_fallbacks

    unused = dict(options)
    take = unused.pop
    roll_back, webhook, monitored = take("roll_back_on_alarm"), take("alarm_webhook"), take("monitor")
    if not monitored and (roll_back or webhook):
        raise click.UsageError("--roll-back-on-alarm and --alarm-webhook go with --monitor")
    config = ServeConfig(
        listen=ListenConfig(take("host"), take("port"), take("drain"), take("grace")),
        web=WebConfig(
            tuple(map(parse_host, take("allow_host"))),
            tuple(map(parse_origin, take("allow_origin"))),
            tuple(map(parse_proxy, take("trusted_proxy"))),
            parse_public_url(take("public_url")),
            " ".join(take("notice").split()),
        ),
        engine=EngineConfig(take("engine"), take("base"), take("threads"), take("engine_url"), take("engine_path_map")),
        limits=Limits(
            # One more than live, for the new version during a change.
            adapters=take("max_adapters") + 1,
            rank=take("max_rank"),
            characters=take("max_chars"),
            waiting=take("max_waiting"),
            timeout=take("timeout"),
            cache=take("cache_mb") << 20,
            tries=take("tries"),
            fallback=parse_fallbacks(take("fallback")),
        ),
        monitor=MonitorConfig(monitor_dir() if monitored else None, 60.0 * take("canary_minutes"), roll_back, webhook),
        log=LogConfig(take("log_format"), take("log_level")),
        registry=take("registry"),
        shipped=not take("no_shipped"),
        switch_deadline=take("switch_deadline"),
        quota_storage=take("quota_storage"),
        documents=take("documents"),
        feedback=take("feedback"),
        compare_base=take("compare_base"),
    )
    if unused:
        raise TypeError(f"options without a place in ServeConfig: {', '.join(unused)}")
    return config


# Where an option has a default it is that of ServeConfig, and the help shows it.
_option = partial(click.option, show_default=True)


@click.command(cls=Command)
@_option("--port", type=click.IntRange(0, 65535), default=DEFAULT.listen.port, help="Port to listen on; 0 takes any that is free.")
@_option("--host", default=DEFAULT.listen.host, help="Address to listen on. Any other than this machine's own needs API keys: tellmt keys add.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Name in Host to answer to besides localhost: NAME, *.NAME or *; may name several.")
@click.option("--allow-origin", multiple=True, metavar="ORIGIN", help="Origin whose web pages may use the service, such as https://a.org; may name several.")
@click.option("--trusted-proxy", multiple=True, metavar="ADDRESS", help="Proxy whose X-Forwarded-Proto and -For count; may name several.")
@click.option("--public-url", default="", metavar="URL", help="Address under which clients reach the service; links begin with it.")
@click.option("--notice", default="", metavar="TEXT", help="Text that the page shows above everything else.")
@_option("--engine", default=DEFAULT.engine.name, help="vllm, ct2, openai, or auto: vllm where there is a GPU, else ct2.")
@click.option("--engine-url", default="", help="For --engine openai: the address of a vllm serve. If it needs a key, TELLMT_ENGINE_KEY has it.")
@click.option("--engine-path-map", default="", metavar="LOCAL=REMOTE", help="For --engine openai: the path REMOTE that the directory LOCAL has on that server.")
@click.option("--base", default=None, help="Base model. Default: the one the live adapters were trained on.")
@click.option("--registry", default=None, help="Registry to follow: a directory, or the URL of an object store. Default: TELLMT_REGISTRY.")
@_option("--threads", type=click.IntRange(0, 1024), default=0, help="CPU threads of the engine; 0 takes all.")
@_option(
    "--max-adapters",
    type=click.IntRange(1, 256),
    default=DEFAULT.limits.adapters - 1,
    help="Pairs loaded at once; further pairs are loaded when clients ask for them.",
)
@_option("--max-rank", type=click.IntRange(1, 256), default=DEFAULT.limits.rank, help="Largest LoRA rank.")
@_option("--max-chars", type=click.IntRange(1, 1_000_000), default=DEFAULT.limits.characters, help="Characters of one request; of one text for LibreTranslate.")
@_option("--max-waiting", type=click.IntRange(1, 1_000_000), default=DEFAULT.limits.waiting, help="Segments that may wait, of all requests together.")
@_option("--timeout", type=click.FloatRange(0, 86_400, min_open=True), default=DEFAULT.limits.timeout, help="Longest time of a request, in seconds.")
@_option("--cache-mb", type=click.IntRange(0, 1 << 20), default=DEFAULT.limits.cache >> 20, help="MiB of translations kept in memory; 0 keeps none.")
@_option("--tries", type=click.IntRange(0, 4), default=DEFAULT.limits.tries, help="Ways to translate a flagged segment again; 0: none.")
@_option("--fallback", default="none", help="For pairs without an adapter: pivot (through English), base, pivot,base, or none.")
@_option(
    "--switch-deadline",
    type=click.FloatRange(0, 3600),
    default=DEFAULT.switch_deadline,
    help="Seconds that a new version waits until all replicas of the registry have loaded it, to go live in all at once; 0: in each by itself.",
)
@_option("--quota-storage", default=DEFAULT.quota_storage, help="Storage that counts the quotas of keys; replicas share redis://HOST.")
@_option(
    "--documents",
    type=click.Choice(get_args(DocumentsMode)),
    default=DEFAULT.documents,
    help="Where documents live: in this process, or in the Redis of --quota-storage and the registry, "
    "for all replicas; auto: there if that is an object store.",
)
@click.option("--feedback", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Append users' corrections to this file, as JSON lines.")
@click.option("--compare-base", is_flag=True, help="Let clients ask for the bare base's translation beside an adapter's.")
@click.option("--monitor", is_flag=True, help="Run the canary sets of TELLMT_MONITOR at every deploy and on a schedule, and keep their history there.")
@_option(
    "--canary-minutes",
    type=click.IntRange(0, 100_000),
    default=round(DEFAULT.monitor.every / 60),
    help="Minutes between two runs of a canary set; 0: at deploys only.",
)
@click.option("--roll-back-on-alarm", is_flag=True, help="Bring back the previous version when a canary run finds the live one to be worse.")
@click.option("--alarm-webhook", default="", metavar="URL", help="POST each alarm to this URL as JSON when it begins and when it is over.")
@_option("--drain", type=click.FloatRange(0, 3600), default=DEFAULT.listen.drain, help="Seconds after SIGTERM in which accepted requests are answered.")
@_option("--grace", type=click.FloatRange(0, 600), default=DEFAULT.listen.grace, help="Seconds of these in which new requests are still accepted.")
@_option("--log-format", type=click.Choice(get_args(LogFormat)), default=DEFAULT.log.format, help="Format of the log's lines: text or json.")
@_option("--log-level", type=click.Choice(get_args(LogLevel)), default=DEFAULT.log.level, help="Least severe records that are logged.")
@NO_SHIPPED
def serve(**options: Any) -> int:
    """Serve the live adapters of the registry over HTTP.

    The service follows the registry: a published version goes live without a restart. The adapters that come with tellmt answer for pairs without a
    live version, if they are for the base that runs. The page is at /, the API at /api/v1; LibreTranslate's clients use /translate and /languages.
    """
    config = serve_config(options)
    engine = choose_engine(config.engine.name)
    for module in ("fastapi", "uvicorn", "prometheus_client", "multipart", "limits"):
        need(module, "serve")
    set_up(config.log)
    if config.monitor.home is not None:
        writable(config.monitor.home, "monitor's directory", "TELLMT_MONITOR")
    sock = bind(config.listen.host, config.listen.port)
    try:
        return _serve(config, engine, sock)
    finally:
        sock.close()


def _ledger(config: ServeConfig, registry: Registry) -> Ledger | None:
    """What replicas know of documents, where they share them. Raises TellmtError where they cannot."""
    redis = config.quota_storage.removeprefix("async+").startswith(("redis://", "rediss://"))
    if config.documents == "shared" and not redis:
        raise TellmtError("documents can be shared through Redis alone", place="--documents", valid="--quota-storage redis://HOST, or --documents process")
    in_objects = "://" in registry.place and not registry.place.startswith("memory:")
    if config.documents == "process" or not (redis and (in_objects or config.documents == "shared")):
        return None
    if not installed("coredis"):
        # Quotas may be counted through another client of Redis.
        if config.documents == "auto":
            return None
        raise MissingExtra("this needs coredis, which is not installed", place="--documents", valid='run: pip install "limits[async-redis]"')
    from serve.documents.ledger import Ledger

    return Ledger(config.quota_storage, registry.place)


def _serve(config: ServeConfig, engine: str, sock: socket.socket) -> int:
    """Serve on a socket that listens, with the engine of this name. Returns the exit code."""
    from serve.adapters.agreement import Agreement
    from serve.adapters.follower import Follower
    from serve.app import create_app
    from serve.auth.gate import keys_for
    from serve.auth.quota import Quota
    from serve.corrections import Feedback
    from serve.monitor import Monitor
    from serve.server import make_server, run_service
    from serve.translation.service import Service

    share_memory_of_threads()
    feedback = Feedback(config.feedback) if config.feedback else None
    keys, quota, monitor = keys_for(sock.getsockname()[0]), Quota(config.quota_storage), Monitor(config.monitor)
    registry = Registry(config.registry)
    ledger = _ledger(config, registry)
    shipped = shipped_adapters(not config.shipped)
    base = find_base(config.engine.base or most_used_base(registry, shipped))
    limits = dataclasses.replace(config.limits, context=min(config.limits.context, base.context))
    engine_options = EngineOptions(
        base=base,
        max_adapters=limits.adapters,
        max_rank=limits.rank,
        threads=config.engine.threads,
        max_batch=limits.batch,
        max_context=limits.context,
        url=config.engine.url,
        path_map=config.engine.path_map,
    )
    if not json_mode():
        say(f"{url_of(sock)}: starting {engine} with {base.id}; registry {registry.place}")
    service = Service(open_engine(engine, engine_options), limits)
    agreement = Agreement(registry, config.switch_deadline) if config.switch_deadline else None
    follower = Follower(service.versions, registry, shipped=on_base(shipped, base), agreement=agreement)
    jobs = None
    if ledger is not None:
        from serve.documents.shared import SharedJobs
        from serve.documents.shelf import Shelf

        jobs = SharedJobs(service, quota, ledger, Shelf(registry.store))
    app = create_app(service, follower, keys=keys, quota=quota, jobs=jobs, feedback=feedback, compare_base=config.compare_base, monitor=monitor, web=config.web)
    server = make_server(app, service)
    return asyncio.run(run_service(server, service, follower, sock, config.listen, lambda: _announce_ready(service, follower, url_of(sock))))
