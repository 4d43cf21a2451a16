"""`tellmt select`: what is chosen and in which order, what is written, what is computed again, and that the next stage takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tell.model.base import Base
from tell.model.embeddings import embed
from tell.records import read_examples, read_pairs
from tests.conftest import Ran

CLI = Callable[..., Ran]
pytestmark = pytest.mark.usefixtures("tiny")

# Three kinds of text that no base takes for one another, of very different sizes.
GROUPS = {"words": 90, "digits": 6, "runes": 4}


def letters(i: int) -> str:
    return "".join(chr(ord("a") + int(d)) for d in f"{i:04}")


def example(group: str, i: int) -> dict[str, str]:
    if group == "words":
        return {"prompt": f"Explain the meaning of the word {letters(i)} to a child", "completion": f"It is like {letters(i)} but much smaller"}
    if group == "digits":
        return {"prompt": f"{i} 11 {i * 7919} 22 {i + 1} 33 44", "completion": f"{i * 31} 55 {i} 66 77 88 99 {i}"}
    return {"prompt": "ᚠᚢᚦᚨᚱᚲ" * (2 + i), "completion": "ᛏᛒᛖᛗᛚᛜ" * (3 + i)}


def general(name: str = "pool.jsonl", sizes: dict[str, int] | None = None, extra: tuple[Any, ...] = ()) -> Path:
    rows = [example(g, i) for g, n in (sizes or GROUPS).items() for i in range(n)]
    Path(name).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in (*rows, *extra)))
    return Path(name)


def corpus(cli: CLI, name: str, start: int = 0, n: int = 100, pair: str = "is-en", more: tuple[str, ...] = ()) -> Path:
    """A built corpus of `n` pairs in documents of ten, a tenth each in dev and test."""
    rows = [f"d{i // 10:03}\tThis is the English sentence {letters(i)}\tÞetta er íslenska setningin {letters(i)}" for i in range(start, start + n)]
    Path(f"{name}.tsv").write_text("\n".join(["document\ten\tis", *rows, *more]) + "\n", encoding="utf-8")
    cli("corpus", "build", f"{name}.tsv", "--pair", pair, "-o", name)
    return Path(name)


def chosen(out: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(out) / "selected.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


def ids(out: str | Path) -> list[str]:
    return [row["id"] for row in chosen(out)]


def group_of(row: dict[str, Any]) -> str:
    return "words" if row["prompt"].startswith("Explain") else "digits" if row["prompt"][0].isdigit() else "runes"


def vectors(base: Base, pool: Path) -> Any:
    """The embeddings of a general pool, from the cache that the command has filled."""
    rows = [json.loads(line) for line in pool.read_text().split("\n")[:-1]]
    embeddings, how = embed(base, [(r["prompt"] + "\n\n", r["completion"]) for r in rows])
    assert how["computed"] == 0, "the command and this test embed different texts"
    return embeddings


def radius(x: Any, chosen: list[int]) -> float:
    """Within what distance of a taken item the whole pool lies, the slow and plain way."""
    return float(max(min(np.linalg.norm(x[i] - x[j]) for j in chosen) for i in range(len(x))))


def plain_greedy(x: Any, chosen: list[int], k: int) -> list[int]:
    """KCenterGreedy as Sener and Savarese write it: one item at a time, all distances anew."""
    chosen = list(chosen)
    while len(chosen) < k:
        chosen.append(int(np.argmax(np.min(np.linalg.norm(x[:, None] - x[chosen][None], axis=2), axis=1))))
    return chosen


def test_ltd_covers_all_groups_where_chance_does_not(cli: CLI, tiny: Base) -> None:
    pool = general()
    cli("select", "--general", pool, "--base", "tiny", "-k", 6, "--clusters", 3, "--seed", 3, "-o", "ltd")
    cli("select", "--general", pool, "--base", "tiny", "-k", 6, "--method", "random", "--seed", 3, "-o", "random")
    assert {group_of(r) for r in chosen("ltd")} == set(GROUPS)
    assert {group_of(r) for r in chosen("random")} == {"words"}
    # One cluster is one group, so its centre's nearest is of that group, and clusters are numbered by size.
    first = chosen("ltd")[:3]
    assert [group_of(r) for r in first] == ["words", "digits", "runes"] and [r["cluster"] for r in first] == [0, 1, 2]
    x = vectors(tiny, pool)
    lines = {name: [int(r["id"].rpartition(":")[2]) - 1 for r in chosen(name)] for name in ("ltd", "random")}
    assert radius(x, lines["ltd"]) < radius(x, lines["random"])
    report = json.loads(Path("ltd/select.json").read_text())
    assert report["clusters"]["covering_radius"] == pytest.approx(radius(x, lines["ltd"]), abs=1e-3)
    assert [c["size"] for c in report["clusters"]["clusters"]] == [90, 6, 4]


def test_the_order_is_that_of_the_plain_algorithm(cli: CLI, tiny: Base) -> None:
    pool = general()
    cli("select", "--general", pool, "--base", "tiny", "-k", 40, "--clusters", 5, "-o", "out")
    x = vectors(tiny, pool)
    assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    rows = chosen("out")
    assert [r["rank"] for r in rows] == list(range(1, 41))
    positions = [int(r["id"].rpartition(":")[2]) - 1 for r in rows]
    assert positions == plain_greedy(x, positions[:5], 40)
    # The first five are the items nearest to the centres of their clusters.
    cli("select", "--general", pool, "--base", "tiny", "-k", 100, "--clusters", 5, "--method", "centres", "-o", "all")
    everything = chosen("all")
    for c in range(5):
        mine = [r for r in everything if r["cluster"] == c]
        assert mine[0]["id"] == rows[c]["id"] and mine[0]["distance"] == min(r["distance"] for r in mine)
        assert [r["distance"] for r in mine] == sorted(r["distance"] for r in mine)


def test_many_candidates_at_once_choose_what_one_at_a_time_would() -> None:
    from tell.select.coreset import CANDIDATES, Cover, greedy_order

    x = np.random.default_rng(1).normal(size=(CANDIDATES + 500, 8)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cover = Cover(x)
    cover.add([0, 1])
    order = [0, 1, *greedy_order(x, cover)]
    assert sorted(order) == list(range(len(x)))
    assert order[:200] == plain_greedy(x, [0, 1], 200)


@pytest.mark.parametrize("method", ["ltd", "centres", "random"])
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(cli: CLI, method: str) -> None:
    pool = general()
    clusters = () if method == "random" else ("--clusters", 4)
    for name, size in {"a": ("--tokens", 300), "b": ("--tokens", 900), "c": ("--percent", "50%"), "d": ("-k", 80)}.items():
        cli("select", "--general", pool, "--base", "tiny", "--method", method, *clusters, *size, "-o", name)
    a, b, c, d = (ids(n) for n in "abcd")
    assert len(a) < len(b) < len(c) == 50 < len(d) == 80
    assert a == b[: len(a)] and b == d[: len(b)] and c == d[:50]
    for name, budget in (("a", 300), ("b", 900)):
        used = sum(r["tokens"] for r in chosen(name))
        assert json.loads(Path(name, "select.json").read_text())["chosen"] == {"items": len(ids(name)), "tokens": used}
        assert used <= budget
    # The next one would have gone beyond it.
    assert sum(r["tokens"] for r in chosen("b")[: len(a) + 1]) > 300
    if method == "random":
        assert {r["cluster"] for r in chosen("a")} == {None} and json.loads(Path("d/select.json").read_text())["clusters"] is None


def test_the_seed_decides(cli: CLI) -> None:
    pool = general()
    for method in ("ltd", "random"):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            cli("select", "--general", pool, "--base", "tiny", "--method", method, "-k", 20, "--seed", seed, "-o", f"{method}-{name}")
        assert Path(f"{method}-a/selected.jsonl").read_bytes() == Path(f"{method}-b/selected.jsonl").read_bytes()
        assert ids(f"{method}-a") != ids(f"{method}-c")


def test_unchanged_is_reused_and_damage_is_not(cli: CLI) -> None:
    pool = general()
    command = ("select", "--general", pool, "--base", "tiny", "-k", 9, "-o", "out")
    cli(*command)
    before = Path("out/selected.jsonl").read_bytes()
    stamp = Path("out/select.json").stat().st_mtime_ns
    assert "unchanged, reused" in cli(*command).err and Path("out/select.json").stat().st_mtime_ns == stamp
    Path("out/selected.jsonl").write_text("")
    assert "reused" not in cli(*command).err and Path("out/selected.jsonl").read_bytes() == before
    assert "reused" not in cli(*command, "--field", "prompt").err
    general(sizes={"words": 91, "digits": 6, "runes": 4})
    assert "reused" not in cli(*command).err


def test_what_was_chosen_is_general_data_for_mix(cli: CLI, tiny: Base) -> None:
    pool = general(extra=("not json", '{"prompt": "no completion"}', json.dumps(example("words", 3))))
    report = cli("select", "--general", pool, "--base", "tiny", "-k", 60, "-o", "chosen", "--json").json
    assert report["pool"]["items"] == 100 and report["pool"]["left_out"] == {"duplicate": 1, "no prompt and completion": 2}
    corpus(cli, "task")
    Path("r.toml").write_text('pair = "is-en"\nbase = "tiny"\n[mix]\nratio = 0.3\n')
    cli("mix", "--recipe", "r.toml", "--corpus", "task", "--general", "chosen/selected.jsonl", "-o", "mixed")
    prompts = {r["prompt"] for r in chosen("chosen")}
    used = [e for e in read_examples(Path("mixed/mixed.jsonl")) if e.kind == "general"]
    assert used and {e.prompt.rstrip("\n") for e in used} <= prompts
    # Tokens are those that mix counts.
    cost = {r["prompt"]: r["tokens"] for r in chosen("chosen")}
    assert json.loads(Path("mixed/mix.json").read_text())["counts"]["general"]["tokens"] == sum(cost[e.prompt.rstrip("\n")] for e in used)


def test_what_was_chosen_of_corpora_is_a_corpus(cli: CLI) -> None:
    corpus(cli, "one", more=("d000\tThis is the English sentence zzz\tÞetta er íslenska setningin zzz",))
    Path("sub").mkdir()
    # Equal document names, ten training pairs in both, and documents that are dev or test here and train there.
    corpus(cli, "sub/one", start=60)
    report = cli("select", "--corpus", "one", "sub/one", "--base", "tiny", "-k", 40, "-o", "chosen", "--json").json
    before = {name: read_pairs(Path(name, "pairs.jsonl")) for name in ("one", "sub/one")}
    after = read_pairs(Path("chosen/pairs.jsonl"))
    train = [p for p in after if p.split == "train"]
    assert len(train) == 40 and {(p.source, p.target) for p in train} == {(r["source"], r["target"]) for r in chosen("chosen")}
    for split in ("dev", "test"):
        assert [(p.source, p.line) for p in after if p.split == split] == [(p.source, p.line) for n in before for p in before[n] if p.split == split]
    # Each keeps its document and line, and documents of the two stay apart.
    names = {"one": "one", "sub/one": "sub/one"}
    was = {(f"{names[n]}/{p.doc}", p.line, p.source) for n in before for p in before[n]}
    assert {(p.doc, p.line, p.source) for p in after} <= was
    held = {p.source for n in before for p in before[n] if p.split != "train"}
    assert not held & {p.source for p in train}
    assert report["pool"]["left_out"]["in dev or test of another corpus"] > 0 and report["pool"]["left_out"]["duplicate"] > 0
    built = json.loads(Path("chosen/corpus.json").read_text())
    assert built["read"] == sum(map(len, before.values())) == built["kept"] + sum(built["dropped"].values())
    assert built["splits"]["train"]["pairs"] == 40 and set(json.loads(Path("chosen/split.json").read_text())["documents"].values()) == {"dev", "test"}
    Path("r.toml").write_text('base = "tiny"\n[mix]\nratio = 0\n')
    cli("mix", "--recipe", "r.toml", "--corpus", "chosen", "-o", "mixed")
    assert len(read_examples(Path("mixed/mixed.jsonl"))) == 40


def test_one_corpus_keeps_its_names_and_its_split(cli: CLI) -> None:
    corpus(cli, "one")
    cli("select", "--corpus", "one", "--base", "tiny", "--percent", "12.5", "-o", "chosen")
    assert len(chosen("chosen")) == 10
    assert Path("chosen/split.json").read_bytes() == Path("one/split.json").read_bytes()
    before = Path("one/pairs.jsonl").read_text(encoding="utf-8").split("\n")
    assert set(Path("chosen/pairs.jsonl").read_text(encoding="utf-8").split("\n")) < set(before)
    for side in ("source", "target", "both"):
        cli("select", "--corpus", "one", "--base", "tiny", "-k", 10, "--side", side, "-o", side)
    assert ids("source") == ids("chosen") and len({tuple(ids(side)) for side in ("source", "target", "both")}) == 3
    # A corpus that was selected can be selected from.
    cli("select", "--corpus", "chosen", "--base", "tiny", "-k", 3, "-o", "again")
    assert {r["source"] for r in chosen("again")} < {r["source"] for r in chosen("chosen")}


def test_lines_to_translate(cli: CLI) -> None:
    lines = ["Þetta er dagur.", "", "ÞETTA er dagur", "— 12 —", "Með\tdálki", "x" * 2001, *(f"Setning {letters(i)} er hér" for i in range(30))]
    lines.append("  Þetta er nótt.  ")
    Path("mono.is.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    report = cli("select", "--text", "mono.is.txt", "--base", "tiny", "-k", 33, "-o", "out", "--json").json
    assert report["pool"]["left_out"] == {"blank line": 1, "duplicate": 1, "no letters": 1, "too long": 1}
    assert {r["id"]: r["text"] for r in chosen("out")}["text:37"] == "Þetta er nótt."
    table = Path("out/selected.tsv").read_text(encoding="utf-8").split("\n")
    assert table[0] == "source\ttarget" and table[1:-1] == [r["text"] + "\t" for r in chosen("out")] and "Með dálki\t" in table
    # A translator fills in some rows; the header is no pair.
    Path("back.tsv").write_text("\n".join([table[0], *(f"{row}Translation {letters(i)}" for i, row in enumerate(table[1:21])), *table[21:-1]]) + "\n")
    built = cli("corpus", "build", "back.tsv", "--pair", "is-en", "--dev", 0, "--test", 0, "-o", "corpus", "--json").json
    assert (built["read"], built["kept"], built["dropped"]) == (33, 20, {"empty target": 13})


def test_embeddings_are_shared_and_mended(cli: CLI, tiny: Base, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = isolated / "own-cache"
    (cache / "bases").mkdir(parents=True)
    (cache / "bases" / "tiny").symlink_to(tiny.path)
    monkeypatch.setenv("TELLMT_CACHE", str(cache))
    small, large = general("small.jsonl", {"words": 40}), general("large.jsonl")

    def computed(pool: Path, *options: object) -> int:
        found: int = cli("select", "--general", pool, "--base", "tiny", "-k", 9, "-o", "out", "--force", "--json", *options).json["embedding"]["computed"]
        return found

    assert [computed(small), computed(large), computed(large), computed(large, "--seed", 4)] == [40, 60, 0, 0]
    assert computed(large, "--field", "prompt") == 100
    before = ids("out")
    shards = sorted((cache / "embeddings").glob("*/*.npy"))
    assert len(shards) == 3 and all(np.load(s, mmap_mode="r").dtype == np.float32 for s in shards)
    sizes = {s: len(np.load(s)) for s in shards}
    # A shard without keys is what a kill leaves behind; a shortened one is a damaged disk.
    shards[0].with_suffix(".keys").unlink()
    assert computed(small) + computed(large) + computed(large, "--field", "prompt") == sizes[shards[0]]
    shards[1].write_bytes(shards[1].read_bytes()[:200])
    done = cli("select", "--general", large, "--base", "tiny", "-k", 9, "--field", "prompt", "-o", "out", "--force", "--json")
    assert done.json["embedding"]["computed"] + computed(small) + computed(large) == sizes[shards[1]] and "damaged" in done.err
    assert ids("out") != before or computed(large, "--field", "prompt") == 0


def test_a_killed_run_goes_on(cli: CLI, tiny: Base, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = isolated / "own-cache"
    (cache / "bases").mkdir(parents=True)
    (cache / "bases" / "tiny").symlink_to(tiny.path)
    monkeypatch.setenv("TELLMT_CACHE", str(cache))
    rows = [{"prompt": f"Explain {letters(i)} " + "at some length " * 20, "completion": f"It is {letters(i)}"} for i in range(3000)]
    Path("long.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = ["select", "--general", "long.jsonl", "--base", "tiny", "-k", "20", "--clusters", "5", "-o", "out", "--json"]
    run = subprocess.Popen([sys.executable, "-m", "tellmt", *command], env=os.environ, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while time.monotonic() < end and not list((cache / "embeddings").glob("*/*.keys")):
        time.sleep(0.02)
    run.kill()
    run.wait()
    assert not Path("out").exists()
    kept = sum(len(k.read_bytes()) // 16 for k in (cache / "embeddings").glob("*/*.keys"))
    assert 0 < kept < 3000
    assert cli(*command).json["embedding"]["computed"] == 3000 - kept
