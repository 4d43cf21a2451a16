"""A registry in an object store: the same registry without a lock. Over the store in this process's memory, and over the S3 protocol."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tell.adapter.card import CARD, CONFIG, WEIGHTS, Adapter
from tell.errors import AdapterError, MissingExtra, RegistryError, TellmtError
from tell.registry.fsspec_client import ObjectStore, shown
from tell.registry.registry import PairState, Registry
from tests.conftest import Ran
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import publish, running, until

pytest.importorskip("fsspec", reason="the extra object-store is not installed")
Make = Callable[..., Adapter]
BUCKET = "registries"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server with one bucket."""
    pytest.importorskip("s3fs", reason="the driver of S3 is not installed")
    moto = pytest.importorskip("moto.server", reason="the S3 server for tests is not installed")
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import s3fs

    for name, value in {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "someone", "SECRET_ACCESS_KEY": "secretword", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    if not fs.exists(BUCKET):
        fs.mkdir(BUCKET)
    return f"s3://{BUCKET}/{time.time_ns()}"


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("s3")) if request.param == "s3" else f"memory://{time.time_ns()}"


@pytest.fixture
def make(tmp_path: Path, isolated: Path) -> Make:
    base = light_base(isolated / "cache")
    return lambda seed=0, pair="is-en": light_adapter(tmp_path / f"a{seed}-{pair}", base, pair=pair, seed=seed)


def add(registry: Registry, adapter: Adapter) -> str:
    return registry.add(adapter.path, adapter.card)


def objects(registry: Registry) -> ObjectStore:
    return registry.store.objects  # type: ignore[attr-defined,no-any-return]


def another(url: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Registry:
    """The registry as another machine sees it: with nothing copied yet."""
    monkeypatch.setenv("TELLMT_CACHE", str(cache))
    return Registry(url)


def test_it_does_what_a_directory_does(url: str, make: Make) -> None:
    registry = Registry(url)
    assert registry.state("is-en") == PairState(pair="is-en") and registry.states() == [] and registry.ids() == [] and registry.log() == []
    with pytest.raises(FileNotFoundError):
        registry.stamps()
    a, b = make(1), make(2)
    assert add(registry, a) == a.id and add(registry, b) == b.id and registry.ids() == sorted([a.id, b.id])
    registry.promote("is-en", a.id, "first")
    stamp = registry.stamps()
    registry.promote("is-en", b.id, "second")
    assert set(registry.stamps()) == {"is-en"} and registry.stamps() != stamp
    assert registry.promote("is-en", b.id, "again").generation == 2, "what is live already is no change"
    registry.rollback("is-en", "worse in the field")
    assert registry.pin("is-en", True, "used most") == PairState(pair="is-en", live=a.id, previous=b.id, generation=4, pinned=True)
    assert registry.states() == [registry.state("IS_en")] and registry.pairs() == ["is-en"]
    add(registry, a)
    events = [(e["event"], e.get("id"), e.get("from"), e.get("why"), e.get("generation")) for e in registry.log()]
    assert events == [
        ("add", a.id, None, None, None),
        ("add", b.id, None, None, None),
        ("promote", a.id, None, "first", 1),
        ("promote", b.id, a.id, "second", 2),
        ("rollback", a.id, b.id, "worse in the field", 3),
        ("pin", a.id, None, "used most", 4),
    ]
    assert all(e["who"] and e["time"].endswith("+00:00") for e in registry.log())
    with pytest.raises(RegistryError, match="another pair"):
        registry.promote("en-is", a.id, "why")
    for id in ("../secret", "", a.id.upper(), "0" * 32):
        with pytest.raises(RegistryError, match="no such adapter"):
            registry.path(id)
    with pytest.raises(RegistryError, match="nothing to roll back to"):
        registry.rollback("fo-en", "why")


def test_another_machine_gets_verified_copies(url: str, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a = make(1)
    add(Registry(url), a)
    there = another(url, monkeypatch, tmp_path / "there")
    assert there.card(a.id) == a.card and not (there.root / "adapters").exists(), "a card is read without the weights"
    assert there.adapter(a.id).card == a.card
    assert there.path(a.id) == there.root / "adapters" / a.id and there.root.is_relative_to(tmp_path / "there" / "registry")
    assert {p.name for p in there.path(a.id).iterdir()} == {WEIGHTS, CONFIG, CARD}
    # A copy that was damaged here is taken anew.
    (there.path(a.id) / WEIGHTS).write_bytes(b"damaged")
    assert there.adapter(a.id).id == a.id
    # What is damaged there is refused, and nothing of it stays.
    objects(there).write("adapters", a.id, WEIGHTS, data=(a.path / WEIGHTS).read_bytes()[:-1] + b"\1")
    assert there.adapter(a.id).id == a.id, "it is here already"
    elsewhere = another(url, monkeypatch, tmp_path / "elsewhere")
    with pytest.raises(AdapterError, match="altered"):
        elsewhere.adapter(a.id)
    objects(there).remove("adapters", a.id, CONFIG)
    with pytest.raises(AdapterError, match="incomplete"):
        elsewhere.adapter(a.id)
    objects(there).write("adapters", a.id, CARD, data=bytes(5 << 20))
    with pytest.raises(AdapterError, match="too large"):
        elsewhere.adapter(a.id)
    assert list((elsewhere.root / "adapters").iterdir()) == []


def test_another_adapter_under_this_id_is_refused(url: str, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a, b = make(1), make(2)
    registry = Registry(url)
    add(registry, a)
    for name in (WEIGHTS, CONFIG, CARD):
        objects(registry).write("adapters", a.id, name, data=(b.path / name).read_bytes())
    with pytest.raises(RegistryError, match="does not have the hash it is named by"):
        another(url, monkeypatch, tmp_path / "there").adapter(a.id)


def test_an_adapter_whose_card_has_not_come_is_not_there(url: str, make: Make) -> None:
    registry, a = Registry(url), make(1)
    objects(registry).write("adapters", a.id, WEIGHTS, data=b"the rest is on its way")
    assert registry.ids() == []
    assert add(registry, a) == a.id and registry.ids() == [a.id]


def test_of_two_who_promote_at_once_one_is_told(url: str, make: Make) -> None:
    registry = Registry(url)
    ids = [add(registry, make(i)) for i in range(8)]
    start = threading.Barrier(8)

    def promote(id: str) -> str:
        mine = Registry(url)
        mine.writable()
        start.wait()
        try:
            mine.promote("is-en", id, f"by {id}")
        except RegistryError as e:
            assert "another version went live meanwhile; run the same command again; found live" in str(e)
            return "told"
        return "done"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(promote, ids))
    changes = [e for e in registry.log() if e["event"] == "promote"]
    # Nobody's change was lost: as many are in the log as were said to be done, each built on the one before.
    assert results.count("done") == len(changes) == registry.state("is-en").generation >= 1
    assert [e["generation"] for e in changes] == list(range(1, len(changes) + 1))
    assert all(after["from"] == before["id"] for before, after in itertools.pairwise(changes))
    assert {e["id"] for e in changes} == {id for id, r in zip(ids, results, strict=True) if r == "done"}


def test_a_generation_that_was_read_is_taken_once(url: str, make: Make) -> None:
    """The race itself, step by step: both have read generation 1 when the first of them writes."""
    registry = Registry(url)
    a, b, c = (add(registry, make(i)) for i in range(3))
    registry.promote("is-en", a, "first")
    late = Registry(url)
    read = late.store.read

    def read_then_lose(slug: str) -> PairState | None:
        found = read(slug)
        late.store.__dict__.pop("read")
        Registry(url).promote("is-en", b, "faster")
        return found

    late.store.__dict__["read"] = read_then_lose
    with pytest.raises(RegistryError, match=f"another version went live meanwhile.*found live {b}"):
        late.promote("is-en", c, "slower")
    assert registry.state("is-en") == PairState(pair="is-en", live=b, previous=a, generation=2)
    assert late.promote("is-en", c, "again").previous == b
    with pytest.raises(RegistryError, match="another version went live meanwhile"):
        late.promote("is-en", a, "judged against generation 2", generation=2)


def test_an_answer_that_was_lost_is_not_taken_for_another_writer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, a = Registry(f"memory://{time.time_ns()}"), make(1)
    add(registry, a)
    fs = objects(registry)._open()[0]
    create = type(fs).pipe_file

    def lost(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        create(self, path, value, mode=mode, **more)
        if "/pairs/" in path:
            raise TimeoutError("the connection was closed")

    monkeypatch.setattr(type(fs), "pipe_file", lost)
    assert registry.promote("is-en", a.id, "w").generation == 1 and registry.state("is-en").live == a.id

    def failed(self: Any, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> None:
        raise TimeoutError("the connection was closed")

    monkeypatch.setattr(type(fs), "pipe_file", failed)
    with pytest.raises(RegistryError, match="the object store cannot be reached; found TimeoutError"):
        registry.rollback("is-en", "w", to_none=True)
    assert registry.state("is-en").generation == 1


def test_a_store_that_takes_the_condition_and_ignores_it_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, a = Registry(f"memory://{time.time_ns()}"), make(1)
    fs = objects(registry)._open()[0]
    create = type(fs).pipe_file
    monkeypatch.setattr(type(fs), "pipe_file", lambda self, path, value, mode="overwrite": create(self, path, value))
    with pytest.raises(RegistryError, match="lets an object be created twice"):
        add(registry, a)
    assert registry.ids() == []


@pytest.mark.parametrize("url", ["http://host/x", "sftp://host/x", "zip://x.zip", "simplecache::s3://b/x", "nonsense://x"])
def test_kinds_of_store_without_exclusive_creation(url: str, make: Make) -> None:
    for call in (lambda: add(Registry(url), make(1)), Registry(url).states, Registry(url).stamps):
        with pytest.raises(RegistryError, match=r"not a kind of store for a registry.*valid: a directory, s3://, gs:// or az://"):
            call()


def test_a_driver_that_is_not_installed() -> None:
    with pytest.raises(MissingExtra, match=r"the driver of this object store is not installed.*valid: s3fs, gcsfs or adlfs"):
        Registry("gs://bucket/x").states()


def test_file_urls_are_directories(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = make(1)
    monkeypatch.setenv("TELLMT_REGISTRY", f"file://{tmp_path}/with%20space")
    registry = Registry()
    add(registry, a)
    registry.promote("is-en", a.id, "w")
    assert registry.root == tmp_path / "with space" and Registry(tmp_path / "with space").state("is-en").live == a.id


def test_no_credentials_in_messages(monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Ran]) -> None:
    assert shown("s3://someone:secretword@bucket/x/?token=secretword#secretword") == "s3://bucket/x"
    assert shown("simplecache::s3://someone:secretword@bucket/x") == "simplecache::s3://bucket/x" and shown("s3://") == "s3://"
    assert shown("s3://bucket/odd@name") == "s3://bucket/odd@name"
    for password in ("secret/word", "secret?word", "secret#word"):
        with pytest.raises(RegistryError, match="percent-encoded") as told:
            Registry(f"s3://someone:{password}@bucket/x")
        assert "word@" not in str(told.value) and "secret" not in str(told.value)
    registry = Registry("s3://someone:secretword@bucket/x")
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda *_, **__: (_ for _ in ()).throw(ValueError("bad login someone:secretword")))
    pytest.importorskip("s3fs", reason="the driver of S3 is not installed")
    with pytest.raises(RegistryError) as e:
        registry.states()
    assert "secretword" not in str(e.value) and "s3://bucket/x" in str(e.value)
    ran = cli("doctor", TELLMT_REGISTRY="s3://someone:secretword@bucket/x", AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1", ok=False)
    assert "secretword" not in ran.out + ran.err and "s3://bucket/x" in ran.out


def test_user_and_password_of_the_url_are_used(s3: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    a, registry = make(1), Registry(s3.replace("s3://", "s3://someone:secret%2Fword@"))
    add(registry, a)
    assert registry.ids() == [a.id] and objects(registry)._open()[0].secret == "secret/word"


def test_a_pair_of_two_tags_and_objects_that_are_none_of_ours(url: str, make: Make) -> None:
    registry, a = Registry(url), make(1, "pt-BR:en")
    add(registry, a)
    registry.promote("pt-BR:en", a.id, "w")
    for path in (("pairs", "is-en", "notes.txt"), ("pairs", "is-en", "1.json"), ("adapters", "readme"), ("adapters", "x", CARD), ("log", "[odd]*.json")):
        objects(registry).write(*path, data=b"{")
    objects(registry).write("log", f"{0:020}-{'a' * 16}.json", data=b"{")
    assert list(registry.stamps()) == ["pt-BR:en"] and registry.pairs() == ["pt-BR:en"] and registry.ids() == [a.id]
    assert [e["event"] for e in registry.log()] == ["unreadable", "add", "promote"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"state": 3, "entry": {}}', b'{"state": {"pair": "is-en", "generation": 7}, "entry": {}}'])
def test_a_state_that_cannot_be_read_is_an_error(data: bytes) -> None:
    registry = Registry(f"memory://{time.time_ns()}")
    objects(registry).write("pairs", "is-en", "0000000001.json", data=data)
    with pytest.raises(RegistryError, match="the state of this pair"):
        registry.state("is-en")
    with pytest.raises(RegistryError, match="the state of this pair"):
        registry.prune(0, 0)


# Prune


def old(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A month later: what happened now is long ago."""
    later = time.time() + 40 * 86400
    monkeypatch.setattr("tell.registry.registry.time", SimpleNamespace(time=lambda: later))


def test_prune(url: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(url)
    a, b, c = (add(registry, make(i)) for i in range(3))
    for id in (a, b, c):
        registry.promote("is-en", id, "w")
    assert registry.prune(0, 0) == [], "live within the hour"
    old(registry, monkeypatch)
    assert [one.id for one in registry.prune(30, 0, dry_run=True)] == [a] and a in registry.ids()
    assert [one.id for one in registry.prune(30, 0)] == [a]
    assert registry.ids() == sorted([b, c]) and not any(p.startswith(a) for p in objects(registry).listing("adapters"))
    assert not (registry.root / "adapters" / a).exists()
    assert registry.log()[-1]["event"] == "prune" and registry.rollback("is-en", "w").live == b
    with pytest.raises(RegistryError, match="no such adapter"):
        registry.promote("is-en", a, "w")


def test_what_is_promoted_while_it_is_pruned_stays_or_is_not_live(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{time.time_ns()}"
    registry = Registry(url)
    a, b = (add(registry, make(i)) for i in range(2))
    registry.promote("is-en", b, "w")
    old(registry, monkeypatch)
    kept = objects(registry).remove
    # Promoted between the choice and the removal: it is put back.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects(registry), "remove", lambda *path: (Registry(url).promote("is-en", a, "just then"), kept(*path)))
        assert registry.prune(0, 0) == []
    assert registry.ids() == sorted([a, b]) and registry.state("is-en").live == a
    # Removed between the promoter's look and the change: the change is taken back.
    registry.rollback("is-en", "w")
    registry.promote("is-en", add(registry, make(5)), "w")
    promoter, verified = Registry(url), registry.adapter(a)
    assert [one.id for one in registry.prune(0, 0)] == [a]
    before = registry.state("is-en")
    monkeypatch.setattr(promoter, "adapter", lambda id: verified)
    with pytest.raises(RegistryError, match="no such adapter"):
        promoter.promote("is-en", a, "too late")
    assert registry.state("is-en") == before.model_copy(update={"generation": before.generation + 2})
    assert registry.log()[-1]["why"] == "it was pruned while it was promoted"


# The service


def test_a_service_follows_it(url: str, make: Make, isolated: Path) -> None:
    registry, base = Registry(url), light_base(isolated / "cache")
    first = publish(registry, make(1))
    with running(base, Registry(url)) as found:
        assert found.texts("a") == [f"<{first[:8]}>a"]
        second = publish(registry, make(2))
        until(lambda: found.status()["adapter"] == second)
        registry.rollback("is-en", "w")
        until(lambda: found.status()["adapter"] == first)
        assert found.texts("a") == [f"<{first[:8]}>a"]


def test_a_store_that_is_away_for_a_while(make: Make, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{time.time_ns()}"
    registry, base = Registry(url), light_base(isolated / "cache")
    first = publish(registry, make(1))
    with running(base, Registry(url)) as found:
        fs = objects(found.follower.registry)._open()[0]

        def away(*_: Any, **__: Any) -> Any:
            raise OSError("no route to host")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fs, "find", away, raising=False)
            reason = until(lambda: found.http.get("/api/v1/adapters").json()["reason"])
            assert reason == f"{url}: the object store cannot be reached; found OSError: no route to host"
            assert found.texts("a") == [f"<{first[:8]}>a"]
        until(lambda: found.http.get("/api/v1/adapters").json()["reason"] is None)
        second = publish(registry, make(2))
        until(lambda: found.status()["adapter"] == second)
        # A bucket that is suddenly empty is a fault too.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fs, "find", lambda *_, **__: {}, raising=False)
            assert "no pairs in memory://" in until(lambda: found.http.get("/api/v1/adapters").json()["reason"])
            assert found.texts("a") == [f"<{second[:8]}>a"]


def test_a_store_that_does_not_answer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(f"memory://{time.time_ns()}")
    add(registry, make(1))
    hang = threading.Event()
    monkeypatch.setattr("tell.registry.fsspec_client.PATIENCE", 0.1)
    monkeypatch.setattr(objects(registry)._open()[0], "find", lambda *_, **__: hang.wait(), raising=False)
    try:
        with pytest.raises(RegistryError, match="the object store does not answer"):
            registry.stamps()
    finally:
        hang.set()


# The command line


def test_commands_over_s3(s3: str, make: Make, cli: Callable[..., Ran], tmp_path: Path) -> None:
    a, b = make(1), make(2)
    registry = Registry(s3)
    add(registry, a), add(registry, b)
    there = {"TELLMT_REGISTRY": s3}
    cli("registry", "promote", "is-en", a.id[:8], "--why", "first", **there)
    assert cli("--json", "registry", "promote", "is-en", b.id[:8], "--why", "second", **there).json["generation"] == 2
    listed = cli("--json", "registry", "list", TELLMT_CACHE=str(tmp_path / "empty"), **there).json
    assert listed["root"] == s3 and {r["id"]: r["aliases"] for r in listed["adapters"]} == {a.id: ["previous"], b.id: ["live"]}
    assert not (tmp_path / "empty").exists(), "a list needs no weights"
    cli("registry", "export", a.id[:8], "-o", tmp_path / "a.tar", **there)
    ran = cli("registry", "import", tmp_path / "a.tar", **there)
    assert f"{a.id} is in {s3} already" in ran.err
    assert "nothing to remove" in cli("registry", "prune", **there).err
    events = json.loads(cli("--json", "registry", "log", **there).out)["log"]
    assert [e["event"] for e in events] == ["add", "add", "promote", "promote"]
    assert os.environ["TELLMT_CACHE"]


def test_many_small_errors_are_of_one_tree(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("s3://", f"s3://no-such-bucket-{time.time_ns()}/x"):
        with pytest.raises(TellmtError):
            Registry(bad).writable()
