"""What an operator does with a registry besides promoting: pin, prune, and carry an adapter to another one as a file."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tell.adapter.archive import open_bundle
from tell.adapter.card import CARD, CONFIG, WEIGHTS, Adapter
from tell.errors import TellmtError
from tell.files import sha256_file
from tell.registry.registry import PairState, Registry
from tests.conftest import Ran
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import running, until

CLI = Callable[..., Ran]
Make = Callable[..., Adapter]
DAY = 86400.0


@pytest.fixture
def make(tmp_path: Path, isolated: Path) -> Make:
    base = light_base(isolated / "cache")
    return lambda seed=0, pair="is-en", rank=4: light_adapter(tmp_path / f"a{seed}-{pair}-{rank}", base, pair=pair, seed=seed, rank=rank)


def add(registry: Registry, adapter: Adapter) -> str:
    return registry.add(adapter.path, adapter.card)


# Pins


def test_pin_and_unpin(make: Make, cli: CLI) -> None:
    registry, a = Registry(), make(1)
    add(registry, a)
    assert "nothing answers for this pair" in cli("registry", "pin", "is-en", "--why", "w", ok=False).err
    registry.promote("is-en", a.id, "first")
    assert "is-en: pinned, generation 2" in cli("registry", "pin", "is_EN", "--why", "our most used").err
    assert registry.state("is-en") == PairState(pair="is-en", live=a.id, generation=2, pinned=True)
    assert "pinned already" in cli("registry", "pin", "is-en", "--why", "again").err
    (row,) = [r.split("│") for r in cli("registry", "list").out.split("\n") if a.short in r]
    assert row[3].strip() == "live, pinned"
    # A pin stays through what changes the live version.
    b = make(2)
    add(registry, b)
    assert registry.promote("is-en", b.id, "second").pinned and registry.rollback("is-en", "worse").pinned
    assert cli("--json", "registry", "unpin", "is-en", "--why", "quiet now").json["pinned"] is False
    assert [(e["event"], e["why"], e["generation"]) for e in registry.log() if "pin" in e["event"]] == [("pin", "our most used", 2), ("unpin", "quiet now", 5)]
    assert cli("registry", "pin", "is-en", ok=False).code == 2 and cli("registry", "pin", "is-en", "--why", " ", ok=False).code == 2


def test_a_state_without_a_pin_reads_where_pins_are_unknown_and_an_old_one_reads_here(make: Make) -> None:
    registry, a = Registry(), make(1)
    add(registry, a)
    registry.promote("is-en", a.id, "first")
    file = registry.root / "pairs" / "is-en.json"
    old = {"pair": "is-en", "live": a.id, "previous": None, "canary": None, "generation": 1}
    assert json.loads(file.read_text()) == old
    registry.pin("is-en", True, "w")
    assert json.loads(file.read_text()) == {**old, "generation": 2, "pinned": True}
    registry.pin("is-en", False, "w")
    assert json.loads(file.read_text()) == {**old, "generation": 3}
    file.write_text(json.dumps(old))
    assert registry.state("is-en").pinned is False


# Prune


def aged(registry: Registry, days: dict[str, float]) -> None:
    """Let the adapters have been added, and everything else have happened, so many days ago."""
    now = time.time()
    log = registry.root / "log.jsonl"
    kept = []
    for line in log.read_text().split("\n")[:-1]:
        entry = json.loads(line)
        age = days.get(entry.get("id") or "", 0.0)
        kept.append(json.dumps({**entry, "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now - age * DAY))}))
    log.write_text("".join(f"{line}\n" for line in kept))
    for id, age in days.items():
        os.utime(registry.path(id) / CARD, (now - age * DAY, now - age * DAY))


def test_prune_keeps_what_is_named_new_or_recent(make: Make, cli: CLI) -> None:
    registry = Registry()
    ids = [add(registry, make(i)) for i in range(6)]
    other = add(registry, make(0, pair="en-is"))
    for id in (ids[0], ids[1], ids[2]):
        registry.promote("is-en", id, "w")
    # What takes the place of another says how long that one was live: 2 took it of 1 forty days ago.
    aged(registry, {ids[0]: 90, ids[1]: 80, ids[2]: 40, ids[3]: 70, ids[4]: 60, ids[5]: 1, other: 100})

    def would(*options: object) -> list[str]:
        report = cli("--json", "registry", "prune", "--dry-run", *options).json
        assert report["dry_run"] and report["bytes"] == sum(a["bytes"] for a in report["adapters"])
        return [a["id"] for a in report["adapters"]]

    # 2 is live, 1 is previous.
    assert would("--keep", 0, "--keep-days", 0) == [other, ids[0], ids[3], ids[4], ids[5]]
    assert would("--keep", 0) == [other, ids[0], ids[3], ids[4]]
    assert would("--keep", 0, "--keep-days", 75) == [other, ids[0]]
    assert would("--keep", 1) == [ids[0], ids[3], ids[4]]
    # The newest three of is-en are 5, 1 and 2, which were live until and from forty days ago; 4 is older.
    assert would() == [ids[0], ids[3], ids[4]]
    assert would("--keep", 4) == [ids[0], ids[3]]
    assert registry.ids() == sorted([*ids, other]), "a dry run removes nothing"

    ran = cli("registry", "prune", "--keep", 0)
    assert "4 adapters removed, 0.0 MB" in ran.err and ids[0][:12] in ran.out and other[:12] in ran.out
    assert registry.ids() == sorted([ids[1], ids[2], ids[5]])
    assert [p.name for p in (registry.root / "adapters").glob(".*")] == []
    assert [(e["id"], e["pair"]) for e in registry.log() if e["event"] == "prune"] == [(other, "en-is"), *((ids[i], "is-en") for i in (0, 3, 4))]
    assert registry.rollback("is-en", "still possible").live == ids[1]
    assert "nothing to remove" in cli("registry", "prune", "--keep", 0).err


def test_prune_keeps_what_any_pair_names_under_any_alias(make: Make) -> None:
    registry = Registry()
    a, b, c = (add(registry, make(i)) for i in range(3))
    foreign = add(registry, make(0, pair="en-is"))
    registry.promote("is-en", a, "w")
    registry.promote("is-en", b, "w")
    (registry.root / "pairs" / "is-en.json").write_text(json.dumps({**registry.state("is-en").dump(), "canary": c}))
    (registry.root / "pairs" / "fo-en.json").write_text(json.dumps(PairState(pair="fo-en", previous=foreign, generation=1).dump()))
    aged(registry, dict.fromkeys((a, b, c, foreign), 1000.0))
    assert registry.prune(0, 0) == []


def test_prune_leaves_what_was_live_or_added_within_the_hour(make: Make) -> None:
    registry = Registry()
    a, b, c, new = (add(registry, make(i)) for i in range(4))
    aged(registry, dict.fromkeys((a, b, c, new), 1000.0))
    for id in (a, b, c):
        registry.promote("is-en", id, "just now")
    # `a` is no alias' any more, and a service may still answer requests with it.
    assert [one.id for one in registry.prune(0, 0)] == [new]
    aged(registry, {a: 59 / 1440, b: 59 / 1440})
    assert registry.prune(0, 0) == []
    aged(registry, {a: 61 / 1440, b: 61 / 1440, c: 61 / 1440})
    assert [one.id for one in registry.prune(0, 0)] == [a]


def test_prune_removes_nothing_while_a_state_cannot_be_read(make: Make, cli: CLI) -> None:
    registry, a = Registry(), make(1)
    id = add(registry, a)
    aged(registry, {id: 1000})
    (registry.root / "pairs").mkdir()
    (registry.root / "pairs" / "fo-en.json").write_text("{half")
    ran = cli("registry", "prune", "--keep", 0, ok=False)
    assert ran.code == 1 and "fo-en.json" in ran.err and registry.ids() == [id]


def test_prune_sweeps_up_after_killed_writers(make: Make) -> None:
    registry, a = Registry(), make(1)
    add(registry, a)
    for name, age in ((".x.new.1", 2 * DAY), (".import.2", 2 * DAY), (".import.3", 60)):
        (registry.root / "adapters" / name).mkdir()
        os.utime(registry.root / "adapters" / name, (time.time() - age,) * 2)
    registry.prune(30, 3)
    assert {p.name for p in (registry.root / "adapters").iterdir()} == {a.id, ".import.3"}


def test_promoting_while_somebody_prunes_never_makes_live_what_is_gone(make: Make) -> None:
    registry = Registry()
    ids = [add(registry, make(i)) for i in range(8)]
    aged(registry, dict.fromkeys(ids, 1000.0))
    failed: list[str] = []

    def promote() -> None:
        for id in ids:
            try:
                Registry().promote("is-en", id, "w")
            except TellmtError as e:
                failed.append(str(e))

    worker = threading.Thread(target=promote)
    worker.start()
    while worker.is_alive():
        registry.prune(0, 0)
        state = registry.state("is-en")
        assert all(registry.adapter(id).id == id for id in state.named())
    worker.join()
    assert all("no such adapter" in f or "incomplete" in f for f in failed), failed
    assert registry.state("is-en").named() <= set(registry.ids())


def test_a_service_goes_on_while_versions_are_pruned(make: Make, isolated: Path) -> None:
    registry = Registry()
    ids = [add(registry, make(i)) for i in range(3)]
    registry.promote("is-en", ids[0], "w")
    with running(light_base(isolated / "cache"), registry) as service:
        for id in ids[1:]:
            registry.promote("is-en", id, "w")
            until(lambda id=id: service.status()["adapter"] == id)
        aged(registry, {**dict.fromkeys(ids, 10.0)})
        assert [one.id for one in registry.prune(1, 0)] == [ids[0]]
        assert service.texts("a") == [f"<{ids[2][:8]}>a"]
        registry.rollback("is-en", "w")
        until(lambda: service.status()["adapter"] == ids[1])


# One file


def test_an_adapter_travels_as_one_file(make: Make, cli: CLI, tmp_path: Path) -> None:
    here, a = Registry(), make(1)
    add(here, a)
    for name in ("one.tar", "two.tar"):
        ran = cli("registry", "export", a.id[:6], "-o", tmp_path / name)
        assert a.id in ran.err and "is-en" in ran.err
    # The same card with other spaces is the same adapter, and makes the same file.
    (here.path(a.id) / CARD).write_text(json.dumps(a.card.model_dump(mode="json")))
    cli("registry", "export", a.id, "-o", tmp_path / "three.tar")
    assert len({sha256_file(tmp_path / f"{n}.tar") for n in ("one", "two", "three")}) == 1
    with tarfile.open(tmp_path / "one.tar") as tar:
        members = [(m.name, m.mtime, m.uid, m.gid, m.mode, m.uname) for m in tar]
    assert members == [(name, 0, 0, 0, 0o644, "") for name in (WEIGHTS, CONFIG, CARD)]

    environment = {"TELLMT_REGISTRY": str(tmp_path / "there")}
    ran = cli("registry", "import", tmp_path / "one.tar", "--id", a.id[:8], **environment)
    assert f"{a.id} added to {tmp_path / 'there'}; it is not live" in ran.err
    store = Registry(tmp_path / "there")
    assert store.adapter(a.id).card == a.card and store.state("is-en").live is None
    # The command it names is the one that makes it live.
    command = ran.err.split("Next:\n")[1].strip().replace('"..."', "checked")
    cli(*command.split()[1:], **environment)
    assert store.state("is-en").live == a.id
    again = cli("--json", "registry", "import", tmp_path / "one.tar", **environment)
    assert again.json == {"id": a.id, "pair": "is-en", "base": "light", "already": True}
    assert [e["event"] for e in store.log()] == ["add", "promote"]
    assert [p.name for p in (tmp_path / "there" / "adapters").iterdir()] == [a.id]


def test_what_other_writers_of_tar_make_of_the_three_files_is_taken_too(make: Make, tmp_path: Path) -> None:
    a = make(1)
    for format in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        with tarfile.open(tmp_path / "x.tar", "w", format=format) as tar:
            for name in (CARD, WEIGHTS, CONFIG):
                tar.add(a.path / name, name)
        with open_bundle(tmp_path / "x.tar", tmp_path) as bundle:
            assert bundle.id == a.id


def tar_of(members: Iterable[tuple[tarfile.TarInfo | str, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for what, data in members:
            info = tarfile.TarInfo(what) if isinstance(what, str) else what
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def claims(name: str, size: int) -> bytes:
    """A header alone, of a member that says it is so large."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


Parts = dict[str, bytes]
GOOD = (WEIGHTS, CONFIG, CARD)


def _signed(parts: Parts, weights: bytes) -> Parts:
    import hashlib

    card = json.loads(parts[CARD])
    card["files"][WEIGHTS] = hashlib.sha256(weights).hexdigest()
    return {**parts, WEIGHTS: weights, CARD: json.dumps(card).encode()}


BAD: list[tuple[str, Callable[[Parts], bytes], str]] = [
    ("an empty file", lambda p: b"", "not an adapter in one file"),
    ("a few bytes", lambda p: b"hello", "not an adapter in one file"),
    ("noise", lambda p: bytes(range(256)) * 40, "not an adapter in one file"),
    ("zeros", lambda p: bytes(10240), "the file is incomplete"),
    ("a gzip", lambda p: __import__("gzip").compress(tar_of(p.items())) + bytes(1024), "not an adapter in one file"),
    ("a zip", lambda p: b"PK\x03\x04" + bytes(2000), "not an adapter in one file"),
    ("cut in the weights", lambda p: tar_of(p.items())[:700], "cut short"),
    ("cut in a header", lambda p: tar_of(p.items())[:600], "cut short"),
    ("cut before its end", lambda p: tar_of(p.items()).rstrip(b"\0"), "cut short"),
    ("something after its end", lambda p: tar_of(p.items()) + b"x", "something after its end"),
    ("endless zeros", lambda p: tar_of(p.items()) + bytes(2 << 20), "after its last member"),
    ("no card", lambda p: tar_of((n, p[n]) for n in (WEIGHTS, CONFIG)), f"incomplete; found no {CARD}"),
    ("no weights", lambda p: tar_of((n, p[n]) for n in (CONFIG, CARD)), f"incomplete; found no {WEIGHTS}"),
    ("a member twice", lambda p: tar_of([*p.items(), (CARD, p[CARD])]), "stands twice"),
    ("another file", lambda p: tar_of([*p.items(), ("adapter_model.bin", b"\x80\x02.")]), "no part of an adapter; found 'adapter_model.bin'"),
    ("a name with ..", lambda p: tar_of([(f"../{WEIGHTS}", p[WEIGHTS])]), "no part of an adapter"),
    ("an absolute name", lambda p: tar_of([("/tmp/card.json", p[CARD])]), "no part of an adapter"),
    ("a name in a folder", lambda p: tar_of([("x/card.json", p[CARD])]), "no part of an adapter"),
    ("a directory", lambda p: tar_of([(link("x", "", tarfile.DIRTYPE), b"")]), "no regular file"),
    ("a symbolic link", lambda p: tar_of([(link(CARD, "/etc/passwd"), b"")]), "no regular file"),
    ("a hard link", lambda p: tar_of([(WEIGHTS, p[WEIGHTS]), (link(CONFIG, WEIGHTS, tarfile.LNKTYPE), b"")]), "no regular file"),
    ("a device", lambda p: tar_of([(link(WEIGHTS, "", tarfile.CHRTYPE), b"")]), "no regular file"),
    ("a pipe", lambda p: tar_of([(link(WEIGHTS, "", tarfile.FIFOTYPE), b"")]), "no regular file"),
    ("a sparse file", lambda p: tar_of([(link(WEIGHTS, "", tarfile.GNUTYPE_SPARSE), b"")]), "no regular file"),
    ("a long name", lambda p: tar_of([("x" * 300, b"")], tarfile.GNU_FORMAT), "no regular file"),
    ("extended headers", lambda p: tar_of([("x" * 300, b"")], tarfile.PAX_FORMAT), "no regular file"),
    ("a card that says it has a terabyte", lambda p: claims(CARD, 1 << 40) + bytes(5000), f"{CARD} is too large"),
    ("weights that say they have a terabyte", lambda p: claims(WEIGHTS, 1 << 40) + bytes(5000), f"{WEIGHTS} is too large"),
    ("a negative size", lambda p: claims(CARD, -5) + bytes(5000), "is too large"),
    ("a wrong checksum", lambda p: (lambda b: b[:100] + b"9" + b[101:])(tar_of(p.items())), "not an adapter in one file"),
    ("altered weights", lambda p: tar_of({**p, WEIGHTS: p[WEIGHTS][:-1] + b"\1"}.items()), "altered since its card was written"),
    ("a pickle for weights", lambda p: tar_of(_signed(p, b"\x80\x04\x95" + bytes(200)).items()), "not a safetensors file"),
    ("a card that is none", lambda p: tar_of({**p, CARD: b"[]"}.items()), "the card cannot be read"),
    ("a card of a strange pair", lambda p: tar_of({**p, CARD: p[CARD].replace(b'"is-en"', b'"../x"')}.items()), "pair"),
    ("bytes between members", lambda p: (lambda b: b[:512] + p[CONFIG] + b"\1" + b[513 + len(p[CONFIG]) :])(tar_of([(CONFIG, p[CONFIG])])), "bytes between"),
]


@pytest.mark.parametrize(("break_", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_file_that_is_no_adapter_leaves_nothing_behind(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], break_: Callable[[Parts], bytes], message: str
) -> None:
    from tellmt.cli import main

    a = make(1)
    file = tmp_path / "x.tar"
    file.write_bytes(break_({name: (a.path / name).read_bytes() for name in GOOD}))
    assert main(["registry", "import", str(file)]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    registry = Registry()
    assert registry.ids() == [] and list((registry.root / "adapters").iterdir()) == [] and registry.log() == []


def test_imports_that_cannot_begin(make: Make, tmp_path: Path, cli: CLI) -> None:
    for file in (tmp_path / "none.tar", tmp_path):
        ran = cli("registry", "import", file, ok=False)
        assert ran.code == 2 and str(file) in ran.err and ran.err.count("\n") == 1
    registry, a = Registry(), make(1)
    add(registry, a)
    cli("registry", "export", a.id, "-o", tmp_path / "a.tar")
    for expected in ("ffff", ""):
        ran = cli("registry", "import", tmp_path / "a.tar", "--id", expected, ok=False, TELLMT_REGISTRY=str(tmp_path / "there"))
        assert ran.code == 1 and f"the file holds another adapter; found {a.id}" in ran.err
    assert list((tmp_path / "there" / "adapters").iterdir()) == []


def test_exports_that_cannot_be_written(make: Make, tmp_path: Path, cli: CLI) -> None:
    registry, a = Registry(), make(1)
    add(registry, a)
    ran = cli("registry", "export", a.id, "-o", tmp_path / "none" / "a.tar", ok=False)
    assert ran.code == 1 and "cannot be written" in ran.err
    assert cli("registry", "export", a.id, ok=False).code == 2
    assert "not exactly one adapter" in cli("registry", "export", "ffff", "-o", tmp_path / "a.tar", ok=False).err
    (registry.path(a.id) / WEIGHTS).write_bytes(b"damaged")
    assert cli("registry", "export", a.id, "-o", tmp_path / "a.tar", ok=False).code == 1 and not (tmp_path / "a.tar").exists()


def test_a_card_cannot_command_the_terminal(make: Make, tmp_path: Path, cli: CLI) -> None:
    a = make(1)
    card = a.card.model_copy(update={"notes": ["[/red] \x1b[2J\x1b]0;owned\x07 \x9b31m"]})
    id = Registry().add(a.path, card)
    printed = cli("registry", "show", id).out
    assert "[/red]" in printed and not any(c in printed for c in "\x1b\x07\x9b")
