"""The service's log: lines with time and level, as text or JSON, and never a text that a user sent."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.config import LogConfig
from serve.logs import StderrHandler, set_up
from tests.serve.test_cli import post, published, start  # noqa: F401
from tests.support.serving import until

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
MARKER = "Leyndarmálið"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    set_up(LogConfig())


def records(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_a_line_of_text_has_time_and_level(capfd: pytest.CaptureFixture[str]) -> None:
    set_up(LogConfig())
    logging.getLogger("serve.a").warning("is-en: not unloaded", extra={"pair": "is-en"})
    assert re.fullmatch(rf"{TIME} WARNING is-en: not unloaded\n", capfd.readouterr().err)


def test_a_line_of_json_has_the_fields(capfd: pytest.CaptureFixture[str]) -> None:
    set_up(LogConfig(format="json"))
    logging.getLogger("serve.adapters.follower").error("is-en: not changed", extra={"pair": "is-en", "version": "ab", "status": 503, "text": MARKER})
    (record,) = records(capfd)
    assert re.fullmatch(TIME, record.pop("time"))
    message = {"level": "error", "logger": "serve.adapters.follower", "message": "is-en: not changed"}
    assert record == {**message, "pair": "is-en", "version": "ab", "status": 503}


def test_the_level_is_that_of_our_records_and_libraries_tell_of_problems_alone(capfd: pytest.CaptureFixture[str]) -> None:
    set_up(LogConfig(level="error"))
    logging.getLogger("serve.a").warning("a")
    logging.getLogger("tellmt.serve").error("b")
    set_up(LogConfig(level="debug"))
    logging.getLogger("serve.a").debug("c")
    logging.getLogger("httpx").info("d")
    logging.getLogger("httpx").warning("e")
    assert [line.split(" ", 1)[1] for line in capfd.readouterr().err.splitlines()] == ["ERROR b", "DEBUG c", "WARNING e"]


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_is_logged_by_kind_and_place_in_one_line(capfd: pytest.CaptureFixture[str], format: Any) -> None:
    set_up(LogConfig(format=format))
    try:
        raise ValueError(MARKER)
    except ValueError as e:
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=True)
        # As asyncio reports a task whose exception nobody fetched: the lines after the first quote it.
        logging.getLogger("asyncio").error(f"Task exception was never retrieved\nfuture: <Task finished exception={e!r}>", exc_info=e)
    logged = capfd.readouterr().err
    assert MARKER not in logged and logged.count("\n") == 2
    assert "Exception in ASGI application: ValueError at test_logs.py:" in logged and "Task exception was never retrieved: ValueError at" in logged


def test_no_record_can_pass_for_two_or_command_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    set_up(LogConfig())
    logging.getLogger("serve.a").error("one\nERROR two\x1b[2J")
    logged = capfd.readouterr().err
    assert logged.count("\n") == 1 and "\x1b" not in logged


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(LogConfig())
    full = open("/dev/full", "w")  # noqa: SIM115
    monkeypatch.setattr(sys, "stderr", full)
    logging.getLogger("serve.a").error("the disk is full")
    with contextlib.suppress(OSError):
        full.close()
    logging.getLogger("serve.a").error("the stream is closed")


def test_a_second_set_up_replaces_the_first() -> None:
    set_up(LogConfig())
    set_up(LogConfig(format="json"))
    assert sum(isinstance(h, StderrHandler) for h in logging.getLogger().handlers) == 1


def test_a_service_logs_json_lines_beside_its_ready_line(start: Any, tmp_path: Path) -> None:  # noqa: F811
    id = published(tmp_path)
    service = start("--log-format", "json")
    assert post(service.url, MARKER).status_code == 200
    newer = published(tmp_path / "b", seed=2)
    until(lambda: f'"version": "{newer}"' in service.err)
    assert service.end(signal.SIGTERM) == 0
    logged = [json.loads(line) for line in service.lines if line.startswith("{")]
    assert [(r["pair"], r["version"], r["level"], r["logger"]) for r in logged if "version" in r] == [
        ("is-en", id, "info", "serve.adapters.follower"), ("is-en", newer, "info", "serve.adapters.follower"),
    ]  # fmt: skip
    assert any(r["message"].startswith("stopping") for r in logged)
    assert MARKER not in service.err


def test_a_service_logs_text_and_keeps_what_is_below_the_level(start: Any, tmp_path: Path) -> None:  # noqa: F811
    published(tmp_path)
    service, quiet = start(), start("--log-level", "warning")
    assert post(service.url, MARKER).status_code == post(quiet.url, MARKER).status_code == 200
    for process in (service, quiet):
        assert process.end(signal.SIGTERM) == 0
        assert MARKER not in process.err
    assert re.search(rf"^{TIME} INFO is-en: \w+ is live$", service.err, re.MULTILINE)
    assert "is live" not in quiet.err and "stopping" not in quiet.err
