"""What an earlier version left on the disk (tests/golden/earlier, made by scripts/make_earlier.py) is opened by this one, and nothing of it is done again.

All of it lies in another place than where it was made. Only the cache's manifest of a base says where the base is, and is changed here: a cache that was
moved has to have its bases fetched again. The state of a translation is known by what was piped in and by the directory it was asked from, here and then `/`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import sqlite3
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tell.model.engine import EngineOptions
from tell.registry.registry import Registry
from tellmt.cli import main
from tests.conftest import ROOT, Ran, Tellmt
from tests.support.batch_engine import Capitals
from tests.support.fake_eval_engine import light_base
from tests.support.serving import running

EARLIER = ROOT / "tests" / "golden" / "earlier"
CLI = Callable[..., Ran]
ADAPTERS = {"first": "21890fae53306cc67270075814d65022", "second": "3388b075903d8f70f744d65c7dd36d87"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it all, which the commands are to work in; they are run in its `data`."""
    home = tmp_path / "moved"
    shutil.copytree(EARLIER, home, copy_function=shutil.copyfile)
    # A checkout keeps neither modes nor times: keys are their owner's alone, and what nobody came back to for a month is removed.
    (home / "keys.json").chmod(0o600)
    for state in (home / "cache" / "translate").iterdir():
        os.utime(state)
    manifest = home / "cache" / "bases" / "tiny" / "tellmt-base.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "path": str(manifest.parent)}))
    for name, leaf in {"CACHE": "cache", "REGISTRY": "registry", "PAIRS": "pairs", "MONITOR": "monitor", "KEYS": "keys.json"}.items():
        monkeypatch.setenv(f"TELLMT_{name}", str(home / leaf))
    monkeypatch.chdir(home / "data")
    return home


def contents(*paths: str) -> dict[str, str]:
    """File -> the hash of its content, for the files in and below paths, but for locks."""
    files = [f for p in paths for f in ([Path(p)] if Path(p).is_file() else Path(p).rglob("*")) if f.is_file() and f.suffix != ".lock"]
    assert files
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def same_versions(scores: Path) -> bool:
    """Whether what is part of the key of scores, beside the formats of tellmt's own, is here what it was there: others are made anew, as they should be."""
    recorded_versions = {k: v.split(",")[0] for k, v in json.loads(scores.read_bytes())["versions"].items()}
    names = {"ct2": "ctranslate2", "sacrebleu": "sacrebleu", "tellmt": "tellmt"}
    installed = {d.name for d in metadata.distributions()}
    return recorded_versions == {"python": platform.python_version(), **{k: metadata.version(d) for k, d in names.items() if d in installed}}


def test_the_registry(home: Path, tellmt: Tellmt) -> None:
    code, listed, err = tellmt("registry", "list")
    assert code == 0, err
    state = next(s for s in listed["pairs"] if s["pair"] == "is-en")
    assert (state["live"], state["previous"], state["generation"], state["pinned"]) == (ADAPTERS["first"], ADAPTERS["second"], 4, True)
    rows = {a["id"]: a for a in listed["adapters"] if a["pair"] == "is-en"}
    assert {id: (a["aliases"], a["problem"]) for id, a in rows.items()} == {ADAPTERS["first"]: (["live"], None), ADAPTERS["second"]: (["previous"], None)}
    log = tellmt("registry", "log", "--pair", "is-en")[1]["log"]
    assert [e["event"] for e in log] == ["add", "promote", "add", "promote", "rollback", "pin"]
    assert [e["why"].split(";")[0] for e in log if "why" in e] == ["forced: the first", "forced: the second", "the first was better", "it stays"]
    # Both contents have the hashes they are named by.
    for adapter in ("second", "first"):
        code, state, err = tellmt("registry", "rollback", "is-en", "--why", "to see")
        assert code == 0 and state["live"] == ADAPTERS[adapter], err
    assert [e["generation"] for e in tellmt("registry", "log", "--pair", "is-en")[1]["log"][-2:]] == [5, 6]


def test_a_corpus_and_a_mix_are_reused(home: Path, cli: CLI) -> None:
    before = contents("corpus", "mixed")
    built = cli("corpus", "build", "corpus.tsv", "--pair", "is-en", "--dev", 8, "--test", 8, "--base", "tiny", "-o", "corpus", "--json")
    assert "corpus: unchanged, reused" in built.err and built.json["splits"]["train"]["pairs"] == 64
    mixed = cli("mix", "--recipe", "first.toml", "--corpus", "corpus", "--general", "general.jsonl", "-o", "mixed", "--json")
    assert "mixed: unchanged, reused" in mixed.err and mixed.json["counts"]["general"]["examples"] > 0
    assert contents("corpus", "mixed") == before


def test_training_is_reused_and_goes_on(home: Path, cli: CLI, tellmt: Tellmt) -> None:
    runs = {r["path"]: (r["state"], r["step"], r["total"]) for r in tellmt("runs", ".")[1]["runs"] if "study" not in r["path"]}
    assert runs == {"first.run": ("finished", 25, 25), "second.run": ("finished", 25, 25), "stopped.run": ("stopped", 5, 76)}
    before = contents("first", "second")
    for name in ("first", "second"):
        assert cli("train", "--recipe", f"{name}.toml", "--mixed", "mixed", "-o", name, "--json").json["reused"]
    assert contents("first", "second") == before
    assert not Path("stopped").exists()
    ran = cli("train", "--recipe", "stopped.toml", "--mixed", "mixed", "-o", "stopped", "--json")
    assert "going on from the checkpoint after step 5 of 76" in ran.err and ran.json["card"]["training"]["steps"] == 76, ran.err
    (scored,) = [r["scores"] for r in tellmt("runs", "first.run")[1]["runs"]]
    assert [s["name"] for s in scored] == ["corpus/test"]


def test_scores_are_reused(home: Path, tellmt: Tellmt) -> None:
    if not same_versions(Path("scores/scores.json")):
        pytest.skip("these scores are of other versions of what they were made with, so they are made anew")
    before = contents("scores", str(home / "cache" / "hypotheses"))
    code, report, err = tellmt("score", "first", "--corpus", "corpus", "--engine", "ct2", "-o", "scores")
    assert code == 0 and report["reused"], err
    # Scored anew, it is not translated anew.
    code, report, err = tellmt("score", "first", "--corpus", "corpus", "--engine", "ct2", "-o", "elsewhere")
    assert code == 0 and not report["reused"] and err.count("reused from the cache") == 2, err
    assert contents("scores", str(home / "cache" / "hypotheses")) == before


def test_a_translation_that_was_killed_goes_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    (state,) = (home / "cache" / "translate").iterdir()
    # Looked at in another copy: whoever opens it last tidies it up, which a killed process did not.
    shutil.copytree(state, tmp_path / "looked-at")
    with sqlite3.connect(tmp_path / "looked-at" / "ledger.sqlite") as db:
        stored: dict[str, str] = dict(db.execute("SELECT text, made FROM segment WHERE made IS NOT NULL"))
    sources = Path("batch.txt").read_text(encoding="utf-8")
    lines = sources.removesuffix("\n").split("\n")
    assert len(lines) == 600 and len(stored) == 64
    engines: list[Capitals] = []

    def open_engine(name: str, options: EngineOptions) -> Capitals:
        engines.append(Capitals(options))
        return engines[-1]

    monkeypatch.setattr("serve.files.local.open_engine", open_engine)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sources.encode())))
    monkeypatch.chdir("/")
    code = main(["translate", "-", "--from", "is", "--to", "en", "--engine", "ct2", "--tries", "0"])
    out, err = capfdbinary.readouterr()
    assert code == 0 and b"going on: 64 of 600 segments are there already" in err, err.decode()
    assert sorted(engines[0].sources) == sorted(set(lines) - set(stored))
    assert out.decode().removesuffix("\n").split("\n") == [stored.get(line, line.upper()) for line in lines]
    assert not state.exists()


def test_the_monitor(home: Path, tellmt: Tellmt) -> None:
    code, history, err = tellmt("monitor", "report", "is-en")
    assert code == 0, err
    runs = [(r["version"], r["state"], r["baseline"], r["segments"]) for r in history["runs"]]
    live = ADAPTERS["first"]
    assert runs == [(live, "scored", True, 100), (live, "scored", False, 100), (None, "unreachable", False, 0)]
    assert history["runs"][1]["against"] == history["runs"][0]["id"] and history["runs"][0]["note"] == "accepted: known to be good"
    assert [(a["kind"], a["closed"] is None) for a in history["alarms"]] == [("unreachable", True), ("worthless", False)]
    frozen = tellmt("monitor", "freeze", "is-en", "--source", "canary.is", "--target", "canary.en", "--size", 100)[1]
    assert not frozen["written"]
    # Of the runs before the last one, a baseline's outputs alone are kept, so that it can be accepted.
    assert tellmt("monitor", "accept", "is-en", "--why", "to see")[1]["run"] == history["runs"][0]["id"]


def test_keys(home: Path, tellmt: Tellmt, tmp_path: Path) -> None:
    listed = {k["name"]: k for k in tellmt("keys", "list")[1]["keys"]}
    assert {name: (k["state"], k["scopes"], k["requests_per_minute"], k["cache"]) for name, k in listed.items()} == {
        "website": ("active", ["translate"], 60, True),
        "operator": ("active", ["admin", "translate"], None, False),
        "gone": ("revoked", ["translate"], None, True),
    }
    shown_before = json.loads((home / "shown.json").read_bytes())
    with running(light_base(tmp_path / "cache"), Registry(tmp_path / "registry")) as service:

        def asked(path: str, key: str | None) -> int:
            return service.http.get(path, headers={"X-API-Key": key} if key else {}).status_code

        assert [asked("/api/v1/adapters", k) for k in (*shown_before.values(), None)] == [200, 200, 401, 401]
        assert [asked("/api/v1/admin/log", k) for k in (*shown_before.values(), None)] == [403, 200, 401, 401]


def test_a_study_is_shown_and_its_file_refused_with_what_opens_it(home: Path, tellmt: Tellmt, cli: CLI) -> None:
    """Its budgets counted the tokens of anchors; studies go by pairs since."""
    before = contents("study/results.jsonl", "study/runs", "study/study.json")
    ran = cli("study", "study.toml", "-o", "study", ok=False)
    assert ran.code == 2 and "studies go by pairs" in ran.err and "--report-only opens what such a study left" in " ".join(ran.err.split())
    code, study, err = tellmt("study", "study.toml", "-o", "study", "--report-only")
    assert code == 0 and study["runs"] == 3, err
    assert contents("study/results.jsonl", "study/runs", "study/study.json") == before
    assert "| tell |" in Path("study/report/study.md").read_text()


def test_a_pair_is_not_made_again(home: Path, tellmt: Tellmt, cli: CLI) -> None:
    (listed,) = tellmt("pair", "list")[1]["pairs"]
    code, pair, err = tellmt("pair", "show", "en-fo")
    assert code == 0 and listed == pair and (pair["pair"], pair["base"]) == ("fo-en", "tiny"), err
    done = pair["directions"]["fo-en"]["done"]
    assert done["splits"] == {"train": 80, "dev": 20, "test": 20} and [f["name"] for f in pair["files"]] == ["pair.tsv"]
    here = home / "pairs" / "fo-en" / "fo-en"
    before = contents(*(str(here / name) for name in ("corpus", "mixed", "adapter", "scores", "recipe.toml")))
    # Without the file, and from another directory than where it was.
    ran = cli("pair", "add", "fo-en", "--few", "--engine", "ct2", "--json")
    assert f"{here / 'recipe.toml'}: was changed by hand" in ran.err and "measure the speed" not in ran.err
    for message in ("corpus: unchanged, reused", "mixed: unchanged, reused", f"unchanged, reused: {here / 'adapter'}"):
        assert message in ran.err, ran.err
    if same_versions(here / "scores" / "scores.json"):
        assert ran.err.count("unchanged, reused") == 5 and "from the cache" not in ran.err and "is already live" in ran.err, ran.err
        assert contents(*(str(here / name) for name in ("corpus", "mixed", "adapter", "scores", "recipe.toml"))) == before
        assert json.loads((here / "done.json").read_bytes()) == {**done, "trained_now": False, "verdict": str(home / "pairs/fo-en/fo-en/adapter.verdict.json")}
