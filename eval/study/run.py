"""Run a study: every run through the commands that a user would type, several runs at the same time, each on its share of the cores.

Reads a study file and the corpora it names. Writes the study directory (see `eval.study.config`). A finished run is not run again, and an interrupted one
continues where its stages can.
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

from eval.scoring.hypotheses import WITHOUT
from eval.scoring.testset import TestSet, from_corpus
from eval.study.config import FORMAT, Slice, Study, StudyRun, chosen_rate, recipe, study_runs, tuning_runs
from tell.adapter.card import open_adapter, weights_of
from tell.console import progress, say
from tell.corpus.directory import open_corpus
from tell.errors import RecipeError, TellmtError
from tell.files import key_of, sha256_file, write_atomic, write_json
from tell.machine import cores
from tell.model.base import find_base
from tell.model.engine import choose_engine, converted_models


class RunFailed(TellmtError):
    """A command of a run failed."""


class CommandPool:
    """The commands of the runs: each in a process of its own on the cores of its lane. All of them end with the study."""

    def __init__(self, directory: Path, lanes: int):
        self.directory = directory
        self.stopping = threading.Event()
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self.lanes: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores()))
        for lane in range(lanes):
            # More lanes than cores share them.
            self.lanes.put(usable[lane::lanes] or [usable[lane % len(usable)]])

    def call(self, lane: list[int], log: Path, *args: str, module: str = "tellmt") -> str:
        """Run a command and return its standard output; its standard error goes to `log`. Raises RunFailed with the last line of the log."""
        if self.stopping.is_set():
            raise RunFailed("the study was stopped")
        # One thread per core: libraries that count the cores of the machine would start too many.
        environment = {**os.environ, "OMP_NUM_THREADS": str(len(lane)), "TOKENIZERS_PARALLELISM": "false" if len(lane) == 1 else "true"}
        pin = (lambda: os.sched_setaffinity(0, lane)) if hasattr(os, "sched_setaffinity") else None
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *args], cwd=self.directory, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True,
                start_new_session=True, preexec_fn=pin,
            )  # fmt: skip
            with self._lock:
                self._running.add(process)
                # `stop` may have been called since the check above.
                if self.stopping.is_set():
                    _end(process)
            try:
                stdout, _ = process.communicate()
            finally:
                with self._lock:
                    self._running.discard(process)
        if process.returncode:
            last = [x for x in log.read_text(encoding="utf-8", errors="replace").split("\n") if x.strip()][-1:] or ["no message"]
            raise RunFailed("a command of the study failed", place=str(log), found=f"exit {process.returncode}: {last[0]}")
        return stdout

    def stop(self) -> None:
        """End every command. Training saves its state and continues from it the next time."""
        self.stopping.set()
        with self._lock:
            for process in self._running:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _toml(tables: dict[str, Any]) -> str:
    """A recipe as TOML: strings, numbers, booleans, lists of them, and tables of those."""

    def line(key: str, value: Any) -> str:
        if isinstance(value, dict):
            return f"{key} = {{ {', '.join(line(k, v) for k, v in value.items())} }}"
        # JSON's strings, numbers and lists without null are TOML's too.
        return f"{key} = {json.dumps(value)}"

    top = [line(k, v) for k, v in tables.items() if not isinstance(v, dict)]
    sections = [f"\n[{name}]\n" + "\n".join(line(k, v) for k, v in table.items()) for name, table in tables.items() if isinstance(table, dict)]
    return "\n".join([*top, *sections]) + "\n"


def _tuning_scores(finished: dict[str, dict[str, Any]]) -> dict[tuple[str, str, int, float], float]:
    """The scores of the tuning runs, as `chosen_rate` takes them."""
    return {(r["arm"], r["pair"], r["budget"], r["learning_rate"]): float(r["dev"]["chrf2"]) for r in finished.values() if r["role"] == "tune"}


def _without(systems: dict[str, Any]) -> dict[str, Any]:
    """What an adapter with hints or nearest pairs scores without them; nothing for one that has neither."""
    scores = {name: systems[without] for name, without in WITHOUT.items() if without in systems}
    return {f"without_{name}": {"bleu": system["bleu"]["score"], "chrf2": system["chrf"]["score"]} for name, system in scores.items()}


class StudyRunner:
    """One study in one directory."""

    def __init__(self, study: Study, file: Path, out: Path, jobs: int):
        self.study, self.out = study, out
        self.directory = file.resolve().parent
        self.commands = CommandPool(self.directory, jobs)
        self.jobs = jobs
        self.results = out / "results.jsonl"
        self.base = find_base(study.base)
        self._inputs = self._input_hashes()

    def _input_hashes(self) -> dict[str, Any]:
        """The hashes of everything that the study reads. Raises CorpusError or RecipeError when something is missing."""
        hashes: dict[str, Any] = {"base": [self.base.id, self.base.revision], "corpora": {}, "general": {}}
        for pair in self.study.pairs:
            data = self.study.corpora[pair]
            for name in data.dictionaries:
                if not (self.directory / name).is_file():
                    raise RecipeError("no such file", place=str(self.directory / name), valid="a dictionary for tellmt lexicon build")
            for name in [*data.train, data.tune.corpus, data.dev.corpus]:
                opened = open_corpus(self.directory / name)
                if str(opened.pair) != pair:
                    raise RecipeError("this corpus is of another pair", place=name, found=str(opened.pair), valid=pair)
                hashes["corpora"][name] = opened.pairs_sha256
            for held_out in (data.tune, data.dev):
                if not self.test_set(held_out).sources:
                    raise RecipeError("this slice is empty", place=f"{held_out.corpus}, split {held_out.split}", valid="a corpus built with --dev or --test")
        if any(a.kind == "train" and max(a.ratios or self.study.ratios) > 0 for a in self.study.arms.values()) and not self.study.general:
            raise RecipeError("no general data", place="general", valid="JSONL files, or ratios = [0]")
        for name in [*self.study.general, *self.study.ltd_pool]:
            if not (self.directory / name).is_file():
                raise RecipeError("no such file", place=str(self.directory / name), valid="a JSONL file of general examples")
            hashes["general"][name] = sha256_file(self.directory / name)
        return hashes

    def test_set(self, held_out: Slice) -> TestSet:
        return from_corpus(open_corpus(self.directory / held_out.corpus), held_out.split)

    def run_id(self, run: StudyRun) -> str:
        arm = self.study.arms[run.arm]
        data = self.study.corpora[run.pair]
        return key_of(
            {
                "format": FORMAT, "run": run.model_dump(exclude={"arm"}), "recipe": recipe(self.study, run), "shots": arm.shots,
                "general": arm.general, "task": arm.task, "inputs": self._inputs,
                # Only of runs that use them, so that all others keep their ids.
                **({"dictionaries": [sha256_file(self.directory / name) for name in data.dictionaries]} if arm.dictionaries else {}),
                "corpora": data.model_dump(exclude={"dictionaries"}), "pools": [self.study.general, self.study.ltd_pool],
            }
        )[:12]  # fmt: skip

    def finished(self) -> dict[str, dict[str, Any]]:
        """The results so far by id. Removes a last line that was cut short when the study was killed. Raises RecipeError for other damage."""
        results: dict[str, dict[str, Any]] = {}
        try:
            raw = self.results.read_bytes()
        except FileNotFoundError:
            return results
        complete, _, incomplete = raw.rpartition(b"\n")
        if incomplete:
            say(f"{self.results}: the last line was cut short and is removed")
            write_atomic(self.results, complete + b"\n" if complete else b"")
        for number, line in enumerate(complete.split(b"\n") if complete else [], 1):
            try:
                row = json.loads(line)
                results[str(row["id"])] = row
            except (ValueError, KeyError, TypeError):
                raise RecipeError("damaged", place=f"{self.results}, line {number}", valid="one result per line; delete the line to run it again") from None
        return results

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self.directory)

    def run_one(self, run: StudyRun, id: str) -> dict[str, Any]:
        """Run on a free lane, and return the line of results."""
        lane = self.commands.lanes.get()
        try:
            return self._run_on(lane, run, id)
        finally:
            self.commands.lanes.put(lane)

    def _run_on(self, lane: list[int], run: StudyRun, id: str) -> dict[str, Any]:
        work = self.out / "runs" / id
        work.mkdir(parents=True, exist_ok=True)
        tables = recipe(self.study, run)
        write_atomic(work / "recipe.toml", _toml(tables))
        data = self.study.corpora[run.pair]
        held_out = data.tune if run.role == "tune" else data.dev
        commands: list[list[str]] = []

        def call(*args: str, module: str = "tellmt") -> dict[str, Any]:
            commands.append(["tellmt" if module == "tellmt" else f"python -m {module}", *args])
            stdout = self.commands.call(lane, work / "log.txt", *args, module=module)
            return dict(json.loads(stdout))

        relative = self._relative
        counts = training = nats = None
        if self.study.arms[run.arm].kind == "base":
            spec = {"base": self.base.id, "pair": run.pair, "shots": self.study.arms[run.arm].shots, "seed": run.seed,
                    "anchor": tables.get("anchor", {}), "decoding": tables.get("decoding", {}), "train": data.train, "held": held_out.model_dump()}  # fmt: skip
            write_json(work / "bare.json", spec)
            scores = call(relative(work / "bare.json"), relative(work / "scores"), module="eval.study.base")
        else:
            counts = self._mix(run, work, call)
            card = call(
                "train", "--recipe", relative(work / "recipe.toml"), "--mixed", relative(work / "mixed"), "-o", relative(work / "adapter"), "--json"
            )["card"]  # fmt: skip
            training = {k: card["training"][k] for k in ("steps", "tokens", "seconds", "final_loss", "dtype", "device")}
            data_options = ["--corpus", held_out.corpus, "--split", held_out.split]
            losses = call("losses", relative(work / "adapter"), *data_options, "-o", relative(work / "losses.jsonl"), "--json")
            nats = losses["nats_per_token"]
            scores = self._score(work, held_out, call)
        system = scores["systems"]["adapter"]
        shutil.copyfile(work / "scores" / "adapter.hyp.txt", work / "hypotheses.txt")
        # These directories can be made again in seconds, and are as large as the data.
        for name in ("mixed", "general", "task", "task-order", "lexicon", "adapter.run"):
            shutil.rmtree(work / name, ignore_errors=True)
        return {
            "id": id, **run.model_dump(), "epochs": tables.get("train", {}).get("epochs", 1), "recipe": tables, "commands": commands,
            "counts": counts, "train": training,
            "dev": {
                "name": scores["name"], "segments": scores["segments"], "bleu": system["bleu"]["score"], "chrf2": system["chrf"]["score"],
                "signatures": {"bleu": system["bleu"]["signature"], "chrf2": system["chrf"]["signature"]},
                "nats_per_token": nats, "truncated": system["truncated"], "empty": system["empty"],
                **_without(scores["systems"]),
            },
            "base": {"id": self.base.id, "revision": self.base.revision}, "versions": scores["versions"],
            "machine": f"{platform.system()} {platform.machine()}, {len(lane)} of {cores()} cores",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip

    def _mix(self, run: StudyRun, work: Path, call: Any) -> dict[str, Any]:
        """Select the data that the arm wants selected, and mix. Returns the exact counts."""
        arm, data, relative = self.study.arms[run.arm], self.study.corpora[run.pair], self._relative
        seed = ["--seed", str(run.seed), "--base", self.base.id, "--json"]
        corpora: Sequence[str] = data.train
        if arm.task:
            if run.budget is None:
                raise RecipeError("there is nothing to choose from all task tokens", place=f"arm {run.arm}", found='budget "all"', valid="budgets in tokens")
            select = ["select", "--corpus", *data.train, "--method", arm.task, *seed]
            selection = call(*select, "--tokens", str(run.budget), "-o", relative(work / "task-order"))
            k = self._count_fitting(work, run)
            clusters = ["--clusters", str(min(k, selection["clusters"]["asked"]))] if selection.get("clusters") else []
            call(*select, "-k", str(k), *clusters, "-o", relative(work / "task"))
            corpora = [relative(work / "task")]
        general: list[str] = list(self.study.general)
        if arm.general and run.ratio > 0:
            if run.budget is None:
                raise RecipeError("give a budget to choose general data for", place=f"arm {run.arm}", found='budget "all"', valid="budgets in tokens")
            # A sixth more than the mix takes, since it leaves out examples that are too long or repeat the corpus.
            tokens = str(int(run.ratio * run.budget * 7 / 6))
            pool = self.study.ltd_pool or general
            call("select", "--general", *pool, "--method", arm.general, *seed, "--tokens", tokens, "-o", relative(work / "general"))
            general = [relative(work / "general" / "selected.jsonl")]
        general_option = ["--general", *general] if run.ratio > 0 else []
        lexicon_option: list[str] = []
        if arm.hints is not None:
            dictionaries = ["--dictionary", *data.dictionaries] if arm.dictionaries and data.dictionaries else []
            call("lexicon", "build", *corpora, *dictionaries, "-o", relative(work / "lexicon"), "--json")
            lexicon_option = ["--lexicon", relative(work / "lexicon")]
        options = ["--corpus", *corpora, *general_option, *lexicon_option]
        mix = call("mix", "--recipe", relative(work / "recipe.toml"), *options, "-o", relative(work / "mixed"), "--json")
        return dict(mix["counts"])

    def _count_fitting(self, work: Path, run: StudyRun) -> int:
        """The number of selected pairs, in the order of their selection, that fit the budget with their anchors."""
        from tell.languages import parse_pair
        from tell.model.anchor import AnchorConfig, render
        from tell.model.tokenizer import BaseTokenizer
        from tell.records import Example

        anchor = render(AnchorConfig.model_validate(recipe(self.study, run).get("anchor", {})), parse_pair(run.pair), self.base)
        rows = [json.loads(x) for x in (work / "task-order" / "selected.jsonl").read_text(encoding="utf-8").split("\n") if x]
        examples = [Example(str(r["id"]), "task", anchor.prompt(r["source"]), anchor.opening, r["target"]) for r in rows]
        total = k = 0
        for ids, _ in BaseTokenizer(self.base, anchor.chat).example_ids(examples):
            total += len(ids)
            if total > (run.budget or 0):
                break
            k += 1
        if k == 0:
            raise RecipeError("the budget is too small for one example", place=f"arm {run.arm}", found=f"{run.budget} tokens")
        return k

    def _score(self, work: Path, held_out: Slice, call: Any) -> dict[str, Any]:
        """The scores on the held-out slice. Removes the converted model of the engine again, which has 275 MB for the smallest base."""
        engine, weights = choose_engine("auto"), weights_of(open_adapter(work / "adapter").card)
        converted_before = converted_models(engine, weights)
        output = ["-o", self._relative(work / "scores"), "--json"]
        data_options = ["--corpus", held_out.corpus, "--split", held_out.split]
        scores: dict[str, Any] = call("score", self._relative(work / "adapter"), *data_options, "--no-base", *output)
        if not converted_before:
            for model in converted_models(engine, weights):
                shutil.rmtree(model, ignore_errors=True)
        return scores

    def write_study(self) -> None:
        """Write study.json and the sets that runs are compared on. Raises RecipeError when the directory belongs to another study."""
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / "study.json"
        described = {**self.study.model_dump(mode="json"), "reference_arm": self.study.reference, "inputs": self._inputs}
        if path.exists() and (name := json.loads(path.read_bytes()).get("name")) != self.study.name:
            raise RecipeError("this directory holds another study", place=str(self.out), found=str(name), valid=self.study.name)
        write_json(path, described)
        for pair in self.study.pairs:
            test = self.test_set(self.study.corpora[pair].dev)
            folder = self.out / "dev" / pair
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "source.txt", "".join(s + "\n" for s in test.sources))
            write_atomic(folder / "reference.txt", "".join(r + "\n" for r in test.references))

    def missing_runs(self, finished: dict[str, dict[str, Any]]) -> list[StudyRun]:
        """The runs that are not finished, tuning runs first. A run that needs a learning rate is listed once that has been chosen."""
        runs = [*tuning_runs(self.study), *study_runs(self.study, _tuning_scores(finished))]
        return [run for run in runs if self.run_id(run) not in finished]

    def run_all(self) -> dict[str, dict[str, Any]]:
        """Run what is missing. A run that fails is reported, and the others go on. Raises RunFailed at the end if any failed."""
        self.write_study()
        finished = self.finished()
        failed: dict[str, str] = {}
        running: dict[Future[dict[str, Any]], tuple[str, StudyRun]] = {}
        with self.results.open("a", encoding="utf-8") as f, _stopped_by_signals(self.commands), ThreadPoolExecutor(self.jobs) as pool, progress() as bar:
            task = bar.add_task(f"study {self.study.name}", total=len(finished) + len(self.missing_runs(finished)), completed=len(finished))
            while True:
                running_ids = {id for id, _ in running.values()}
                for run in self.missing_runs(finished):
                    id = self.run_id(run)
                    if len(running) < self.jobs and id not in running_ids and id not in failed and not self.commands.stopping.is_set():
                        running[pool.submit(self.run_one, run, id)] = (id, run)
                        running_ids.add(id)
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    id, run = running.pop(future)
                    try:
                        row = future.result()
                    except TellmtError as e:
                        if not self.commands.stopping.is_set():
                            failed[id] = f"{run.label}: {e}"
                            say(failed[id])
                        continue
                    f.write(json.dumps(row, ensure_ascii=False) + "\n")
                    f.flush()
                    os.fsync(f.fileno())
                    finished[id] = row
                    say(f"{run.label}: chrF2 {row['dev']['chrf2']:.1f}, BLEU {row['dev']['bleu']:.1f}")
                    bar.update(task, completed=len(finished), total=len(finished) + len(self.missing_runs(finished)))
        if self.commands.stopping.is_set():
            raise KeyboardInterrupt
        if failed:
            first = next(iter(failed.values()))
            raise RunFailed(f"{len(failed)} of the study's runs failed", place=str(self.out), found=first, valid="the same command tries them again")
        return finished

    def chosen_rates(self, finished: dict[str, dict[str, Any]]) -> list[list[Any]]:
        """[pair, arm, budget, learning rate], with None for a rate that is not chosen yet."""
        tuned = _tuning_scores(finished)
        arms = [n for n, a in self.study.arms.items() if a.kind == "train" and a.tuned_as is None]
        return [[p, a, b, chosen_rate(self.study, a, p, b, tuned)] for p in self.study.pairs for a in arms for b in self.study.tune.budgets]


@contextmanager
def _stopped_by_signals(commands: CommandPool) -> Iterator[None]:
    """SIGINT and SIGTERM end the running commands, and then the study."""
    handlers = {s: signal.signal(s, lambda number, frame: commands.stop()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
