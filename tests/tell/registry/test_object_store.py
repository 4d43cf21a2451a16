"""A registry in an object store: the same registry without a lock. Over the store in this process's memory, and over the S3 protocol."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tell.adapter.card import CARD, CONFIG, LEXICON, MEMORY, WEIGHTS
from tell.errors import AdapterError, MissingExtra, RegistryError, TellmtError
from tell.registry.fsspec_client import without_secrets
from tell.registry.registry import PairState, Registry
from tests.conftest import Ran
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.hinted import with_lexicon
from tests.support.memories import with_memory
from tests.support.object_stores import Make, add, another, objects, old
from tests.support.serving import publish, running, until

pytest.importorskip("fsspec", reason="the extra object-store is not installed")


@pytest.fixture
def make(tmp_path: Path, isolated: Path) -> Make:
    base = light_base(isolated / "cache")
    return lambda seed=0, pair="is-en": light_adapter(tmp_path / f"a{seed}-{pair}", base, pair=pair, seed=seed)


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
    second_machine = another(url, monkeypatch, tmp_path / "there")
    assert second_machine.card(a.id) == a.card and not (second_machine.root / "adapters").exists(), "a card is read without the weights"
    assert second_machine.adapter(a.id).card == a.card
    assert second_machine.path(a.id) == second_machine.root / "adapters" / a.id and second_machine.root.is_relative_to(tmp_path / "there" / "registry")
    assert {p.name for p in second_machine.path(a.id).iterdir()} == {WEIGHTS, CONFIG, CARD}
    # A copy that was damaged here is taken anew.
    (second_machine.path(a.id) / WEIGHTS).write_bytes(b"damaged")
    assert second_machine.adapter(a.id).id == a.id
    # What is damaged there is refused, and nothing of it stays.
    objects(second_machine).write("adapters", a.id, WEIGHTS, data=(a.path / WEIGHTS).read_bytes()[:-1] + b"\1")
    assert second_machine.adapter(a.id).id == a.id, "it is here already"
    elsewhere = another(url, monkeypatch, tmp_path / "elsewhere")
    with pytest.raises(AdapterError, match="altered"):
        elsewhere.adapter(a.id)
    objects(second_machine).remove("adapters", a.id, CONFIG)
    with pytest.raises(AdapterError, match="incomplete"):
        elsewhere.adapter(a.id)
    objects(second_machine).write("adapters", a.id, CARD, data=bytes(5 << 20))
    with pytest.raises(AdapterError, match="too large"):
        elsewhere.adapter(a.id)
    assert list((elsewhere.root / "adapters").iterdir()) == []


def test_lexicon_and_memory_go_along(url: str, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a = with_memory(with_lexicon(make(1)))
    add(Registry(url), a)
    there = another(url, monkeypatch, tmp_path / "there")
    assert there.adapter(a.id).card == a.card and {p.name for p in there.path(a.id).iterdir()} == {WEIGHTS, CONFIG, LEXICON, MEMORY, CARD}
    objects(there).write("adapters", a.id, MEMORY, data=bytes(5 << 20))
    with pytest.raises(AdapterError, match=r"memory\.tsv: too large"):
        another(url, monkeypatch, tmp_path / "elsewhere").adapter(a.id)


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
    assert without_secrets("s3://someone:secretword@bucket/x/?token=secretword#secretword") == "s3://bucket/x"
    assert without_secrets("simplecache::s3://someone:secretword@bucket/x") == "simplecache::s3://bucket/x" and without_secrets("s3://") == "s3://"
    assert without_secrets("s3://bucket/odd@name") == "s3://bucket/odd@name"
    for password in ("secret/word", "secret?word", "secret#word"):
        with pytest.raises(RegistryError, match="percent-encoded") as refusal:
            Registry(f"s3://someone:{password}@bucket/x")
        assert "word@" not in str(refusal.value) and "secret" not in str(refusal.value)
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


def test_a_service_follows_it(url: str, make: Make, isolated: Path) -> None:
    registry, base = Registry(url), light_base(isolated / "cache")
    first = publish(registry, make(1))
    with running(base, Registry(url)) as service:
        assert service.texts("a") == [f"<{first[:8]}>a"]
        second = publish(registry, make(2))
        until(lambda: service.status()["adapter"] == second)
        registry.rollback("is-en", "w")
        until(lambda: service.status()["adapter"] == first)
        assert service.texts("a") == [f"<{first[:8]}>a"]


def test_commands_over_s3(s3: str, make: Make, cli: Callable[..., Ran], tmp_path: Path) -> None:
    a, b = make(1), make(2)
    registry = Registry(s3)
    add(registry, a), add(registry, b)
    environment = {"TELLMT_REGISTRY": s3}
    cli("registry", "promote", "is-en", a.id[:8], "--why", "first", **environment)
    assert cli("--json", "registry", "promote", "is-en", b.id[:8], "--why", "second", **environment).json["generation"] == 2
    listed = cli("--json", "registry", "list", TELLMT_CACHE=str(tmp_path / "empty"), **environment).json
    assert listed["root"] == s3 and {r["id"]: r["aliases"] for r in listed["adapters"]} == {a.id: ["previous"], b.id: ["live"]}
    assert not (tmp_path / "empty").exists(), "a list needs no weights"
    cli("registry", "export", a.id[:8], "-o", tmp_path / "a.tar", **environment)
    ran = cli("registry", "import", tmp_path / "a.tar", **environment)
    assert f"{a.id} is in {s3} already" in ran.err
    assert "nothing to remove" in cli("registry", "prune", **environment).err
    events = json.loads(cli("--json", "registry", "log", **environment).out)["log"]
    assert [e["event"] for e in events] == ["add", "add", "promote", "promote"]
    assert os.environ["TELLMT_CACHE"]


def test_many_small_errors_are_of_one_tree(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("s3://", f"s3://no-such-bucket-{time.time_ns()}/x"):
        with pytest.raises(TellmtError):
            Registry(bad).writable()
