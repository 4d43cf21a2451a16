"""How long a large corpus takes to clean, and in how much memory: `python -m benchmarks.data.bench_corpus --units 1000000 --format tmx`.

Writes a generated file into a directory of its own (sentences of the examples with made-up names, so that none repeats another), runs `tellmt corpus build`
on it, prints one JSON object, and removes everything. The peak is that of the process with the most memory, and the sum of all of them at the worst.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
SYLLABLES = [a + b for a in "bdfghjklmnprstv" for b in "aeiou"]


def name(i: int) -> str:
    syllables = ""
    while True:
        i, rest = divmod(i, len(SYLLABLES))
        syllables += SYLLABLES[rest]
        if not i:
            return syllables.capitalize()


def generate(path: Path, units: int, kind: str) -> None:
    rows = [r.split("\t") for f in sorted((ROOT / "examples" / "en-is").glob("*.tsv")) for r in f.read_text(encoding="utf-8").split("\n")[1:] if r]
    if kind == "tmx":
        head, unit, tail = (
            '<?xml version="1.0"?><tmx version="1.4"><header srclang="is"/><body>\n',
            '<tu><tuv xml:lang="is"><seg>{} {}</seg></tuv><tuv xml:lang="en"><seg>{} {}</seg></tuv></tu>\n',
            "</body></tmx>\n",
        )
    else:
        head, unit, tail = "is\ten\n", "{} {}\t{} {}\n", ""
    with path.open("w", encoding="utf-8") as f:
        f.write(head)
        for i in range(units):
            _, english, icelandic = rows[i % len(rows)]
            pair = (escape(icelandic), escape(english)) if kind == "tmx" else (icelandic, english)
            f.write(unit.format(pair[0], name(i), pair[1], name(i)))
        f.write(tail)


def together(pid: int) -> int:
    """KiB that the process and its children hold now, pages that they share counted once each (PSS)."""
    kilobytes = 0
    for task in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
        try:
            kilobytes += next(int(line.split()[1]) for line in Path(f"/proc/{task}/smaps_rollup").read_text().split("\n") if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return kilobytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--format", choices=["tmx", "tsv"], default="tmx")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--off", nargs="*", default=[])
    parser.add_argument("--at", type=Path, help="Where to put the files.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.at) as at:
        path = Path(at) / f"m.{options.format}"
        generate(path, options.units, options.format)
        jobs = ["--jobs", str(options.jobs)] if options.jobs else []
        off = [x for rule in options.off for x in ("--off", rule)]
        command = [sys.executable, "-m", "tellmt", "corpus", "build", str(path), "--pair", "is-en", "-o", str(Path(at) / "c"), "--json", *jobs, *off]
        begun, most = time.monotonic(), 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=at) as run:
            while run.poll() is None:
                most = max(most, together(run.pid))
                time.sleep(0.5)
            stdout = run.stdout.read() if run.stdout else ""
        seconds = time.monotonic() - begun
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads(stdout)
        print(
            json.dumps(
                {
                    "units": options.units,
                    "format": options.format,
                    "mb": round(path.stat().st_size / 1e6),
                    "seconds": round(seconds, 1),
                    "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
                    "cores": len(os.sched_getaffinity(0)),
                    "jobs": options.jobs,
                    "off": options.off,
                    "peak_mib_one_process": round(used.ru_maxrss / 1024),
                    "peak_mib_together": round(most / 1024),
                    "kept": report["kept"],
                    "dropped": report["dropped"],
                }
            )
        )


if __name__ == "__main__":
    main()
