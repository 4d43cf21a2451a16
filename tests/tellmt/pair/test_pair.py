"""`tellmt pair`: from files to adapters that are live, with the steps' own commands played by a table; once with the steps themselves."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tell.languages import parse_pair
from tell.records import read_pairs
from tell.registry.registry import Registry
from tellmt.cli import main
from tellmt.pair import add
from tellmt.pair.commands import StepFailed
from tellmt.pair.plan import DirectionEstimate, plan_schedules, seconds_of
from tellmt.pair.workspace import workspace_of
from tests.conftest import Ran, Tellmt
from tests.support.fake_eval_engine import light_adapter, light_base


@pytest.fixture(autouse=True)
def pairs(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TELLMT_PAIRS", str(isolated / "pairs"))
    return isolated / "pairs"


def word(i: int) -> str:
    """A word of its own for each number: what differs in digits alone counts as the same sentence."""
    return "".join(chr(ord("a") + int(d)) for d in f"{i:04d}")


def tsv(name: str, n: int = 300, start: int = 0) -> Path:
    path = Path(name)
    rows = [f"Hetta er setningur um {word(i)} og fuglar.\tThis is a sentence about {word(i)} and birds.\n" for i in range(start, start + n)]
    path.write_text("fo\ten\n" + "".join(rows))
    return path


class Steps:
    """Plays the commands that take long; `corpus build` and `mix` are real. Keeps what was run."""

    def __init__(self, cache: Path):
        self.ran: list[list[str]] = []
        self.base = light_base(cache)
        self.refused: dict[str, list[str]] = {}
        self.fails: str | None = None
        # Whether the lexicon is learned, which takes a second; else it comes out empty.
        self.lexicons = False

    def __call__(self, title: str, words: list[str]) -> dict[str, Any]:
        self.ran.append(words)
        if words[0] == self.fails:
            raise StepFailed(title, 1, None)
        if words[0] == "select":
            out = Path(words[-1])
            out.mkdir()
            (out / "selected.xlsx").write_bytes(b"")
            return {"chosen": {"items": 1}}
        if words[0] == "lexicon" and not self.lexicons:
            return {"counts": {"keys": 0}}
        if words[0] in ("corpus", "lexicon", "mix", "base"):
            # In this process: a second less each. The base here has no weights, and knows nothing.
            at = words.index("--base") if words[:2] == ["corpus", "build"] and "--base" in words else len(words)
            assert at == len(words) or words[at + 1] == "light"
            words, out = [*words[:at], *words[at + 2 :]], io.StringIO()
            with contextlib.redirect_stdout(out):
                if code := main([*words, "--json"]):
                    raise StepFailed(title, code, None)
            return dict(json.loads(out.getvalue()))
        if "--dry-run" in words:
            return {"tokens": 20_000, "seconds": 100.0, "seconds_to_start": 10.0, "device": "cpu"}
        pair = Path(words[-1]).parent.name if words[0] == "train" else Path(words[1]).parent.name
        if words[0] == "train":
            adapter = light_adapter(Path(words[-1]), self.base, pair, seed=len(self.ran))
            return {"id": adapter.id, "reused": False, "card": {"recipe": tomllib.loads((Path(words[-1]).parent / "recipe.toml").read_text())}}
        if words[0] == "decoding":
            return {"id": "0" * 32, "chosen": 1.0}
        if words[0] == "score":
            score = {m: {"score": 30.0, "ci": 1.0} for m in ("bleu", "chrf")}
            return {"systems": {"base": score, "adapter": score}}
        assert words[0] == "publish", words
        if pair in self.refused:
            raise StepFailed(title, 1, {"verdict": {"reasons": self.refused[pair]}, "verdict_path": "v.json"})
        from tell.adapter.card import open_adapter

        store = Registry()
        id = store.add(Path(words[1]), open_adapter(Path(words[1])).card)
        store.promote(pair, id, "a test")
        return {"id": id, "verdict": {"reasons": []}, "verdict_path": "v.json"}

    def names(self) -> list[str]:
        return [w[0] + (" --dry-run" if "--dry-run" in w else "") for w in self.ran]


@pytest.fixture
def steps(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps(isolated / "cache")
    monkeypatch.setattr(add, "run_command", steps)
    return steps


def test_both_directions_from_a_file_to_live_and_again_with_more(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    Path("old").mkdir()
    first = tsv("old/corpus.tsv")
    code, report, err = tellmt("pair", "add", "fo-en", first, "--base", "light")
    assert code == 0, err
    assert steps.names() == [
        "corpus",
        "corpus",
        "lexicon",
        "lexicon",
        "mix",
        "train --dry-run",
        "mix",
        "train",
        "score",
        "publish",
        "train",
        "score",
        "publish",
    ]
    assert "decodes with the recipe's penalty on repetition, 1.1" in err
    assert set(report["directions"]) == {"fo-en", "en-fo"} and all(d["live"] for d in report["directions"].values())
    assert all(Registry().state(direction).live == d["adapter"] for direction, d in report["directions"].items())
    recipe = (pairs / "fo-en/fo-en/recipe.toml").read_text()
    assert "epochs = 3" in recipe and 'base = "light"' in recipe
    assert "240 train" in err and "What will be done" in err and "not done again" not in err

    # The originals may go; the other direction's name means the same pair; more files leave the frozen test set as it is.
    held = {p.source for p in read_pairs(pairs / "fo-en/fo-en/corpus/pairs.jsonl") if p.split != "train"}
    first.unlink()
    more = tsv("corpus.tsv", 60, start=1000)
    code, report, err = tellmt("pair", "add", "en-fo", more)
    assert code == 0, err
    now = read_pairs(pairs / "fo-en/fo-en/corpus/pairs.jsonl")
    assert len(now) == 360 and {p.source for p in now if p.split != "train"} == held
    assert [f["name"] for f in tellmt("pair", "show", "fo-en")[1]["files"]] == ["corpus.tsv", "corpus-2.tsv"]

    # Once more without files: everything is gone through again, and nothing is copied twice.
    code, again, err = tellmt("pair", "add", "fo-en", more)
    assert code == 0 and "already there, as corpus-2.tsv" in err and "what is done already is not done again" in err and again["home"] == report["home"]
    (listed,) = tellmt("pair", "list")[1]["pairs"]
    assert listed["pair"] == "fo-en" and listed["directions"]["en-fo"]["live"] == Registry().state("en-fo").live

    code, removed, _ = tellmt("pair", "remove", "fo-en", "--yes")
    assert code == 0 and removed["withdrawn"] == ["fo-en", "en-fo"] and not (pairs / "fo-en").exists()
    assert Registry().state("fo-en").live is None and Registry().state("fo-en").previous
    assert [e["event"] for e in Registry().log()][-2:] == ["withdraw", "withdraw"]
    assert tellmt("pair", "list")[1] == {"pairs": []}


def test_prompts_get_hints_of_a_lexicon_and_of_dictionaries(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    steps.lexicons = True
    place = pairs / "fo-en/fo-en"
    assert tellmt("pair", "add", "fo-en", tsv("c.tsv"), "--base", "light", "--one-way", "--no-hints")[0] == 0
    assert "lexicon" not in steps.names() and "[hints]" not in (place / "recipe.toml").read_text()
    tellmt("pair", "remove", "fo-en", "--yes")
    Path("words.tsv").write_text("".join(f"{word(i)}\tzz{word(i)}\n" for i in range(200, 260)))
    code, _, err = tellmt("pair", "add", "fo-en", "c.tsv", "--base", "light", "--one-way", "--dictionary", "words.tsv")
    assert code == 0 and steps.names()[-6:] == ["lexicon", "mix", "train --dry-run", "train", "score", "publish"], err
    assert '[hints]\nlexicon = "lexicon"' in (place / "recipe.toml").read_text()
    mix = json.loads((place / "mixed/mix.json").read_bytes())
    hinted = re.findall(r"(\w+) 【 zz\1】", (place / "mixed/mixed.jsonl").read_text())
    # Of 60 words four in five are in training, and 85% of the examples have hints.
    assert 25 < len(hinted) <= mix["hints"]["counts"]["hints"]
    # What was chosen holds for the next time, and an entry that was struck stays out.
    assert tellmt("lexicon", "strike", "fo-en", hinted[0])[0] == 0
    steps.ran = []
    code, _, err = tellmt("pair", "add", "fo-en")
    (command,) = [words for words in steps.ran if words[0] == "lexicon"]
    assert code == 0 and "--dictionary" in command, err
    now = (place / "mixed/mixed.jsonl").read_text()
    assert f"zz{hinted[0]}】" not in now and f"zz{hinted[1]}】" in now


def test_files_of_several_kinds_and_how_they_are_read(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    """Two texts and then tables, with options for them; both directions have the same pairs and the same test set."""
    rows = [line.split("\t") for line in tsv("t.tsv", 300).read_text().split("\n")[1:] if line]
    Path("a.fo").write_text("".join(f"{fo}\n" for fo, _ in rows)), Path("a.en").write_text("".join(f"{en}\n" for _, en in rows))
    assert tellmt("pair", "add", "en-fo", "a.en", "a.fo", "--base", "light")[0] == 0
    more = "".join(f"{en};{fo}\n" for fo, en in (line.split("\t") for line in tsv("m.tsv", 50, 2000).read_text().split("\n")[1:] if line))
    Path("more.csv").write_text("Enskt;Føroyskt\n" + more)
    words = ["--source-column", "Enskt", "--target-column", "Føroyskt", "--off", "ratio", "markup"]
    code, _, err = tellmt("pair", "add", "en-fo", "more.csv", *words)
    assert code == 0, err
    one, two = (read_pairs(pairs / "en-fo" / d / "corpus/pairs.jsonl") for d in ("en-fo", "fo-en"))
    assert len(one) == 350 and [(p.source, p.target, p.split, p.doc) for p in one] == [(p.target, p.source, p.split, p.doc) for p in two]
    assert one[0].source.startswith("This is") and json.loads((pairs / "en-fo/en-fo/corpus/corpus.json").read_bytes())["off"] == ["markup", "ratio"]
    # Said once, it holds for the next time too; and the other direction of a text pair is understood.
    tsv("n.tsv", 30, 4000)
    for name, column in (("b.fo", 0), ("b.en", 1)):
        Path(name).write_text("".join(line.split("\t")[column] + "\n" for line in Path("n.tsv").read_text().split("\n")[1:] if line))
    code, _, err = tellmt("pair", "add", "fo-en", "b.fo", "b.en")
    assert code == 0 and len(read_pairs(pairs / "en-fo/en-fo/corpus/pairs.jsonl")) == 380, err


def test_messages_name_the_files_where_the_user_has_them(tellmt: Tellmt, steps: Steps, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine").mkdir()
    broken, good = Path("mine/memory.tmx"), tsv("mine/corpus.tsv")
    broken.write_text("<tmx><body>")
    code, _, err = tellmt("pair", "add", "fo-en", "mine/../mine/memory.tmx", "--base", "light", "--dry-run")
    assert code == 2 and f"{broken.absolute()}, line 1" in err and "sources" not in err and not (pairs / "fo-en").exists()
    assert tellmt("pair", "add", "fo-en", good, "--base", "light")[0] == 0
    corpus = pairs / "fo-en/fo-en/corpus"
    before = [p.source for p in read_pairs(corpus / "pairs.jsonl")]
    # Given again by another name, with another file: what has become of the first one since is nothing to the pair.
    good.rename("mine/same.tsv"), tsv("mine/corpus.tsv", 40, start=5000)
    code, _, err = tellmt("pair", "add", "fo-en", "mine/same.tsv", "mine/corpus.tsv")
    assert code == 0 and "already there, as corpus.tsv" in err, err
    now = [p.source for p in read_pairs(corpus / "pairs.jsonl")]
    assert set(before) < set(now) and len(now) == 340
    code, _, err = tellmt("pair", "add", "fo-en")
    assert code == 0 and err.count("reused") >= 1 and len(read_pairs(corpus / "pairs.jsonl")) == 340, err
    # A directory is called by its name from within, too.
    rows = [line.split("\t") for line in tsv("more.tsv", 30, start=7000).read_text().split("\n")[1:] if line]
    for side, column in (("fo", 0), ("en", 1)):
        Path("parallel", side).mkdir(parents=True)
        Path("parallel", side, "one.txt").write_text("".join(f"{row[column]}\n" for row in rows))
    monkeypatch.chdir("parallel")
    code, _, err = tellmt("pair", "add", "fo-en", ".")
    assert code == 0 and len(read_pairs(corpus / "pairs.jsonl")) == 370, err
    assert [f["name"] for f in tellmt("pair", "show", "fo-en")[1]["files"]] == ["corpus.tsv", "corpus-2.tsv", "parallel"]


def test_dry_run_stops_before_training_and_says_how_long(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    code, report, err = tellmt("pair", "add", "fo-en", tsv("c.tsv"), "--base", "light", "--dry-run")
    assert code == 0 and report["dry_run"] and "train" not in steps.names() and "publish" not in steps.names()
    assert report["directions"]["fo-en"]["passes"] == 3 and report["directions"]["fo-en"]["seconds"] > 300
    assert "all of it takes about" in err and "nothing was kept" in err and Registry().state("fo-en").live is None and not (pairs / "fo-en").exists()


def test_a_dry_run_keeps_and_fetches_nothing(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    assert tellmt("pair", "add", "fo-en", tsv("c.tsv"), "--base", "light", "--one-way")[0] == 0

    def tree() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in pairs.rglob("*") if p.is_file()}

    before, steps.ran = tree(), []
    Path("words.tsv").write_text("".join(f"{word(i)}\tzz{word(i)}\n" for i in range(200, 260)))
    code, report, err = tellmt("pair", "add", "fo-en", tsv("more.tsv", 100, 1000), "--dictionary", "words.tsv", "--dry-run")
    assert code == 0 and report["directions"]["fo-en"]["pairs"] == 340 and report["home"] == str(pairs / "fo-en"), err
    assert tree() == before and steps.names() == ["corpus", "lexicon", "mix", "train --dry-run"]
    # A base that is not here is not fetched; then the plan has no times.
    steps.ran = []
    Path("two.tsv").write_text(Path("more.tsv").read_text().replace("fo\ten\n", "fo\tda\n"))
    code, report, err = tellmt("pair", "add", "fo-da", "two.tsv", "--off", "language", "--few", "--base", "gemma-3-270m", "--dry-run")
    assert code == 0 and "base" not in steps.names() and "gemma-3-270m is not here" in err and not (pairs / "fo-da").exists(), err
    assert report["dry_run"] and set(report["directions"]) == {"fo-da", "da-fo"} and "seconds" not in report["directions"]["fo-da"]


def test_a_dictionary_is_looked_at_before_anything_is_done(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    Path("bad.tsv").write_text("hestur\n")
    for dry in ((), ("--dry-run",)):
        code, _, err = tellmt("pair", "add", "fo-en", tsv("c.tsv"), "--base", "gemma-3-270m", "--dictionary", "bad.tsv", *dry)
        assert code == 2 and "bad.tsv, line 1: one column" in err and steps.ran == [] and not (pairs / "fo-en").exists()
    Path("good.tsv").write_text("hestur\thorse\n")
    assert tellmt("pair", "add", "fo-en", "c.tsv", "--base", "light", "--one-way", "--dictionary", "good.tsv")[0] == 0
    Path("good.tsv").unlink()
    steps.ran = []
    code, _, err = tellmt("pair", "add", "fo-en")
    assert code == 2 and "--dictionary: no such file" in err and "good.tsv" in err and steps.ran == []


def test_words_of_a_lexicon_that_is_there_already(tellmt: Tellmt, steps: Steps, pairs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of either direction, each for its own; `shipped` for those that come with tellmt; and the next time without being named again."""
    steps.lexicons = True
    add = ("pair", "add", "fo-en", tsv("c.tsv"), "--base", "light")
    assert tellmt(*add, "--few")[0] == 0
    one, other = (pairs / "fo-en" / d / "lexicon" for d in ("fo-en", "en-fo"))
    shutil.copytree(one, tmp_path / "mine")
    tellmt("pair", "remove", "fo-en", "--yes")
    for bad, said in (("gone", "there is no lexicon here"), ("shipped", "no lexicon of this pair comes with tellmt"), ("de-en", "this pair has no lexicon")):
        code, _, err = tellmt(*add, "--lexicon", bad)
        assert code in (1, 2) and said in err and not (pairs / "fo-en").exists(), err
    steps.ran = []
    assert tellmt(*add, "--lexicon", tmp_path / "mine")[0] == 0
    assert ["--lexicon" in words for words in steps.ran if words[0] == "lexicon"] == [True, False]
    report = json.loads((one / "build.json").read_bytes())
    assert report["lexicons"][0]["keys"] > 0 and "lexicons" not in json.loads((other / "build.json").read_bytes())
    steps.ran = []
    assert tellmt("pair", "add", "fo-en")[0] == 0 and sum("--lexicon" in words for words in steps.ran) == 1
    shutil.rmtree(tmp_path / "mine")
    code, _, err = tellmt("pair", "add", "fo-en")
    assert code == 2 and "--lexicon: no such lexicon" in err


def test_a_recipe_changed_by_hand_is_kept_and_what_fails_goes_on(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    steps.fails = "score"
    code, _, err = tellmt("pair", "add", "fo-en", tsv("c.tsv"), "--base", "light", "--one-way")
    assert code == 1 and "the same command goes on from here" in err
    recipe = pairs / "fo-en/fo-en/recipe.toml"
    recipe.write_text(recipe.read_text().replace("epochs = 3", "epochs = 9"))
    steps.fails, steps.ran = None, []
    code, report, err = tellmt("pair", "add", "fo-en")
    assert code == 0 and "changed by hand" in err and "epochs = 9" in recipe.read_text()
    # What was measured is not measured again, and the direction that was not wanted stays so.
    assert "train --dry-run" not in steps.names() and set(report["directions"]) == {"fo-en"}


def test_one_direction_refused_is_told_and_both_refused_is_an_error(tellmt: Tellmt, steps: Steps) -> None:
    steps.refused = {"en-fo": ["not better than the bare base"]}
    code, found, err = tellmt("pair", "add", "fo-en", tsv("c.tsv"), "--base", "light")
    assert code == 0 and "en-fo: not published: not better than the bare base" in err
    assert {name: d["live"] for name, d in found["directions"].items()} == {"fo-en": True, "en-fo": False}
    steps.refused["fo-en"] = ["an empty output"]
    code, found, err = tellmt("pair", "add", "fo-en")
    assert code == 1 and found is None and "no direction went live" in err
    assert tellmt("pair", "show", "fo-en")[1]["directions"]["fo-en"]["done"]["refused"] == ["an empty output"]


def test_without_pairs_sentences_are_proposed_and_come_back_translated(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    Path("mono.txt").write_text("Hetta er alt.\n")
    code, report, err = tellmt("pair", "add", "fo-en", "--mono", "mono.txt", "--base", "light")
    assert code == 0 and report["pairs"] == 0 and report["proposed"] == 1 and steps.names() == ["select"], err
    (sheet,) = report["to_translate"]
    assert f"tellmt pair add fo-en {sheet}" in err
    # Filled in by a translator, who had more of them.
    code, report, err = tellmt("pair", "add", "fo-en", tsv("filled.tsv"))
    assert code == 0 and report["directions"]["fo-en"]["live"], err


BAD: dict[str, tuple[list[str], str]] = {
    "no files": ([], "no files of segments"),
    "no such file": (["nothing.tsv"], "nothing.tsv: no such file"),
    "an empty directory": (["folder"], "see above"),
    "--swap of another file": (["c.tsv", "--swap", "few.tsv"], "--swap names none of the files; found few.tsv; valid: c.tsv"),
    "few pairs": (["few.tsv"], "fewer than 200 training pairs; found 30; valid: --mono TEXT"),
    "no time": (["c.tsv", "--budget", "soon"], "--budget: not a length of time; found soon; valid: such as 20m"),
    "too little time": (["c.tsv", "--budget", "2m"], r"too short for one epoch; found 2 min; valid: --budget \d+m or --one-way"),
    "no base": (["c.tsv", "--base", "gemma-3-271m"], "gemma-3-271m"),
    "not a pair": (["c.tsv", "PAIR=fo"], "fo"),
}


@pytest.mark.parametrize(("words", "says"), BAD.values(), ids=BAD)
def test_bad_input_leaves_nothing_published(tellmt: Tellmt, steps: Steps, words: list[str], says: str, isolated: Path) -> None:
    Path("folder").mkdir()
    tsv("c.tsv"), tsv("few.tsv", 50)
    pair = next((w.removeprefix("PAIR=") for w in words if w.startswith("PAIR=")), "fo-en")
    rest = [w for w in words if not w.startswith("PAIR=")]
    base = [] if "--base" in rest else ["--base", "light"]
    code, report, err = tellmt("pair", "add", pair, *rest, *base)
    assert code in (1, 2) and report is None, err
    assert re.search(says, err), err
    assert "train" not in steps.names() and not Registry().log()


def test_another_base_or_an_unknown_pair(tellmt: Tellmt, steps: Steps, pairs: Path) -> None:
    assert tellmt("pair", "add", "fo-en", tsv("c.tsv"), "--base", "light")[0] == 0
    code, _, err = tellmt("pair", "add", "fo-en", "--base", "tiny")
    assert code == 2 and "begun on another base; found tiny; valid: --base light" in err
    for words in (["show", "fo-da"], ["remove", "fo-da", "--yes"]):
        code, _, err = tellmt("pair", *words)
        assert code == 1 and "was not added; found fo-da; valid: fo-en" in err
    with workspace_of(parse_pair("fo-en")).lock():
        code, _, err = tellmt("pair", "add", "fo-en")
        assert code == 2 and "another command works on this pair" in err


def estimate(pair: str, tokens: int, seconds: float) -> DirectionEstimate:
    return DirectionEstimate(pair, 1000, tokens, seconds, 10.0, 100, 50, "cpu")


def test_the_plan_fits_the_budget_and_gives_up_epochs_evenly() -> None:
    both = [estimate("fo-en", 50_000, 300.0), estimate("en-fo", 50_000, 300.0)]
    free = plan_schedules(both, None)
    assert set(free.epochs.values()) == {3} and free.notes == []
    # Two epochs of one and one of the other fit into what three and three take less 900 s.
    tight = plan_schedules(both, free.seconds - 800)
    assert sorted(tight.epochs.values()) == [1, 2] and tight.seconds <= free.seconds - 800 and "too short for all epochs" in tight.notes[0]
    assert plan_schedules([estimate("fo-en", 2_000_000, 300.0)], None).epochs == {"fo-en": 1}


@pytest.mark.parametrize(("text", "seconds"), [("20m", 1200), ("90s", 90), ("1h30m", 5400), ("2h", 7200), ("15", 900), (" 1 h 5 m ", 3900), ("0.5h", 1800)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_steps_themselves(cli: Callable[..., Ran], tiny: Any, pairs: Path) -> None:
    """One direction on the tiny base, which learns nothing to speak of: the gate refuses it, and everything before that is there."""
    ran = cli("pair", "add", "fo-en", tsv("c.tsv", 60), "--few", "--one-way", "--base", "tiny", "--engine", "ct2", "--json", ok=False)
    done = json.loads((pairs / "fo-en/fo-en/done.json").read_bytes())
    assert ((ran.code == 0) == done["live"] and done["splits"] == {"train": 48, "dev": 6, "test": 6}) or ran.code == 1, ran.err
    assert "tellmt publish" in ran.err and done["scores"]["adapter"]["chrf"]["score"] >= 0
    again = cli("pair", "add", "fo-en", "--few", "--engine", "ct2", ok=False)
    assert again.err.count("reused") >= 3, again.err
    # What it says of the work is of the run that did it.
    assert {**json.loads((pairs / "fo-en/fo-en/done.json").read_bytes()), "trained_now": True} == done
