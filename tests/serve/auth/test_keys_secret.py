"""A keys file as Kubernetes mounts a Secret: readable by its group, and changed by turning the link `..data` to another directory."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serve.auth.keys import add_key, read_keys, revoke_key
from tell.errors import TellmtError
from tell.paths import keys_file
from tell.registry.registry import Registry
from tests.conftest import Ran
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import publish, running

# Seconds until a key that was revoked in the Secret is refused.
REVOKED_WITHIN = 2.0


class Secret:
    """A volume of a Secret as the kubelet's atomic writer keeps it: files in a directory named by the time, `..data` a link to that, and a link for each
    file through `..data`. The kubelet writes a new directory, turns the link with one rename, and removes the old directory."""

    def __init__(self, mount: Path, content: bytes, mode: int = 0o440):
        self.mount, self.mode, self.turn = mount, mode, 0
        mount.mkdir()
        self.write(content)
        (mount / "keys.json").symlink_to("..data/keys.json")

    def write(self, content: bytes) -> None:
        self.turn += 1
        old = os.readlink(self.mount / "..data") if self.turn > 1 else None
        new = self.mount / f"..2026_12_01_00_00_{self.turn:02}.1234"
        new.mkdir()
        (new / "keys.json").write_bytes(content)
        (new / "keys.json").chmod(self.mode)
        (self.mount / "..data_tmp").symlink_to(new.name)
        os.rename(self.mount / "..data_tmp", self.mount / "..data")
        if old:
            (self.mount / old / "keys.json").unlink()
            (self.mount / old).rmdir()


def test_a_key_revoked_in_a_mounted_secret_is_refused_within_two_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = tmp_path / "outside.json"
    key, other = add_key("website", ["translate"], path=outside)[1], add_key("other", ["translate"], path=outside)[1]
    secret = Secret(tmp_path / "mount", outside.read_bytes())
    monkeypatch.setenv("TELLMT_KEYS", str(secret.mount / "keys.json"))
    base, registry = light_base(tmp_path / "cache"), Registry(tmp_path / "registry")
    publish(registry, light_adapter(tmp_path / "a", base))
    with running(base, registry) as service:

        def status(text: str) -> int:
            body = {"source": "is", "target": "en", "text": "a"}
            return service.http.post("/api/v1/translate", json=body, headers={"X-API-Key": text}).status_code

        assert status(key) == 200 and status("") == 401
        # Swaps one after the other: of the same key back and forth, with another one that must never be refused.
        for _ in range(3):
            with_key = outside.read_bytes()
            revoke_key("website", outside)
            secret.write(outside.read_bytes())
            swapped = time.monotonic()
            while status(key) == 200:
                assert time.monotonic() < swapped + REVOKED_WITHIN
                assert status(other) == 200
            secret.write(with_key)
            outside.write_bytes(with_key)
            swapped = time.monotonic()
            while status(key) != 200:
                assert time.monotonic() < swapped + REVOKED_WITHIN
                assert status(other) == 200


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_file_that_owner_and_group_alone_can_read_is_taken(mode: int, cli: Callable[..., Ran]) -> None:
    add_key("a", ["translate"])
    keys_file().chmod(mode)
    assert [k["name"] for k in json.loads(cli("keys", "list", "--json").out)["keys"]] == ["a"]


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o604, 0o641, 0o602, 0o660, 0o460, 0o650])
def test_a_file_that_others_can_read_or_the_group_can_change_is_refused(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    add_key("a", ["translate"], path=file)
    file.chmod(mode)
    with pytest.raises(TellmtError, match=rf"the keys file is open to others; found mode {mode:04o}; valid: a file of mode 0600, or 0640 or 0440"):
        read_keys(file)


def test_a_change_leaves_the_file_readable_by_its_group_and_by_no_other(cli: Callable[..., Ran]) -> None:
    add_key("a", ["translate"])
    keys_file().chmod(0o640)
    group = 10001 if os.geteuid() == 0 else os.getegid()
    os.chown(keys_file(), -1, group)
    cli("keys", "add", "b")
    info = keys_file().stat()
    assert (stat.S_IMODE(info.st_mode), info.st_gid) == (0o640, group)
    assert {k.name for k in read_keys(keys_file()) or []} == {"a", "b"}


def test_a_file_that_cannot_be_changed_is_named_and_nothing_is_written(cli: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # /proc is a file system that takes no new file from anybody, root included, as a mounted Secret is.
    monkeypatch.setenv("TELLMT_KEYS", "/proc/keys.json")
    for args in (("add", "a"), ("revoke", "a")):
        ran = cli("keys", *args, ok=False)
        assert (ran.code, ran.out) == (1, "") and "/proc/keys.json: the keys file cannot be changed; found " in ran.err
        assert "keys in a Secret are changed in the Secret" in ran.err
    monkeypatch.setenv("TELLMT_KEYS", str(tmp_path))
    assert "the keys file cannot be read" in cli("keys", "list", ok=False).err
