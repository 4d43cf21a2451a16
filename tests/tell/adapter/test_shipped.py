"""Where shipped adapters lie, how they are put there, and whether each that is there may be passed on."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tell.adapter.card import CARD, CONFIG, WEIGHTS, open_adapter
from tell.adapter.shipped import MAX_WEIGHTS
from tell.languages import parse_pair
from tell.model.base import DEFAULT_BASE, PACKAGED
from tell.paths import cache_dir
from tests.conftest import ROOT
from tests.support.fake_eval_engine import light_adapter, light_base

ADAPTERS = ROOT / "adapters"
# What the corpora of the training side are, as a card must name them.
OWED = ("FLORES", "NTREX", "Tatoeba", "TELL")


def check(path: Path) -> None:
    """Everything that must hold of an adapter in the repository."""
    adapter = open_adapter(path)
    card = adapter.card
    assert sorted(p.name for p in path.iterdir()) == sorted([*card.contents, CARD]) and {WEIGHTS, CONFIG} <= set(card.contents)
    assert path.name == parse_pair(card.pair).slug
    assert (path / WEIGHTS).stat().st_size <= MAX_WEIGHTS == 16_000_000
    assert (card.base.id, card.base.revision) == (DEFAULT_BASE, PACKAGED[DEFAULT_BASE].sha256)
    notes = "\n".join(card.notes)
    assert PACKAGED[DEFAULT_BASE].licence in notes and PACKAGED[DEFAULT_BASE].notice in notes
    for name in OWED:
        assert name in notes and name in (ROOT / "NOTICE").read_text(), name
    # Its lexicon has words of the dictionary.
    assert card.hints is None or ("ensk.is" in notes and "ensk.is" in (ROOT / "NOTICE").read_text())
    for word in ("CC BY-SA 4.0", "CC BY 2.0 FR", "Apache-2.0"):
        assert word in notes
    (scores,) = [s for s in card.scores if s["name"] == "newstest2021"]
    assert (scores["pair"], scores["segments"]) == (card.pair, 1000)
    for metric in ("bleu", "chrf"):
        assert scores["systems"]["adapter"][metric]["signature"] and scores["systems"]["adapter"][metric]["score"] > 0
    # No path of the machine that trained it.
    assert not re.findall(r"(?<![\w:/.])~?/(?:[\w.-]+/)*[\w.-]+", (path / CARD).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(p for p in ADAPTERS.iterdir() if p.is_dir()), ids=lambda p: p.name)
def test_a_shipped_adapter_may_be_passed_on(path: Path) -> None:
    check(path)


def test_each_direction_has_one() -> None:
    assert {"en-is", "is-en"} <= {p.name for p in ADAPTERS.iterdir()}


# --- how they are put there


def trained(path: Path, corpora: dict[str, str], base_id: str = DEFAULT_BASE) -> Path:
    """An adapter as `tellmt train` leaves it, by its card, and the scores of newstest2021."""
    base = light_base(cache_dir(), base_id, PACKAGED[DEFAULT_BASE].sha256)
    data = {
        "corpora": [{"name": n, "path": p, "pairs_sha256": "x"} for n, p in corpora.items()],
        "general_sources": [{"path": "/data/general/p3-train.jsonl.gz", "used": 7}, {"path": "/data/unused.jsonl", "used": 0}],
    }
    adapter = light_adapter(path / "adapter", base, data=data)
    score = {"score": 10.7, "signature": "nrefs:1"}
    row = {
        "name": "newstest2021",
        "segments": 1000,
        "pair": "is-en",
        "source_sha256": "",
        "reference_sha256": "",
        "engine": "ct2",
        "versions": {},
        "paired": None,
    }
    scores = {**row, "adapter": {"weights": adapter.card.files}, "systems": {"adapter": {"bleu": score, "chrf": score, "seconds": 9.0}}}
    (path / "scores.json").write_text(json.dumps(scores))
    return adapter.path


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run scripts/ship.py in this process: exit code, stdout, stderr. Keyword arguments are set in the module."""
    spec = importlib.util.spec_from_file_location("ship", ROOT / "scripts" / "ship.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*args: object, **constants: Any) -> tuple[int, str, str]:
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)
        monkeypatch.setattr(sys, "argv", ["ship.py", *map(str, args)])
        try:
            code = module.main()
        except SystemExit as e:
            code = int(str(e.code))
        return (code, *capsys.readouterr())

    return run


REAL = {"dev1": "/tmp/x/dev1", "dev2": "/tmp/x/dev2", "flores": "/tmp/x/flores", "ntrex": "/tmp/x/ntrex", "tatoeba": "/tmp/x/tatoeba"}


def test_ship_writes_what_may_be_passed_on(ship: Any, tmp_path: Path) -> None:
    adapter = trained(tmp_path, REAL)
    # As it comes from the registry of whoever trained it.
    card = json.loads((adapter / CARD).read_text())
    (adapter / CARD).write_text(json.dumps({**card, "verdict": {"passed": True, "notes": ["not read: /home/someone/corpus: gone"]}}))
    to = tmp_path / "adapters"
    for _ in range(2):
        code, out, err = ship(adapter, "--scores", tmp_path / "scores.json", "--to", to)
        assert code == 0, err
        check(to / "is-en")
    shipped = open_adapter(to / "is-en")
    assert shipped.card.files == open_adapter(adapter).card.files and out.strip().endswith(shipped.id)
    assert [c["path"] for c in shipped.card.data["corpora"]] == list(REAL) and len(shipped.card.notes) == 6
    assert shipped.card.verdict == {"passed": True} and [p.name for p in to.iterdir()] == ["is-en"]


@pytest.mark.parametrize(
    ("corpora", "args", "code", "messages"),
    [
        ({"mine": "/x/mine"}, [], 2, ["licence of this data", "mine", "--note mine=TEXT"]),
        ({"mine": "/x/mine"}, ["--note", "mine"], 2, ["--note", "'mine'", "NAME=TEXT"]),
        (REAL, ["--scores", "none.json"], 2, ["no such scores"]),
    ],
)
def test_ship_refuses(ship: Any, tmp_path: Path, corpora: dict[str, str], args: list[str], code: int, messages: list[str]) -> None:
    exit_code, _, err = ship(trained(tmp_path, corpora), "--to", tmp_path / "adapters", *args)
    assert exit_code == code and all(s in err for s in messages), err
    assert not (tmp_path / "adapters").exists()


def test_ship_refuses_what_is_too_large_and_takes_notes(ship: Any, tmp_path: Path) -> None:
    arguments = (trained(tmp_path, {"mine": "/x/mine"}), "--note", "mine=My sentences, CC0", "--to", tmp_path / "adapters")
    code, _, err = ship(*arguments, MAX_WEIGHTS=100)
    assert code == 1 and "too large" in err and "at most 100" in err and not (tmp_path / "adapters").exists()
    assert ship(*arguments, MAX_WEIGHTS=MAX_WEIGHTS)[0] == 0
    assert "Trained on: My sentences, CC0." in open_adapter(tmp_path / "adapters" / "is-en").card.notes


# --- where they lie


def test_a_checkout_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from tell.adapter.shipped import shipped_dir

    monkeypatch.delenv("TELLMT_SHIPPED")
    assert shipped_dir() == ROOT / "adapters"


def test_a_wheel_has_them(tmp_path: Path, isolated: Path) -> None:
    """Built from a copy of the sources with an adapter in it, and looked at where it would be installed."""
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("tell", "train", "eval", "serve", "tellmt"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    assert (source / "tell" / "adapter" / "shipped_adapters").is_symlink()
    shipped = light_adapter(source / "adapters" / "is-en", light_base(cache_dir()), "is-en", 50)
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True, timeout=200)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "site"
    shutil.unpack_archive(wheel, installed, "zip")
    assert not (installed / "tell" / "adapter" / "shipped_adapters").is_symlink()
    look = "import tell.adapter.shipped as s; a = s.shipped_adapters()['is-en'].open(); print(s.__file__, a.id)"
    env = {k: v for k, v in os.environ.items() if k != "TELLMT_SHIPPED"} | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", look], cwd=tmp_path, env=env, check=True, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == [str(installed / "tell" / "adapter" / "shipped.py"), shipped.id]
