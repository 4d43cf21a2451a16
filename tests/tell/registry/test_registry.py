"""The registry: nothing half-written is ever seen, no change is lost, and everything is in the log."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tell.adapter.card import CARD, CONFIG, WEIGHTS, Adapter, open_adapter, read_card, write_card
from tell.errors import AdapterError, RegistryError, TellmtError
from tell.files import sha256_file
from tell.registry.registry import PairState, Registry
from tests.conftest import ROOT, Ran
from tests.support.fake_eval_engine import light_adapter, light_base, safetensors

CLI = Callable[..., Ran]


@pytest.fixture
def make(tmp_path: Path, isolated: Path) -> Callable[..., Adapter]:
    base = light_base(isolated / "cache")
    return lambda seed=0, pair="is-en", rank=4: light_adapter(tmp_path / f"a{seed}-{pair}-{rank}", base, pair=pair, seed=seed, rank=rank)


def add(registry: Registry, adapter: Adapter) -> str:
    return registry.add(adapter.path, adapter.card)


def test_add_promote_rollback(make: Callable[..., Adapter]) -> None:
    registry = Registry()
    assert registry.state("is-en") == PairState(pair="is-en") and registry.states() == [] and registry.ids() == [] and registry.log() == []
    a, b = make(1), make(2)
    assert add(registry, a) == a.id and add(registry, b) == b.id and registry.ids() == sorted([a.id, b.id])
    assert registry.state("is-en").live is None, "adding makes nothing live"
    registry.promote("is-en", a.id, "first")
    registry.promote("is-en", b.id, "second")
    assert registry.state("is-en") == PairState(pair="is-en", live=b.id, previous=a.id, generation=2)
    registry.rollback("is-en", "worse in the field")
    assert registry.state("is-en") == PairState(pair="is-en", live=a.id, previous=b.id, generation=3)
    events = [(e["event"], e.get("id"), e.get("from"), e.get("why"), e.get("generation")) for e in registry.log()]
    assert events == [
        ("add", a.id, None, None, None),
        ("add", b.id, None, None, None),
        ("promote", a.id, None, "first", 1),
        ("promote", b.id, a.id, "second", 2),
        ("rollback", a.id, b.id, "worse in the field", 3),
    ]
    assert all(e["who"] and e["time"].endswith("+00:00") for e in registry.log())


def test_what_changes_nothing_is_not_a_change(make: Callable[..., Adapter]) -> None:
    registry, a = Registry(), make(1)
    add(registry, a)
    registry.promote("is-en", a.id, "first")
    state, log = registry.state("is-en"), registry.log()
    inode = (registry.path(a.id) / WEIGHTS).stat().st_ino
    add(registry, a)
    assert registry.promote("is-en", a.id, "again") == state
    assert (registry.state("is-en"), registry.log(), (registry.path(a.id) / WEIGHTS).stat().st_ino) == (state, log, inode)


def test_the_copy_does_not_follow_its_source(make: Callable[..., Adapter]) -> None:
    registry, a = Registry(), make(1)
    add(registry, a)
    (a.path / WEIGHTS).write_bytes(b"changed afterwards")
    shutil.rmtree(a.path)
    assert registry.adapter(a.id).id == a.id
    assert {p.name for p in registry.path(a.id).iterdir()} == {WEIGHTS, CONFIG, CARD}


def test_only_whole_adapters_come_in(make: Callable[..., Adapter], tmp_path: Path) -> None:
    registry = Registry()

    def half(path: Path) -> None:
        (path / CARD).unlink()

    def altered(path: Path) -> None:
        data = bytearray((path / WEIGHTS).read_bytes())
        data[-1] ^= 1
        (path / WEIGHTS).write_bytes(bytes(data))

    def link(path: Path) -> None:
        (path / WEIGHTS).rename(tmp_path / "kept")
        (path / WEIGHTS).symlink_to(tmp_path / "kept")

    def cut(path: Path) -> None:
        (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-5])

    def wrong_rank(path: Path) -> None:
        (path / WEIGHTS).write_bytes(safetensors({"x.lora_A.weight": [2, 8], "x.lora_B.weight": [8, 2]}))
        card = read_card(path)
        write_card(path, card.model_copy(update={"files": card.files | {WEIGHTS: sha256_file(path / WEIGHTS)}}))

    for seed, break_ in enumerate([half, altered, link, cut, wrong_rank]):
        a = make(seed)
        break_(a.path)
        with pytest.raises(AdapterError):
            registry.add(a.path, a.card)
    # a card that does not go with the weights it is added with
    a, other = make(10), make(11)
    with pytest.raises(AdapterError, match="altered"):
        registry.add(a.path, other.card)
    assert registry.ids() == [] and registry.log() == []
    assert [p for p in (registry.root / "adapters").glob(".*")] == [], "nothing is left lying about"


def test_damage_in_the_registry_is_seen_before_it_goes_live(make: Callable[..., Adapter]) -> None:
    registry, a, b = Registry(), make(1), make(2)
    add(registry, a), add(registry, b)
    registry.promote("is-en", a.id, "first")
    registry.promote("is-en", b.id, "second")
    # whole in itself, but not the content it is named by
    swapped = registry.path(a.id)
    shutil.rmtree(swapped)
    shutil.copytree(make(3).path, swapped)
    with pytest.raises(RegistryError, match="does not have the hash it is named by"):
        registry.promote("is-en", a.id, "why")
    with pytest.raises(RegistryError, match="does not have the hash it is named by"):
        registry.rollback("is-en", "why")
    (swapped / CARD).unlink()
    with pytest.raises(AdapterError, match="incomplete"):
        registry.rollback("is-en", "why")
    assert registry.state("is-en").live == b.id and registry.state("is-en").generation == 2


def test_ids_and_pairs_from_outside_never_become_paths(make: Callable[..., Adapter]) -> None:
    registry, a = Registry(), make(1)
    add(registry, a)
    (registry.root / "secret").mkdir()
    for id in ("../secret", "..", ".", "", "/etc", a.id.upper(), a.id + "/", a.id[:-1], "0" * 32, "\x00" * 32):
        with pytest.raises(RegistryError, match="no such adapter"):
            registry.path(id)
    for pair in ("../x", "is-en/../../x", "..-..", "", "is", "\x00-en"):
        with pytest.raises(TellmtError):
            registry.state(pair)
        with pytest.raises(TellmtError):
            registry.promote(pair, a.id, "why")
    with pytest.raises(RegistryError, match="another pair"):
        registry.promote("en-is", a.id, "why")
    assert registry.state("IS_en") == PairState(pair="is-en"), "codes are standardised before they are looked up"


def test_promote_for_a_generation_that_has_passed(make: Callable[..., Adapter]) -> None:
    registry, a, b = Registry(), make(1), make(2)
    add(registry, a), add(registry, b)
    registry.promote("is-en", a.id, "first", generation=0)
    with pytest.raises(RegistryError, match="another version went live meanwhile"):
        registry.promote("is-en", b.id, "late", generation=0)
    assert registry.promote("is-en", b.id, "in time", generation=1).generation == 2


def _flip(root: str, ids: list[str], times: int, name: str) -> None:
    registry = Registry(Path(root))
    for i in range(times):
        registry.promote("is-en", ids[i % len(ids)], f"{name} {i}")


def test_two_processes_promoting_at_once_lose_nothing(make: Callable[..., Adapter]) -> None:
    registry = Registry()
    ids = [add(registry, make(i)) for i in range(4)]
    start = len(registry.log())
    context = multiprocessing.get_context("spawn")
    # Each alternates between two adapters of its own, so every promotion changes what is live.
    workers = [context.Process(target=_flip, args=(str(registry.root), ids[k : k + 2], 25, name)) for k, name in ((0, "left"), (2, "right"))]
    for w in workers:
        w.start()

    seen, states = 0, []
    while any(w.is_alive() for w in workers):
        state = registry.state("is-en")  # no lock: must always parse and be whole
        (only,) = registry.states() or [state]
        assert only.pair == "is-en"
        if state.live:
            assert state.live in ids and (state.previous is None or state.previous in ids) and state.live != state.previous
        states.append(state.generation)
        for entry in registry.log():
            assert entry["event"] != "unreadable"
        seen += 1
    for w in workers:
        w.join()
        assert w.exitcode == 0
    assert seen > 10 and states == sorted(states), "a reader never goes back"

    log = registry.log()[start:]
    assert [e["generation"] for e in log] == list(range(1, 51))
    for before, after in itertools.pairwise(log):
        assert after["from"] == before["id"], "every change builds on the one before"
    assert sorted(e["why"] for e in log) == sorted(f"{n} {i}" for n in ("left", "right") for i in range(25))
    assert registry.state("is-en") == PairState(pair="is-en", live=log[-1]["id"], previous=log[-1]["from"], generation=50)


_WRITER = """
import sys
from pathlib import Path
from tell.adapter.card import open_adapter
from tell.registry.registry import Registry
sources = [open_adapter(Path(p)) for p in sys.argv[1:]]
registry = Registry()
print("ready", flush=True)
n = 0
while True:
    a = sources[n % len(sources)]
    n += 1
    card = a.card.model_copy(update={"seed": n})
    registry.promote("is-en", registry.add(a.path, card), f"round {n}")
"""


def test_killed_writers_leave_whole_states(make: Callable[..., Adapter]) -> None:
    registry = Registry()
    sources = [str(make(i).path) for i in range(2)]
    for wait in (0.05, 0.13, 0.29):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, *sources], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(os.environ))
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        state = registry.state("is-en")
        for id in registry.ids():
            assert registry.adapter(id).id == id, "what is listed is whole"
        if state.live:
            assert state.live in registry.ids()
    # and the next writer goes on: the lock died with its holder
    a = make(9)
    new = registry.promote("is-en", add(registry, a), "after the crash")
    assert registry.state("is-en") == new and registry.log()[-1]["why"] == "after the crash"


def test_a_log_line_cut_short_is_reported_and_not_joined_to_the_next(make: Callable[..., Adapter], cli: CLI) -> None:
    registry, a, b = Registry(), make(1), make(2)
    add(registry, a), add(registry, b)
    registry.promote("is-en", a.id, "first")
    with (registry.root / "log.jsonl").open("a") as f:
        f.write('{"event": "prom')
    assert [e["event"] for e in registry.log()] == ["add", "add", "promote"], "a line being written is not there yet"
    registry.promote("is-en", b.id, "second")
    assert [e["event"] for e in registry.log()] == ["add", "add", "promote", "unreadable", "promote"]
    printed = cli("registry", "log").out
    assert "unreadable" in printed and "line 4" in printed and "second" in printed


def test_threads_of_one_process_do_not_trip_over_each_other(make: Callable[..., Adapter]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    registry = Registry()
    ids = [add(registry, make(i)) for i in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: registry.promote("is-en", ids[i % 2], str(i)), range(40)))
    changes = [e for e in registry.log() if e["event"] == "promote"]
    assert [e["generation"] for e in changes] == list(range(1, registry.state("is-en").generation + 1))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pair": "is-en"', '{"pair": "is-en", "generation": "x"}', '{"pair": "is-en", "lives": "x"}'])
def test_a_damaged_state_is_named(cli: CLI, text: str) -> None:
    registry = Registry()
    (registry.root / "pairs").mkdir(parents=True)
    file = registry.root / "pairs" / "is-en.json"
    file.write_text(text)
    with pytest.raises(RegistryError, match=r"is-en\.json.*cannot be read"):
        registry.state("is-en")
    ran = cli("registry", "list", ok=False)
    assert ran.code == 1 and str(file) in ran.err


def test_registry_commands(make: Callable[..., Adapter], cli: CLI) -> None:
    assert "no adapters in" in cli("registry", "list").out and "no changes yet" in cli("registry", "log").out
    registry, a, b, c = Registry(), make(1), make(2), make(3, pair="en-is")
    for x in (a, b, c):
        add(registry, x)
    assert cli("--json", "registry", "promote", "is-en", a.id[:8], "--why", "first").json["live"] == a.id
    ran = cli("registry", "promote", "is-en", b.id, "--why", "second")
    assert f"is-en: {b.short} is live, generation 2" in ran.err and ran.out == ""
    assert "is already live" in cli("registry", "promote", "is-en", b.id, "--why", "second").err

    listed = cli("--json", "registry", "list").json
    assert [(r["pair"], r["id"], r["aliases"], r["problem"]) for r in listed["adapters"]] == [
        ("en-is", c.id, [], None),
        ("is-en", b.id, ["live"], None),
        ("is-en", a.id, ["previous"], None),
    ]
    human = cli("registry", "list").out
    assert all(x in human for x in (a.short, b.short, c.short, "live", "previous", "light"))

    show = cli("registry", "show", b.id[:6])
    assert b.id in show.out and "Translate this text from Icelandic into English." in show.out
    assert cli("registry", "show", b.id[:6], "--json").json["card"]["files"] == b.card.files
    assert "is live again, generation 3" in cli("registry", "rollback", "is-en", "--why", "worse").err
    log = cli("--json", "registry", "log", "--pair", "is-en").json["log"]
    assert [e["event"] for e in log] == ["add", "add", "promote", "promote", "rollback"] and log[-1]["why"] == "worse"
    assert "is not live any more, generation 4" in cli("registry", "withdraw", "is-en", "--why", "a bad idea").err and Registry().state("is-en").live is None
    assert "none is live" in cli("registry", "withdraw", "is-en", "--why", "again").err and Registry().state("is-en").generation == 4
    assert "is live again, generation 5" in cli("registry", "rollback", "is-en", "--why", "a good one").err
    assert "worse" in cli("registry", "log").out

    # one damaged adapter does not hide the others
    (registry.path(c.id) / CARD).unlink()
    listed = cli("--json", "registry", "list").json
    assert {r["id"]: r["problem"] is not None for r in listed["adapters"]} == {a.id: False, b.id: False, c.id: True}
    ran = cli("registry", "show", c.id, ok=False)
    assert ran.code == 1 and "incomplete" in ran.err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["promote", "is-en", "abc"], 2, "--why"),
        (["promote", "is-en", "abc", "--why", " "], 2, "--why"),
        (["promote", "is-en", "abc", "--why", "w"], 1, "not exactly one adapter"),
        (["promote", "is-xx-yy", "abc", "--why", "w"], 2, "is-xx-yy"),
        (["promote", "zz9-en", "abc", "--why", "w"], 2, "zz9"),
        (["rollback", "is-en", "--why", " "], 2, "--why"),
        (["rollback", "is-en", "--why", "w"], 1, "nothing to roll back to"),
        (["show", "abc"], 1, "(0 match)"),
        (["log", "--pair", "icelandic"], 2, "icelandic"),
        (["lst"], 2, "did you mean this?"),
    ],
)
def test_registry_commands_given_nonsense(cli: CLI, args: list[str], code: int, message: str) -> None:
    ran = cli("registry", *args, ok=False)
    assert ran.code == code and message in ran.err and ran.out == ""


def test_a_registry_that_cannot_be_written_names_the_variable(make: Callable[..., Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TELLMT_REGISTRY", str(tmp_path / "file" / "registry"))
    a = make(1)
    with pytest.raises(TellmtError, match=r"registry cannot be written.*TELLMT_REGISTRY"):
        add(Registry(), a)
    assert open_adapter(a.path).id == a.id


def test_states_are_plain_files_others_can_read(make: Callable[..., Adapter]) -> None:
    registry, a = Registry(), make(1)
    add(registry, a)
    registry.promote("is-en", a.id, "first")
    state = registry.root / "pairs" / "is-en.json"
    assert json.loads(state.read_text()) == {"pair": "is-en", "live": a.id, "previous": None, "canary": None, "generation": 1}
    assert [oct(p.stat().st_mode & 0o777) for p in (state, registry.path(a.id), registry.path(a.id) / CARD)] == ["0o644", "0o755", "0o644"]
