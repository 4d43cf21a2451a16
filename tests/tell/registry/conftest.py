"""Object stores to keep a registry in: this process's memory, and a server of the S3 protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tell.adapter.card import Adapter

Make = Callable[..., Adapter]
BUCKET = "registries"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server with one bucket."""
    pytest.importorskip("s3fs", reason="the driver of S3 is not installed")
    moto = pytest.importorskip("moto.server", reason="the S3 server for tests is not installed")
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import s3fs

    for name, value in {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "someone", "SECRET_ACCESS_KEY": "secretword", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    if not fs.exists(BUCKET):
        fs.mkdir(BUCKET)
    return f"s3://{BUCKET}/{time.time_ns()}"


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("s3")) if request.param == "s3" else f"memory://{time.time_ns()}"
