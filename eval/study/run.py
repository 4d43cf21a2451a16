"""Run a study: every run through the same commands a user would type, as many side by side as there are shares of the cores.

Reads a study file and the corpora it names. Writes the study directory (see `eval.study.config`); a run that was finished is not run again, and
one that was broken off goes on where its stages can.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eval.scoring.testset import TestSet, from_corpus
from eval.study.config import FORMAT, Run, Slice, Study, chosen_rate, recipe, study_runs, tuning_runs
from tell.adapter.card import open_adapter, weights_of
from tell.console import progress, say
from tell.corpus.directory import open_corpus
from tell.errors import RecipeError, TellmtError
from tell.files import key_of, sha256_file, write_atomic, write_json
from tell.machine import cores
from tell.model.base import find_base
from tell.model.engine import choose_engine, converted_models


class Broken(TellmtError):
    """A command of a run failed."""


class Workshop:
    """The commands of the runs: each in a process of its own on its lane's cores, all of them ended when the study is."""

    def __init__(self, here: Path, lanes: int):
        self.here = here
        self.stopping = threading.Event()
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self.lanes: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores()))
        for lane in range(lanes):
            # More lanes than cores share them.
            self.lanes.put(mine[lane::lanes] or [mine[lane % len(mine)]])

    def call(self, lane: list[int], log: Path, *args: str, module: str = "tellmt") -> str:
        """Run a command and return what it printed; what it said goes to `log`. Raises Broken with its last words."""
        if self.stopping.is_set():
            raise Broken("the study was stopped")
        # One thread a core: without this the libraries that count cores themselves would fight over the lane.
        environment = {**os.environ, "OMP_NUM_THREADS": str(len(lane)), "TOKENIZERS_PARALLELISM": "false" if len(lane) == 1 else "true"}
        pin = (lambda: os.sched_setaffinity(0, lane)) if hasattr(os, "sched_setaffinity") else None
        with log.open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *args], cwd=self.here, env=environment, stdout=subprocess.PIPE, stderr=said, text=True,
                start_new_session=True, preexec_fn=pin,
            )  # fmt: skip
            with self._lock:
                self._running.add(process)
                # `stop` may have gone round between the check above and here.
                if self.stopping.is_set():
                    _end(process)
            try:
                printed, _ = process.communicate()
            finally:
                with self._lock:
                    self._running.discard(process)
        if process.returncode:
            last = [x for x in log.read_text(encoding="utf-8", errors="replace").split("\n") if x.strip()][-1:] or ["no message"]
            raise Broken("a command of the study failed", place=str(log), found=f"exit {process.returncode}: {last[0]}")
        return printed

    def stop(self) -> None:
        """End every command; training saves its state and goes on from there the next time."""
        self.stopping.set()
        with self._lock:
            for process in self._running:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _toml(tables: dict[str, Any]) -> str:
    """A recipe as TOML: strings, numbers, switches, lists of them, and tables of those."""

    def line(key: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"{key} = {{ {', '.join(line(k, v) for k, v in value.items())} }}"
        # JSON's strings, numbers and lists are TOML's too, as long as nothing is null.
        return f"{key} = {json.dumps(value)}"

    top = [line(k, v) for k, v in tables.items() if not isinstance(v, dict)]
    rest = [f"\n[{name}]\n" + "\n".join(line(k, v) for k, v in table.items()) for name, table in tables.items() if isinstance(table, dict)]
    return "\n".join([*top, *rest]) + "\n"


def _tuned(done: dict[str, dict[str, Any]]) -> dict[tuple[str, str, int, float], float]:
    """The tuning runs' scores, as `chosen_rate` takes them."""
    return {(r["arm"], r["pair"], r["budget"], r["learning_rate"]): float(r["dev"]["chrf2"]) for r in done.values() if r["role"] == "tune"}


class Conductor:
    """One study in one directory."""

    def __init__(self, study: Study, file: Path, out: Path, jobs: int):
        self.study, self.out = study, out
        self.here = file.resolve().parent
        self.shop = Workshop(self.here, jobs)
        self.jobs = jobs
        self.results = out / "results.jsonl"
        self.base = find_base(study.base)
        self._inputs = self._hashes()

    def _hashes(self) -> dict[str, Any]:
        """What the study reads, by content. Raises CorpusError or RecipeError when something is not there."""
        found: dict[str, Any] = {"base": [self.base.id, self.base.revision], "corpora": {}, "general": {}}
        for pair in self.study.pairs:
            data = self.study.corpora[pair]
            for name in [*data.train, data.tune.corpus, data.dev.corpus]:
                opened = open_corpus(self.here / name)
                if str(opened.pair) != pair:
                    raise RecipeError("this corpus is of another pair", place=name, found=str(opened.pair), valid=pair)
                found["corpora"][name] = opened.pairs_sha256
            for held in (data.tune, data.dev):
                if not self.held_out(held).sources:
                    raise RecipeError("this slice holds nothing", place=f"{held.corpus}, split {held.split}", valid="a corpus built with --dev or --test")
        if any(a.kind == "train" and max(a.ratios or self.study.ratios) > 0 for a in self.study.arms.values()) and not self.study.general:
            raise RecipeError("no general data", place="general", valid="JSONL files, or ratios = [0]")
        for name in [*self.study.general, *self.study.ltd_pool]:
            if not (self.here / name).is_file():
                raise RecipeError("no such file", place=str(self.here / name), valid="a JSONL file of general examples")
            found["general"][name] = sha256_file(self.here / name)
        return found

    def held_out(self, held: Slice) -> TestSet:
        return from_corpus(open_corpus(self.here / held.corpus), held.split)

    def run_id(self, run: Run) -> str:
        arm = self.study.arms[run.arm]
        data = self.study.corpora[run.pair]
        return key_of(
            {
                "format": FORMAT, "run": run.model_dump(exclude={"arm"}), "recipe": recipe(self.study, run), "shots": arm.shots,
                "general": arm.general, "task": arm.task, "inputs": self._inputs,
                "corpora": data.model_dump(), "pools": [self.study.general, self.study.ltd_pool],
            }
        )[:12]  # fmt: skip

    def finished(self) -> dict[str, dict[str, Any]]:
        """The results so far by id. A last line that a kill cut short is taken off; damage elsewhere raises RecipeError."""
        found: dict[str, dict[str, Any]] = {}
        try:
            raw = self.results.read_bytes()
        except FileNotFoundError:
            return found
        whole, _, cut = raw.rpartition(b"\n")
        if cut:
            say(f"{self.results}: the last line was cut short and is taken off")
            write_atomic(self.results, whole + b"\n" if whole else b"")
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                row = json.loads(line)
                found[str(row["id"])] = row
            except (ValueError, KeyError, TypeError):
                raise RecipeError("damaged", place=f"{self.results}, line {number}", valid="one result a line; delete the line to run it again") from None
        return found

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.here)

    def one(self, run: Run, id: str) -> dict[str, Any]:
        """Carry out a run on a free lane and return its line of results."""
        lane = self.shop.lanes.get()
        try:
            return self._one(run, id, lane)
        finally:
            self.shop.lanes.put(lane)

    def _one(self, run: Run, id: str, lane: list[int]) -> dict[str, Any]:
        work = self.out / "runs" / id
        work.mkdir(parents=True, exist_ok=True)
        tables = recipe(self.study, run)
        write_atomic(work / "recipe.toml", _toml(tables))
        data = self.study.corpora[run.pair]
        held = data.tune if run.role == "tune" else data.dev
        commands: list[list[str]] = []

        def call(*args: str, module: str = "tellmt") -> dict[str, Any]:
            commands.append(["tellmt" if module == "tellmt" else f"python -m {module}", *args])
            printed = self.shop.call(lane, work / "log.txt", *args, module=module)
            return dict(json.loads(printed))

        at = self._relative
        counts = training = nats = None
        if self.study.arms[run.arm].kind == "base":
            spec = {"base": self.base.id, "pair": run.pair, "shots": self.study.arms[run.arm].shots, "seed": run.seed,
                    "anchor": tables.get("anchor", {}), "decoding": tables.get("decoding", {}), "train": data.train, "held": held.model_dump()}  # fmt: skip
            write_json(work / "bare.json", spec)
            scored = call(at(work / "bare.json"), at(work / "scores"), module="eval.study.base")
        else:
            counts = self._mixed(run, work, call)
            card = call("train", "--recipe", at(work / "recipe.toml"), "--mixed", at(work / "mixed"), "-o", at(work / "adapter"), "--json")["card"]
            training = {k: card["training"][k] for k in ("steps", "tokens", "seconds", "final_loss", "dtype", "device")}
            losses = call("losses", at(work / "adapter"), "--corpus", held.corpus, "--split", held.split, "-o", at(work / "losses.jsonl"), "--json")
            nats = losses["nats_per_token"]
            scored = self._scored(work, held, call)
        system = scored["systems"]["adapter"]
        shutil.copyfile(work / "scores" / "adapter.hyp.txt", work / "hypotheses.txt")
        # Made again in seconds, and as large as the data.
        for spent in ("mixed", "general", "task", "task-order", "adapter.run"):
            shutil.rmtree(work / spent, ignore_errors=True)
        return {
            "id": id, **run.model_dump(), "epochs": tables.get("train", {}).get("epochs", 1), "recipe": tables, "commands": commands,
            "counts": counts, "train": training,
            "dev": {
                "name": scored["name"], "segments": scored["segments"], "bleu": system["bleu"]["score"], "chrf2": system["chrf"]["score"],
                "signatures": {"bleu": system["bleu"]["signature"], "chrf2": system["chrf"]["signature"]},
                "nats_per_token": nats, "truncated": system["truncated"], "empty": system["empty"],
            },
            "base": {"id": self.base.id, "revision": self.base.revision}, "versions": scored["versions"],
            "machine": f"{platform.system()} {platform.machine()}, {len(lane)} of {cores()} cores",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip

    def _mixed(self, run: Run, work: Path, call: Any) -> dict[str, Any]:
        """Choose what the arm has chosen for it, and mix. Returns the exact counts."""
        arm, data, at = self.study.arms[run.arm], self.study.corpora[run.pair], self._relative
        seed = ["--seed", str(run.seed), "--base", self.base.id, "--json"]
        corpora: Sequence[str] = data.train
        if arm.task:
            if run.budget is None:
                raise RecipeError("there is nothing to choose from all task tokens", place=f"arm {run.arm}", found='budget "all"', valid="budgets in tokens")
            pool = ["select", "--corpus", *data.train, "--method", arm.task, *seed]
            found = call(*pool, "--tokens", str(run.budget), "-o", at(work / "task-order"))
            k = self._fitting(work, run)
            clusters = ["--clusters", str(min(k, found["clusters"]["asked"]))] if found.get("clusters") else []
            call(*pool, "-k", str(k), *clusters, "-o", at(work / "task"))
            corpora = [at(work / "task")]
        general: list[str] = list(self.study.general)
        if arm.general and run.ratio > 0:
            if run.budget is None:
                raise RecipeError("give a budget to choose general data for", place=f"arm {run.arm}", found='budget "all"', valid="budgets in tokens")
            # A sixth more than will be drawn: `mix` leaves out what is too long or repeats the corpus.
            wanted = str(int(run.ratio * run.budget * 7 / 6))
            call("select", "--general", *(self.study.ltd_pool or general), "--method", arm.general, *seed, "--tokens", wanted, "-o", at(work / "general"))
            general = [at(work / "general" / "selected.jsonl")]
        pools = ["--general", *general] if run.ratio > 0 else []
        mixed = call("mix", "--recipe", at(work / "recipe.toml"), "--corpus", *corpora, *pools, "-o", at(work / "mixed"), "--json")
        return dict(mixed["counts"])

    def _fitting(self, work: Path, run: Run) -> int:
        """How many of the chosen pairs, in the order they were chosen, fit the budget with their anchors."""
        from tell.languages import parse_pair
        from tell.model.anchor import AnchorConfig, render
        from tell.model.tokenizer import Tokens
        from tell.records import Example

        anchor = render(AnchorConfig.model_validate(recipe(self.study, run).get("anchor", {})), parse_pair(run.pair), self.base)
        rows = [json.loads(x) for x in (work / "task-order" / "selected.jsonl").read_text(encoding="utf-8").split("\n") if x]
        examples = [Example(str(r["id"]), "task", anchor.prompt(r["source"]), anchor.opening, r["target"]) for r in rows]
        total = k = 0
        for ids, _ in Tokens(self.base, anchor.chat).example_ids(examples):
            total += len(ids)
            if total > (run.budget or 0):
                break
            k += 1
        if k == 0:
            raise RecipeError("the budget holds no example", place=f"arm {run.arm}", found=f"{run.budget} tokens")
        return k

    def _scored(self, work: Path, held: Slice, call: Any) -> dict[str, Any]:
        """Scores on the held-out slice. The engine's converted model, 275 MB for the smallest base, is removed again."""
        engine, weights = choose_engine("auto"), weights_of(open_adapter(work / "adapter").card)
        converted = converted_models(engine, weights)
        to = ["-o", self._relative(work / "scores"), "--json"]
        scored: dict[str, Any] = call("score", self._relative(work / "adapter"), "--corpus", held.corpus, "--split", held.split, "--no-base", *to)
        if not converted:
            for model in converted_models(engine, weights):
                shutil.rmtree(model, ignore_errors=True)
        return scored

    def lay_out(self) -> None:
        """study.json and the sets that runs are compared on. Raises RecipeError when the directory holds another study."""
        self.out.mkdir(parents=True, exist_ok=True)
        was = self.out / "study.json"
        described = {**self.study.model_dump(mode="json"), "reference_arm": self.study.reference, "inputs": self._inputs}
        if was.exists() and (old := json.loads(was.read_bytes()).get("name")) != self.study.name:
            raise RecipeError("this directory holds another study", place=str(self.out), found=str(old), valid=self.study.name)
        write_json(was, described)
        for pair in self.study.pairs:
            test = self.held_out(self.study.corpora[pair].dev)
            folder = self.out / "dev" / pair
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "source.txt", "".join(s + "\n" for s in test.sources))
            write_atomic(folder / "reference.txt", "".join(r + "\n" for r in test.references))

    def waiting(self, done: dict[str, dict[str, Any]]) -> list[Run]:
        """What is left to run, tuning first; the runs that need a learning rate come when it has been chosen."""
        everything = [*tuning_runs(self.study), *study_runs(self.study, _tuned(done))]
        return [run for run in everything if self.run_id(run) not in done]

    def all(self) -> dict[str, dict[str, Any]]:
        """Run what is missing. A run that fails is said and left out; the others go on. Raises Broken at the end if any did."""
        self.lay_out()
        done = self.finished()
        failed: dict[str, str] = {}
        going: dict[Future[dict[str, Any]], tuple[str, Run]] = {}
        with self.results.open("a", encoding="utf-8") as f, _ended_by(self.shop), ThreadPoolExecutor(self.jobs) as pool, progress() as bar:
            shown = bar.add_task(f"study {self.study.name}", total=len(done) + len(self.waiting(done)), completed=len(done))
            while True:
                busy = {id for id, _ in going.values()}
                for run in self.waiting(done):
                    id = self.run_id(run)
                    if len(going) < self.jobs and id not in busy and id not in failed and not self.shop.stopping.is_set():
                        going[pool.submit(self.one, run, id)] = (id, run)
                        busy.add(id)
                if not going:
                    break
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    id, run = going.pop(future)
                    try:
                        row = future.result()
                    except TellmtError as e:
                        if not self.shop.stopping.is_set():
                            failed[id] = f"{run.label}: {e}"
                            say(failed[id])
                        continue
                    f.write(json.dumps(row, ensure_ascii=False) + "\n")
                    f.flush()
                    os.fsync(f.fileno())
                    done[id] = row
                    say(f"{run.label}: chrF2 {row['dev']['chrf2']:.1f}, BLEU {row['dev']['bleu']:.1f}")
                    bar.update(shown, completed=len(done), total=len(done) + len(self.waiting(done)))
        if self.shop.stopping.is_set():
            raise KeyboardInterrupt
        if failed:
            first = next(iter(failed.values()))
            raise Broken(f"{len(failed)} of the study's runs failed", place=str(self.out), found=first, valid="the same command tries them again")
        return done

    def rates(self, done: dict[str, dict[str, Any]]) -> list[list[Any]]:
        """[pair, arm, budget, learning rate] for what was chosen."""
        tuned = _tuned(done)
        arms = [n for n, a in self.study.arms.items() if a.kind == "train" and a.tuned_as is None]
        return [[p, a, b, chosen_rate(self.study, a, p, b, tuned)] for p in self.study.pairs for a in arms for b in self.study.tune.budgets]


@contextmanager
def _ended_by(shop: Workshop) -> Iterator[None]:
    """SIGINT and SIGTERM end the running commands, and then the study."""
    seen = {s: signal.signal(s, lambda number, frame: shop.stop()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in seen.items():
            signal.signal(number, handler)
