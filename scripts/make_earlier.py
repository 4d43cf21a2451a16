"""Make what a version of tellmt leaves on the disk, for the test that later versions open it (tests/test_earlier.py).

    python scripts/make_earlier.py OUT

Reads the tiny base in tests/golden/earlier/cache/bases. Writes OUT, which must not be there: a cache, a registry, pairs' homes, a monitor, a keys file, and
in `data` the files that the commands were given and what they made of them. Everything goes through the command line, with the engine ctranslate2, and takes
some minutes. What is committed is made once by a version and never again: a later version is to open it as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TELLMT = [sys.executable, "-m", "tellmt"]
BASE = ROOT / "tests" / "golden" / "earlier" / "cache" / "bases" / "tiny"
ENGINE = ("--engine", "ct2")
# So that a state is known by what was piped in alone: the name of the output counts too, and `-` is taken for a file of the directory one is in.
NOWHERE = "/"

RECIPE = """pair = "is-en"
base = "tiny"
seed = {seed}

[mix]
ratio = 0.5

[lora]
rank = 1
alpha = 2

[train]
epochs = {epochs}
batch_tokens = 512
save_steps = {save_steps}
compile = "off"
threads = 1
"""
STUDY = """name = "earlier"
base = "tiny"
pairs = ["is-en"]
passes = 1
general = ["general.jsonl"]
reference = "sft"

[corpora.is-en]
train = ["corpus"]
tune = { corpus = "corpus", split = "dev" }
dev = { corpus = "corpus", split = "test" }

[train]
batch_tokens = 256
compile = "off"

[lora]
rank = 1

[tune]
learning_rates = [1e-3]
sizes = [10]
seeds = [2]

[looks]
count = 2

[arms.base]
kind = "base"

[arms.sft]
anchor = { parts = "prefix" }

[arms.tell]
tuned_as = "sft"

[[stages]]
name = "bare"
arms = ["base"]
seeds = [1]

[[stages]]
name = "trained"
arms = ["sft", "tell"]
sizes = [10]
ratios = [0.5]
seeds = [1]
scores = true
"""


def word(i: int) -> str:
    """A word of its own for each number: what differs in digits alone counts as the same sentence."""
    return "".join(chr(ord("a") + int(d)) for d in f"{i:04}")


class Maker:
    """Runs tellmt in the home that is made."""

    def __init__(self, out: Path):
        self.out, self.data = out, out / "data"
        self.data.mkdir(parents=True)
        places = {"CACHE": "cache", "REGISTRY": "registry", "PAIRS": "pairs", "MONITOR": "monitor", "KEYS": "keys.json"}
        mine = {f"TELLMT_{name}": str(out / leaf) for name, leaf in places.items()}
        # Nothing is compared with the adapters that come with tellmt, which are of another base.
        mine["TELLMT_SHIPPED"] = str(out / "shipped")
        (out / "shipped").mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TELLMT_")}
        # Steps of a pair and of a study are processes that begin in other directories.
        self.env = {**environment, **mine, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}

    def start(self, *words: object, cwd: Path | str | None = None, **options: Any) -> subprocess.Popen[str]:
        """A command that goes on until it is ended."""
        return subprocess.Popen([*TELLMT, *map(str, words)], cwd=cwd or self.data, env=self.env, text=True, start_new_session=True, **options)

    def run(self, *words: object, codes: tuple[int, ...] = (0,)) -> Any:
        """A command's result. Ends the script where the command ends with none of `codes`."""
        print("$ tellmt", *words, file=sys.stderr, flush=True)
        done = subprocess.run([*TELLMT, "--json", *map(str, words)], cwd=self.data, env=self.env, text=True, stdout=subprocess.PIPE, check=False)
        if done.returncode not in codes:
            sys.exit(f"exit {done.returncode}, wanted {codes}")
        return json.loads(done.stdout) if done.stdout else None


def until(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 120) -> Any:
    """The first true value of `wanted` while the process runs."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("not in time")
        time.sleep(0.005)
    return value


def base(maker: Maker) -> None:
    """The tiny base in the cache. A cache names the place of each base, so this one names its own."""
    place = maker.out / "cache" / "bases" / "tiny"
    shutil.copytree(BASE, place)
    manifest = json.loads((place / "tellmt-base.json").read_text())
    (place / "tellmt-base.json").write_text(json.dumps({**manifest, "path": str(place)}, sort_keys=True) + "\n")


def training(maker: Maker) -> None:
    """A corpus, a mix, two adapters, and a third training that was interrupted."""
    rows = [f"d{i // 4:03}\tA sentence called {word(i)} is here\tSetningin sem heitir {word(i)} er hér" for i in range(80)]
    (maker.data / "corpus.tsv").write_text("\n".join(["document\ten\tis", *rows]) + "\n", encoding="utf-8")
    pool = [{"prompt": f"Say something about {word(i)}", "completion": f"It is {word(i)}."} for i in range(100)]
    (maker.data / "general.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pool))
    maker.run("corpus", "build", "corpus.tsv", "--pair", "is-en", "--dev", 8, "--test", 8, "--base", "tiny", "-o", "corpus")
    for name, recipe in {"first": (1, 2, 50), "second": (2, 2, 50), "stopped": (3, 6, 2)}.items():
        text = RECIPE.format(**dict(zip(("seed", "epochs", "save_steps"), recipe, strict=True)))
        (maker.data / f"{name}.toml").write_text(text)
    maker.run("mix", "--recipe", "first.toml", "--corpus", "corpus", "--general", "general.jsonl", "-o", "mixed")
    for name in ("first", "second"):
        maker.run("train", "--recipe", f"{name}.toml", "--mixed", "mixed", "-o", name)
    maker.run("score", "first", "--corpus", "corpus", *ENGINE, "-o", "scores")
    process = maker.start("train", "--recipe", "stopped.toml", "--mixed", "mixed", "-o", "stopped")
    until((maker.data / "stopped.run" / "step-00000004").exists, process)
    process.send_signal(signal.SIGINT)
    if process.wait(60) != 130:
        sys.exit("the training was not interrupted")


def registry(maker: Maker) -> None:
    """Both adapters are published, and the second is rolled back."""
    for name in ("first", "second"):
        scores = ("--scores", "scores") if name == "first" else ()
        maker.run("publish", name, "--corpus", "corpus", *scores, *ENGINE, "--force", "--why", f"the {name}")
    maker.run("registry", "rollback", "is-en", "--why", "the first was better")
    maker.run("registry", "pin", "is-en", "--why", "it stays")


def study(maker: Maker) -> None:
    (maker.data / "study.toml").write_text(STUDY)
    maker.run("study", "study.toml", "-o", "study")
    # Written anew from the results each time.
    shutil.rmtree(maker.data / "study" / "report")


def keys(maker: Maker) -> None:
    """Two keys and a revoked one; what is shown once is kept beside the file."""
    shown = {
        "website": maker.run("keys", "add", "website", "--requests-per-minute", 60)["key"],
        "operator": maker.run("keys", "add", "operator", "--scope", "translate", "--scope", "admin", "--no-cache")["key"],
        "gone": maker.run("keys", "add", "gone")["key"],
    }
    maker.run("keys", "revoke", "gone")
    (maker.out / "shown.json").write_text(json.dumps(shown, indent=1) + "\n")


def monitor(maker: Maker) -> None:
    """A canary set, and runs of it: one that was accepted, another like it, and one that got no answer."""
    sides = {"is": "Hér er setning um {} og hún er löng.", "en": "Here is a sentence about {} and it is long."}
    for side, text in sides.items():
        (maker.data / f"canary.{side}").write_text("".join(text.format(word(i)) + "\n" for i in range(100)), encoding="utf-8")
    maker.run("monitor", "freeze", "is-en", "--source", "canary.is", "--target", "canary.en", "--size", 100)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ("--server", f"http://127.0.0.1:{port}")
    serving = maker.start("serve", "--port", port, *ENGINE, "--tries", 0, "--drain", 0)

    def ready() -> bool:
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1).status == 200)
        except OSError:
            return False

    # What a tiny base makes of a text is worse than the text, which is an alarm until it is accepted.
    exit_codes = (0, 4)
    try:
        until(ready, serving)
        maker.run("monitor", "run", "is-en", *server, codes=exit_codes)
        maker.run("monitor", "accept", "is-en", "--why", "known to be good")
        maker.run("monitor", "run", "is-en", *server, codes=exit_codes)
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(60)
    maker.run("monitor", "run", "is-en", *server, codes=exit_codes)


def pair(maker: Maker) -> None:
    """A pair's home, one way, with a recipe that was changed by hand: the tiny base learns nothing from what it is given by itself."""
    rows = [f"Hetta er setningur um {word(i)} og fuglar.\tThis is a sentence about {word(i)} and birds.\n" for i in range(120)]
    (maker.data / "pair.tsv").write_text("fo\ten\n" + "".join(rows), encoding="utf-8")
    words = ("pair", "add", "fo-en", "pair.tsv", "--few", "--one-way", "--base", "tiny", *ENGINE)
    # With the recipe as it is written the gate refuses what comes out.
    maker.run(*words, codes=(0, 1))
    recipe = maker.out / "pairs" / "fo-en" / "fo-en" / "recipe.toml"
    text = recipe.read_text().replace("epochs = 3", 'epochs = 12\ncompile = "off"\nthreads = 1').replace("learning_rate = 0.0005", "learning_rate = 0.01")
    recipe.write_text(text + "\n[lora]\nrank = 1\nalpha = 8\n")
    maker.run(*words)


def batch(maker: Maker) -> None:
    """A translation that was killed in the middle."""
    lines = [f"Hér er lína um {word(i)}." for i in range(600)]
    (maker.data / "batch.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (maker.data / "batch.txt").open() as batch_file:
        process = maker.start("translate", "-", "--from", "is", "--to", "en", *ENGINE, "--tries", 0, cwd=NOWHERE, stdin=batch_file, stdout=subprocess.DEVNULL)

    def some() -> bool:
        for file in (maker.out / "cache" / "translate").glob("*/ledger.sqlite"):
            try:
                with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
                    return bool(db.execute("SELECT count(*) FROM segment WHERE made IS NOT NULL").fetchone()[0])
            except sqlite3.OperationalError:
                continue
        return False

    until(some, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    out = Path(sys.argv[1]).absolute()
    maker = Maker(out)
    base(maker)
    for step in (training, registry, study, monitor, keys, batch, pair):
        step(maker)
    # Made again in seconds, and as large as all the rest.
    shutil.rmtree(out / "cache" / "ct2", ignore_errors=True)
    (out / "shipped").rmdir()
    # Pictures, and what a process holds while it runs.
    for file in [f for ending in ("*.png", "*.lock", "lock", ".lock", "*-shm") for f in out.rglob(ending)]:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
