"""Where tellmt keeps what it makes: one cache (can be made again) and one registry (cannot)."""

from __future__ import annotations

import os
from pathlib import Path

from tell.errors import TellmtError


def _home(variable: str, xdg: str, fallback: str, leaf: str) -> Path:
    if set_to := os.environ.get(variable):
        return Path(set_to).expanduser().absolute()
    root = os.environ.get(xdg)
    return (Path(root) if root else Path.home() / fallback) / "tellmt" / leaf


def cache_dir() -> Path:
    """`TELLMT_CACHE`, else `$XDG_CACHE_HOME/tellmt`."""
    if os.environ.get("TELLMT_CACHE"):
        return _home("TELLMT_CACHE", "", "", "")
    return _home("", "XDG_CACHE_HOME", ".cache", "").absolute()


def registry_dir() -> Path:
    """`TELLMT_REGISTRY`, else `$XDG_DATA_HOME/tellmt/registry`."""
    return _home("TELLMT_REGISTRY", "XDG_DATA_HOME", ".local/share", "registry")


def pairs_dir() -> Path:
    """`TELLMT_PAIRS`, else `$XDG_DATA_HOME/tellmt/pairs`."""
    return _home("TELLMT_PAIRS", "XDG_DATA_HOME", ".local/share", "pairs")


def testsets_dir() -> Path:
    """`TELLMT_TESTSETS`, else `testsets` in the registry where that is a directory, else `$XDG_DATA_HOME/tellmt/testsets`."""
    if os.environ.get("TELLMT_TESTSETS"):
        return _home("TELLMT_TESTSETS", "", "", "")
    if "://" in os.environ.get("TELLMT_REGISTRY", ""):
        return _home("", "XDG_DATA_HOME", ".local/share", "testsets").absolute()
    return registry_dir() / "testsets"


def monitor_dir() -> Path:
    """`TELLMT_MONITOR`, else `$XDG_DATA_HOME/tellmt/monitor`: canary sets and their history."""
    return _home("TELLMT_MONITOR", "XDG_DATA_HOME", ".local/share", "monitor").absolute()


def keys_file() -> Path:
    """`TELLMT_KEYS`, else `$XDG_CONFIG_HOME/tellmt/keys.json`."""
    return _home("TELLMT_KEYS", "XDG_CONFIG_HOME", ".config", "keys.json").absolute()


def writable(path: Path, what: str, variable: str) -> Path:
    """`path`, made if need be. Raises TellmtError naming the variable that moves it when it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as e:
        raise TellmtError(f"the {what} cannot be written", place=str(path), found=e.strerror or str(e), valid=f"a writable directory in {variable}") from None
    return path
