"""Every option of `tellmt serve` has a place in ServeConfig, and what is not given is what ServeConfig has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from serve.cli import serve, serve_config
from serve.config import ServeConfig
from tell.errors import BadInput

# Another value than the default, for each option.
OTHER: dict[str, Any] = {
    "port": 1, "host": "::1", "engine": "ct2", "engine_url": "http://a", "engine_path_map": "/a=/b", "base": "tiny", "registry": "/r", "threads": 3,
    "max_adapters": 2, "max_rank": 8, "max_chars": 10, "max_waiting": 11, "timeout": 12.0, "cache_mb": 1, "tries": 1, "fallback": "pivot",
    "quota_storage": "redis://a", "feedback": Path("f"), "compare_base": True, "monitor": True, "canary_minutes": 5, "roll_back_on_alarm": True,
    "alarm_webhook": "http://b", "drain": 7.0, "grace": 0.5, "log_format": "json", "log_level": "debug", "no_shipped": True,
    "allow_host": ("*.Example.org", "[::1]"), "allow_origin": ("https://a.org/",), "trusted_proxy": ("10.0.0.7", "10.1.0.0/16"), "public_url": "https://b.org/mt/",
    "switch_deadline": 9.0, "notice": " Closed\non Sunday ", "documents": "shared",
}  # fmt: skip


def options(*args: str) -> dict[str, Any]:
    return dict(serve.make_context("serve", list(args)).params)


def test_without_options_it_is_the_default() -> None:
    assert serve_config(options()) == ServeConfig()


def test_each_option_changes_the_config(isolated: Path) -> None:
    names = {p.name for p in serve.params if p.expose_value}
    assert set(OTHER) == names == set(options())
    for name, value in OTHER.items():
        beside = {"monitor": True} if name in ("roll_back_on_alarm", "alarm_webhook", "canary_minutes") else {}
        assert serve_config({**options(), **beside, name: value}) != serve_config({**options(), **beside}), name


def test_each_value_arrives(isolated: Path) -> None:
    config = serve_config(OTHER)
    listen, engine, limits, monitor = config.listen, config.engine, config.limits, config.monitor
    assert (listen.host, listen.port, listen.drain, listen.grace) == ("::1", 1, 7.0, 0.5)
    assert (engine.name, engine.base, engine.threads, engine.url, engine.path_map) == ("ct2", "tiny", 3, "http://a", "/a=/b")
    assert (config.web.hosts, config.web.origins) == (("*.example.org", "::1"), ("https://a.org",))
    assert (config.web.proxies, config.web.public_url) == (("10.0.0.7", "10.1.0.0/16"), "https://b.org/mt")
    assert config.web.notice == "Closed on Sunday"
    # One more than live, for the new version during a change.
    assert (limits.adapters, limits.rank, limits.characters, limits.waiting) == (3, 8, 10, 11)
    assert (limits.timeout, limits.cache, limits.tries, limits.fallback) == (12.0, 1 << 20, 1, ("pivot",))
    assert monitor.home is not None and (monitor.every, monitor.roll_back, monitor.webhook) == (300.0, True, "http://b")
    assert (config.log.format, config.log.level) == ("json", "debug")
    assert (config.registry, config.shipped, config.quota_storage, config.feedback, config.compare_base) == ("/r", False, "redis://a", Path("f"), True)
    assert config.documents == "shared"
    assert config.switch_deadline == 9.0


def test_an_option_without_a_place_is_an_error() -> None:
    with pytest.raises(TypeError, match="options without a place in ServeConfig: colour"):
        serve_config({**options(), "colour": "red"})


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(click.UsageError, match="go with --monitor"):
        serve_config(options("--roll-back-on-alarm"))
    with pytest.raises(BadInput, match="--fallback"):
        serve_config(options("--fallback", "always"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--allow-host", "http://a.org"), ("--allow-host", "a.org:80"), ("--allow-host", "a b"), ("--allow-host", ""), ("--allow-origin", "a.org"),
        ("--allow-origin", "https://a.org/page"), ("--allow-origin", "null"), ("--trusted-proxy", "proxy.example"), ("--trusted-proxy", "10.0.0.0/99"),
        ("--public-url", "b.org"), ("--public-url", "ftp://b.org"), ("--public-url", "https://b.org/?a=b"),
    ],
)  # fmt: skip
def test_values_that_are_no_name_origin_or_address_are_refused(option: str, value: str) -> None:
    with pytest.raises(BadInput, match=option):
        serve_config(options(option, value))


def test_the_environment_and_the_settings_file_reach_it(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLMT_SERVE_MAX_WAITING", "77")
    context = serve.make_context("serve", ["--grace", "2"], auto_envvar_prefix="TELLMT_SERVE", default_map={"max_adapters": 4, "grace": 9})
    config = serve_config(context.params)
    assert (config.limits.waiting, config.limits.adapters, config.listen.grace) == (77, 5, 2)
