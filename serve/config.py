"""What an operator decides about a service: one frozen record, nested by subject, that `serve.cli` makes of the command's options."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

# A pair without an adapter: through English by two adapters, or by the base alone.
Fallback = Literal["pivot", "base"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
# Where documents live: in this process, or in Redis and the registry's store, for all replicas.
DocumentsMode = Literal["auto", "process", "shared"]


@dataclasses.dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where requests come in, and how long they are waited for at the end."""

    # Another address than this machine's own needs API keys (serve.auth.keys).
    host: str = "127.0.0.1"
    # 0 takes any port that is free.
    port: int = 8080
    # Seconds from SIGTERM until all accepted requests are answered.
    drain: float = 30
    # Seconds from SIGTERM in which new requests are still taken, so that a load balancer notices first.
    grace: float = 1


@dataclasses.dataclass(frozen=True, slots=True)
class WebConfig:
    """What browsers and proxies may do (serve.http.origins)."""

    # Names that requests may carry as Host besides loopback names: `name`, `*.name`, `*`. Without any, a service with keys answers to all.
    hosts: tuple[str, ...] = ()
    # Origins of web pages that may use the service: `scheme://host[:port]` or `*`.
    origins: tuple[str, ...] = ()
    # Addresses and networks whose X-Forwarded-Proto and X-Forwarded-For are believed.
    proxies: tuple[str, ...] = ()
    # The address under which clients reach the service; links begin with it. Empty: as the request was addressed.
    public_url: str = ""
    # What the page says above everything else, in the operator's words. Empty: nothing.
    notice: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class EngineConfig:
    # A name of the entry points `tellmt.engines`, or auto.
    name: str = "auto"
    # The id of the base model; None takes the one that the live adapters were trained on.
    base: str | None = None
    # CPU threads; 0 takes all.
    threads: int = 0
    # The address of the server of the driver `openai`, and `LOCAL=REMOTE` where a directory of this machine lies for it.
    url: str = ""
    path_map: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes on. `adapters` are loaded at once: the live ones and, during a change, the old and the new one."""

    adapters: int = 9
    rank: int = 16
    # Tokens of prompt and output together.
    context: int = 4096
    texts: int = 1000
    # Characters in one request: some minutes of work for a CPU.
    characters: int = 100_000
    # Segments admitted and not translated yet, over all requests.
    waiting: int = 4096
    # Segments that the engine runs at once (EngineOptions.max_batch): what it is given follows from that.
    batch: int = 64
    # Seconds for one request, from its arrival to its answer's end; it may ask for less.
    timeout: float = 300
    # Bytes of translations kept.
    cache: int = 32 << 20
    # Ways in which a flagged segment is tried again (serve.translation.retry).
    tries: int = 4
    # What may stand in for an adapter that a pair does not have, in order (serve.translation.routing).
    fallback: tuple[Fallback, ...] = ()
    # Seconds that a request waits for its pair to be loaded; the load goes on without it.
    patience: float = 20.0
    # Seconds for loading and checking one adapter. A first conversion takes 14 for a base of 270M parameters, and minutes for a large one.
    load: float = 900.0
    # Seconds that a version just loaded keeps its place while it is asked for.
    stay: float = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class MonitorConfig:
    """Which canary sets are run, and what an alarm leads to. The last four are intervals in seconds, shorter in tests."""

    # The directory of canary sets and history; None runs no set and keeps no history.
    home: Path | None = None
    # Seconds between two runs of a set; 0 runs it only when another version goes live.
    every: float = 6 * 3600
    # Whether an alarm brings back the version before.
    roll_back: bool = False
    # The address to which alarms are posted; empty posts none.
    webhook: str = ""
    # Between two looks at the traffic.
    tick: float = 1.0
    # Between two looks at the canary sets and the history.
    look: float = 5.0
    # Between two rows of the history about the traffic.
    store: float = 300.0
    # Until a run that the history did not take is made again.
    retry: float = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class LogConfig:
    format: LogFormat = "text"
    # The least severe records of this product that are written. Those of libraries are written from `warning` on.
    level: LogLevel = "info"


@dataclasses.dataclass(frozen=True, slots=True)
class ServeConfig:
    listen: ListenConfig = ListenConfig()
    web: WebConfig = WebConfig()
    engine: EngineConfig = EngineConfig()
    limits: Limits = Limits()
    monitor: MonitorConfig = MonitorConfig()
    log: LogConfig = LogConfig()
    # A directory or the URL of an object store; None takes TELLMT_REGISTRY.
    registry: str | None = None
    # Whether pairs without a live version are answered by the adapters that come with tellmt.
    shipped: bool = True
    # Seconds that a loaded version waits for the other replicas of the registry (serve.adapters.agreement); 0: it waits for none.
    switch_deadline: float = 0.0
    # A storage URI of the library `limits`: quotas are counted there, by all replicas that name the same one.
    quota_storage: str = "memory://"
    # auto: shared where `quota_storage` is Redis and the registry is in an object store.
    documents: DocumentsMode = "auto"
    # The file to which corrections are appended; None keeps none.
    feedback: Path | None = None
    # Whether clients may ask for the bare base's translation beside an adapter's.
    compare_base: bool = False
