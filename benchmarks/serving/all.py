"""Every serving measurement one after the other: a JSON file each, and one Markdown file of all."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.serving.harness.process import ROOT
from benchmarks.serving.harness.workspace import machine_line

# The module beside this one, and what is said of it.
SCRIPTS = {
    "bench": ("bench_serve", "Speed"),
    "overload": ("overload", "Four times as much as it can do"),
    "churn": ("churn", "Promotions and roll backs under load"),
    "stop": ("shutdown", "SIGTERM under load, and clients that leave"),
    "soak": ("soak", "Half an hour of mixed traffic"),
}


def command(name: str, options: argparse.Namespace) -> list[str]:
    """The arguments of one script, as they can be typed."""
    shared: list[str] = ["--engine", options.engine, *(["--threads", str(options.threads)] if options.threads else []), *(["--quick"] if options.quick else [])]
    if options.module != "tellmt":
        shared += ["--module", options.module]
    shared += [f"--serve-option={o}" for o in options.serve_option]
    if name == "bench" and options.raw:
        shared += ["--raw", str(options.raw)]
    if name == "soak":
        shared += ["--plot", str(options.output / "soak.png")]
    return ["-m", f"benchmarks.serving.{SCRIPTS[name][0]}", *shared]


def page(results: Mapping[str, Mapping[str, Any]], commands: Mapping[str, list[str]]) -> str:
    """Markdown: the machine, and of each script its command, its lines and what failed. Tables stay tables, the other lines are code."""
    lines = ["# Speed and steadiness of serving", ""]
    if machine := next((f["machine"] for f in results.values() if "machine" in f), None):
        lines += [machine_line(machine) + ".", ""]
    for name, result in results.items():
        lines += [f"## {SCRIPTS[name][1]}", "", "    python " + " ".join(commands[name]), ""]
        if "problem" in result:
            lines += [f"NOT MEASURED: {result['problem']}", ""]
            continue
        for line in result["lines"]:
            lines.append(f"#{line}" if line.startswith("## ") else line if not line or line.startswith("|") else f"    {line}")
        lines += ["", *(f"    FAILED {f}" for f in result["failures"]), ""] if result["failures"] else [""]
    return "\n".join(lines).rstrip("\n") + "\n"


def run_all(options: argparse.Namespace) -> int:
    """Run them; 1 when one of them found a promise broken or could not run. What has been measured is written after each."""
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    work = options.work or folder / "work"
    results: dict[str, dict[str, Any]] = {}
    commands: dict[str, list[str]] = {}
    code = 0
    for name in SCRIPTS:
        commands[name] = command(name, options)
        print(f"bench: python {' '.join(commands[name])}", file=sys.stderr, flush=True)
        arguments = [sys.executable, *commands[name], "--work", str(work), "--json"]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
        code = max(code, min(1, abs(done.returncode)))
        try:
            results[name] = json.loads(done.stdout)
        except ValueError:
            results[name] = {"problem": f"exit code {done.returncode}; its words are above"}
        (folder / f"{name}.json").write_text(json.dumps(results[name], indent=1) + "\n")
        (folder / "serve-speed.md").write_text(page(results, commands))
    print(f"bench: {folder / 'serve-speed.md'}", file=sys.stderr)
    return code
