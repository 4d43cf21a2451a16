"""Run a study: every run through the commands that a user would type, several runs at the same time, each on its share of the cores.

Reads a study file and the corpora it names. Writes the study directory (see `eval.study.config`). A finished run is not run again, and an interrupted one
continues where its stages can.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from eval.scoring.hypotheses import WITHOUT
from eval.scoring.testset import TestSet, from_corpus
from eval.study.commands import CommandPool, RunFailed, stopped_by_signals
from eval.study.config import FORMAT, Slice, Study
from eval.study.data import shuffle_answers, task_tokens
from eval.study.plan import Place, StudyRun, chosen_rate, cost, data_key, place_of, recipe, study_runs, wants
from tell.adapter.card import open_adapter, weights_of
from tell.console import progress, say
from tell.corpus.directory import open_corpus
from tell.errors import RecipeError, TellmtError
from tell.files import key_of, sha256_file, write_atomic, write_json
from tell.machine import cores
from tell.model.base import find_base
from tell.model.engine import choose_engine, converted_models


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


def tuning_losses(finished: dict[str, dict[str, Any]]) -> dict[tuple[Place, float], dict[int, float]]:
    """The best losses of the tuning runs, as `chosen_rate` takes them."""
    losses: dict[tuple[Place, float], dict[int, float]] = {}
    for r in finished.values():
        if r["role"] == "tune":
            losses.setdefault(((r["arm"], r["pair"], r["size"], r["ratio"]), r["learning_rate"]), {})[r["seed"]] = float(r["dev"]["nats_per_token"])
    return losses


def _without(systems: dict[str, Any]) -> dict[str, Any]:
    """What an adapter with hints or nearest pairs scores without them; nothing for one that has neither."""
    scores = {name: systems[without] for name, without in WITHOUT.items() if without in systems}
    return {f"without_{name}": {"bleu": system["bleu"]["score"], "chrf2": system["chrf"]["score"]} for name, system in scores.items()}


def _outcome(dev: dict[str, Any]) -> str:
    figures = (("nats_per_token", "{:.4f} nats per token"), ("chrf2", "chrF2 {:.1f}"), ("bleu", "BLEU {:.1f}"))
    return ", ".join(text.format(dev[name]) for name, text in figures if dev.get(name) is not None)


class StudyRunner:
    """One study in one directory."""

    def __init__(self, study: Study, file: Path, out: Path, jobs: int, scores: bool = True):
        self.study, self.out, self.scores = study, out, scores
        self.directory = file.resolve().parent
        self.commands = CommandPool(self.directory, jobs)
        self.jobs = jobs
        self.results = out / "results.jsonl"
        self.base = find_base(study.base)
        self.all_pairs = [*dict.fromkeys([*study.pairs, *(p for stage in study.stages for p in stage.pairs or [])])]
        self._inputs = self._input_hashes()

    def _input_hashes(self) -> dict[str, Any]:
        """The hashes of everything that the study reads. Raises CorpusError or RecipeError when something is missing."""
        hashes: dict[str, Any] = {"base": [self.base.id, self.base.revision], "corpora": {}, "general": {}}
        for pair in self.all_pairs:
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
        if any(max(stage.ratios) > 0 for stage in self.study.stages) and not self.study.general:
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
                "format": FORMAT, "run": run.model_dump(exclude={"arm"}), "recipe": recipe(self.study, run), "data": data_key(self.study, run),
                "inputs": self._inputs, "corpora": data.model_dump(exclude={"dictionaries"}),
                # Only of runs that use them, so that all others keep their ids.
                **({"dictionaries": [sha256_file(self.directory / name) for name in data.dictionaries]} if arm.dictionaries else {}),
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
        tables, data, relative = recipe(self.study, run), self.study.corpora[run.pair], self._relative
        arm, bare = self.study.arms[run.arm], self.study.arms[run.arm].kind == "base"
        commands: list[list[str]] = []

        def call(*args: str, module: str = "tellmt") -> dict[str, Any]:
            commands.append(["tellmt" if module == "tellmt" else f"python -m {module}", *args])
            stdout = self.commands.call(lane, work / "log.txt", *args, module=module)
            return dict(json.loads(stdout))

        began = time.monotonic()
        counts = training = None
        outcome: dict[str, Any] = {}
        versions: dict[str, Any] = {}
        if bare:
            spec = {"base": self.base.id, "pair": run.pair, "shots": arm.shots, "seed": run.seed,
                    "anchor": tables.get("anchor", {}), "decoding": tables.get("decoding", {}), "train": data.train, "held": data.dev.model_dump()}  # fmt: skip
            write_json(work / "bare.json", spec)
            scores = call(relative(work / "bare.json"), relative(work / "scores"), module="eval.study.base")
            outcome, versions = self._scored(scores, work), scores["versions"]
        else:
            write_atomic(work / "recipe.toml", _toml(tables))
            counts = self._mix(run, work, call)
            tables = recipe(self.study, run, self._steps_between_looks(run, counts))
            write_atomic(work / "recipe.toml", _toml(tables))
            places = ["--mixed", relative(work / "mixed"), "--dev", data.tune.corpus, "-o", relative(work / "adapter")]
            card = call("train", "--recipe", relative(work / "recipe.toml"), *places, "--json")["card"]
            training = {k: card["training"][k] for k in ("steps", "tokens", "seconds", "final_loss", "dtype", "device")}
            looks = card["training"]["dev"]
            training |= {"looks": looks["history"], "best_step": looks["best_step"], "best_nats": looks["best_nats"], "kept_step": looks["kept_step"]}
            versions = {k: v for k, v in card.get("versions", {}).items() if k in ("python", "tellmt", "torch", "transformers")}
            if run.role == "tune":
                outcome = {"name": f"{data.tune.corpus} {data.tune.split}, looks", "segments": looks["segments"], "nats_per_token": looks["best_nats"]}
            else:
                each = ["--each"] if wants(self.study, run, "tokens") else []
                options = ["--corpus", data.dev.corpus, "--split", data.dev.split, *each, "-o", relative(work / "losses.jsonl"), "--json"]
                losses = call("losses", relative(work / "adapter"), *options)
                outcome = {"name": f"{data.dev.corpus} {data.dev.split}", "segments": losses["segments"], "nats_per_token": losses["nats_per_token"]}
                if each:
                    shutil.copyfile(work / "adapter.run" / "looks.jsonl", work / "looks.jsonl")
            if self.scores and wants(self.study, run, "scores"):
                scores = self._score(work, data.dev, call)
                outcome |= self._scored(scores, work)
                versions |= scores["versions"]
        # These directories can be made again in seconds, and are as large as the data.
        for name in ("mixed", "general", "task", "lexicon", "adapter.run", *(["adapter"] if run.role == "tune" else [])):
            shutil.rmtree(work / name, ignore_errors=True)
        (work / "answers.jsonl").unlink(missing_ok=True)
        return {
            "id": id, **run.model_dump(), "unit": "pairs", "cell": run.cell, "passes": None if bare else arm.passes or self.study.passes,
            "recipe": tables, "commands": commands, "counts": counts, "train": training, "dev": outcome,
            "base": {"id": self.base.id, "revision": self.base.revision}, "versions": versions,
            "machine": f"{platform.system()} {platform.machine()}, {len(lane)} of {cores()} cores{self._accelerator(training)}",
            "seconds": round(time.monotonic() - began, 1), "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }  # fmt: skip

    def _accelerator(self, training: dict[str, Any] | None) -> str:
        return f", {training['device']}" if training and training["device"] != "cpu" else ""

    def _scored(self, scores: dict[str, Any], work: Path) -> dict[str, Any]:
        system = scores["systems"]["adapter"]
        shutil.copyfile(work / "scores" / "adapter.hyp.txt", work / "hypotheses.txt")
        return {
            "name": scores["name"], "segments": scores["segments"], "bleu": system["bleu"]["score"], "chrf2": system["chrf"]["score"],
            "signatures": {"bleu": system["bleu"]["signature"], "chrf2": system["chrf"]["signature"]},
            "truncated": system["truncated"], "empty": system["empty"], **_without(scores["systems"]),
        }  # fmt: skip

    def _steps_between_looks(self, run: StudyRun, counts: dict[str, Any]) -> int:
        """So many optimiser steps that a run of this mix makes the study's number of looks at even distances."""
        passes, batch = self.study.arms[run.arm].passes or self.study.passes, int(recipe(self.study, run)["train"].get("batch_tokens", 2048))
        steps = (passes * counts["task"]["tokens"] + counts["general"]["tokens"]) / batch
        return max(1, round(float(steps) / self.study.looks.count))

    def _mix(self, run: StudyRun, work: Path, call: Any) -> dict[str, Any]:
        """Select the data that the arm wants selected, and mix. Returns the exact counts."""
        arm, data, relative = self.study.arms[run.arm], self.study.corpora[run.pair], self._relative
        seed = ["--seed", str(run.seed), "--base", self.base.id, "--json"]
        corpora: Sequence[str] = data.train
        if run.size is not None:
            # In the order of the seed's selection, so a smaller size is the beginning of a larger one.
            call("select", "--corpus", *data.train, "--method", arm.task or "random", "-k", str(run.size), *seed, "-o", relative(work / "task"))
            corpora = [relative(work / "task")]
        general: list[str] = list(self.study.general)
        if arm.answers == "shuffled" and run.ratio > 0:
            shuffle_answers([self.directory / name for name in general], work / "answers.jsonl", run.seed)
            general = [relative(work / "answers.jsonl")]
        if arm.general and run.ratio > 0:
            tokens = task_tokens([self.directory / c for c in corpora], recipe(self.study, run).get("anchor", {}), run.pair, self.base)
            # A sixth more than the mix takes, since it leaves out examples that are too long or repeat the corpus.
            wanted = ["--tokens", str(int(run.ratio * tokens * 7 / 6))]
            call("select", "--general", *(self.study.ltd_pool or general), "--method", arm.general, *seed, *wanted, "-o", relative(work / "general"))
            general = [relative(work / "general" / "selected.jsonl")]
        general_option = ["--general", *general] if run.ratio > 0 else []
        lexicon_option: list[str] = []
        if arm.hints is not None:
            dictionaries = ["--dictionary", *data.dictionaries] if arm.dictionaries and data.dictionaries else []
            call("lexicon", "build", *corpora, *dictionaries, "-o", relative(work / "lexicon"), "--json")
            lexicon_option = ["--lexicon", relative(work / "lexicon")]
        # Corpora that hold nothing to train on are named for what they reserve: general data may repeat no held-out segment.
        held_out = [c for c in dict.fromkeys((data.tune.corpus, data.dev.corpus)) if c not in corpora and self._has_no_training_pairs(c)]
        options = ["--corpus", *corpora, *held_out, *general_option, *lexicon_option]
        mix = call("mix", "--recipe", relative(work / "recipe.toml"), *options, "-o", relative(work / "mixed"), "--json")
        return dict(mix["counts"])

    def _has_no_training_pairs(self, corpus: str) -> bool:
        return next(open_corpus(self.directory / corpus).pairs("train"), None) is None

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
        for pair in self.all_pairs:
            test = self.test_set(self.study.corpora[pair].dev)
            folder = self.out / "dev" / pair
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "source.txt", "".join(s + "\n" for s in test.sources))
            write_atomic(folder / "reference.txt", "".join(r + "\n" for r in test.references))

    def missing_runs(self, finished: dict[str, dict[str, Any]]) -> list[StudyRun]:
        """The runs that are not finished, in the order of the design. A run that needs a learning rate is listed once that has been chosen."""
        return [run for run in study_runs(self.study, tuning_losses(finished)) if self.run_id(run) not in finished]

    def repeat(self, cell: str, finished: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Run one cell of the results again, in a directory of its own and with the rate that it was run with. Returns the new line of results beside the
        old one."""
        old = next((r for r in finished.values() if r["role"] == "run" and cell in (r.get("cell"), r["id"])), None)
        if old is None:
            valid = ", ".join(sorted(str(r.get("cell")) for r in finished.values() if r["role"] == "run")[:8]) or "a cell of results.jsonl"
            raise RecipeError("no result of this cell", place=str(self.results), found=cell, valid=f"{valid}, ...")
        run = StudyRun.model_validate({k: old[k] for k in StudyRun.model_fields})
        with stopped_by_signals(self.commands):
            new = self.run_one(run, f"{old['id']}-again")
        return {"cell": run.cell, "same_id": self.run_id(run) == old["id"], "before": old["dev"], "again": new["dev"], "row": new}

    def run_all(self, most: int | None = None, minutes: float | None = None, speed: float = 100) -> dict[str, dict[str, Any]]:
        """Run what is missing: `most` runs, and those that are done within so many minutes at `speed` tokens a second, until finished runs have shown
        theirs. A run that fails is reported, and the others go on. Raises RunFailed at the end if any failed."""
        end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.write_study()
        finished = self.finished()
        failed: dict[str, str] = {}
        running: dict[Future[dict[str, Any]], tuple[str, StudyRun]] = {}
        speeds: list[float] = []
        begun = 0
        with self.results.open("a", encoding="utf-8") as f, stopped_by_signals(self.commands), ThreadPoolExecutor(self.jobs) as pool, progress() as bar:
            task = bar.add_task(f"study {self.study.name}", total=len(finished) + len(self.missing_runs(finished)), completed=len(finished))
            while True:
                running_ids = {id for id, _ in running.values()}
                seconds_left = end - time.monotonic()
                rate = statistics.median(speeds) if speeds else speed
                for run in self.missing_runs(finished):
                    id = self.run_id(run)
                    if self.commands.stopping.is_set() or len(running) == self.jobs or begun == most:
                        break
                    if id not in running_ids and id not in failed and cost(self.study, run) / rate < seconds_left:
                        running[pool.submit(self.run_one, run, id)] = (id, run)
                        running_ids.add(id)
                        begun += 1
                if not running:
                    break
                done = wait(running, timeout=None if math.isinf(end) else max(0.0, end - time.monotonic()), return_when=FIRST_COMPLETED).done
                if not done:
                    say(f"the time is over: {len(running)} runs are stopped, and go on from their state the next time")
                    self.commands.stop()
                    done = wait(running).done
                for future in done:
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
                    if cost(self.study, run) and not speeds:
                        say(f"speed of a run: {cost(self.study, run) / max(0.1, row['seconds']):,.0f} tokens/s, its start included")
                    if cost(self.study, run):
                        speeds.append(cost(self.study, run) / max(0.1, row["seconds"]))
                    say(f"{run.label}: {_outcome(row['dev'])}, {row['seconds']:.0f} s")
                    bar.update(task, completed=len(finished), total=len(finished) + len(self.missing_runs(finished)))
        if self.commands.stopping.is_set() and time.monotonic() < end:
            raise KeyboardInterrupt
        if failed:
            first = next(iter(failed.values()))
            raise RunFailed(f"{len(failed)} of the study's runs failed", place=str(self.out), found=first, valid="the same command tries them again")
        return finished

    def chosen_rates(self, finished: dict[str, dict[str, Any]]) -> list[list[Any]]:
        """[pair, arm, pairs, ratio, learning rate] of every place that a stage needs, with None for a rate that is not chosen yet."""
        tuned = tuning_losses(finished)
        runs = {place_of(self.study, r.arm, r.pair, r.size, r.ratio): None for r in study_runs(self.study, tuned) if r.learning_rate is not None}
        return [[p[1], p[0], p[2], p[3], chosen_rate(self.study, p, tuned)] for p in runs]
