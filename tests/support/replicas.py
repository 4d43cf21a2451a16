"""Replicas of the service for tests: processes over one Redis, one S3 server and a balancer that gives each request to the next one."""

from __future__ import annotations

import contextlib
import http.server
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.redis_server import tool

BUCKET = "registries"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Store:
    """An S3 server behind a proxy that can be told to refuse or delay what is written below `documents/`."""

    def __init__(self, backend: str):
        self.refusal: tuple[int, bytes] | None = None
        self.delay = 0.0
        store = self

        class Proxy(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, answer, headers = 0, b"", dict[str, str]()
                if self.command == "PUT" and "/documents/" in self.path:
                    time.sleep(store.delay)
                    if store.refusal:
                        status, answer = store.refusal
                if not status:
                    sent = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "accept-encoding", "expect")}
                    reply = httpx.request(self.command, backend + self.path, content=body, headers=sent, timeout=60, trust_env=False)
                    status, answer = reply.status_code, reply.content
                    headers = {n: v for n, v in reply.headers.items() if n not in ("content-length", "connection", "transfer-encoding", "date", "server")}
                    if self.command == "HEAD":
                        headers["content-length"] = reply.headers.get("content-length", "0")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("content-length", str(len(answer)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, *args: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def refuse(self, status: int, code: str) -> None:
        self.refusal = status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()

    def keep(self) -> None:
        self.refusal, self.delay = None, 0.0


@contextlib.contextmanager
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, str]]:
    """The store, and the URL of a registry in it, which processes that are started find too."""
    s3fs = pytest.importorskip("s3fs", reason="the driver of S3 is not installed")
    moto: Any = pytest.importorskip("moto.server", reason="the S3 server for tests is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store = Store(f"http://{host}:{port}")
    for name, value in {"ENDPOINT_URL": store.url, "ACCESS_KEY_ID": "someone", "SECRET_ACCESS_KEY": "secretword", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    if not fs.exists(BUCKET):
        fs.mkdir(BUCKET)
    try:
        yield store, f"s3://{BUCKET}/{time.time_ns()}"
    finally:
        store.server.shutdown()
        server.stop()


HAPROXY = """
global
  log stdout format raw local0 warning
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response
frontend in
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /ready
{servers}
"""


@contextlib.contextmanager
def balancer(folder: Path, ports: list[int]) -> Iterator[str]:
    """The address of an HAProxy that asks the replicas at these ports in turn, as long as they are ready."""
    program, port, config = tool("haproxy", "haproxy"), free_port(), folder / "haproxy.cfg"
    servers = "\n".join(f"  server r{p} 127.0.0.1:{p} check inter 200ms fall 1 rise 1" for p in ports)
    config.write_text(HAPROXY.format(port=port, servers=servers), encoding="utf-8")
    process = subprocess.Popen([program, "-db", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
