"""API keys: made and revoked on the command line, followed by the running service, and what each scope opens."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.auth.gate import KEY_IN_BODY
from serve.auth.keys import add_key, revoke_key
from tell.paths import keys_file
from tell.registry.registry import Registry
from tests.conftest import Ran
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Published, Running, error, publish, running, until

BODY = {"source": "is", "target": "en", "text": "a"}
# The scopes that open a route; none where no key is needed. A route that is not here wants `translate`, whatever it is.
ROUTES = {
    ("POST", "/api/v1/translate"): {"translate"},
    ("POST", "/translate"): {"translate"},
    ("GET", "/api/v1/service"): set(),
    ("GET", "/api/v1/load"): {"translate", "admin"},
    ("GET", "/api/v1/adapters"): {"translate", "admin"},
    ("POST", "/api/v1/admin/promote"): {"admin"},
    ("POST", "/api/v1/admin/rollback"): {"admin"},
    ("POST", "/api/v1/admin/pin"): {"admin"},
    ("POST", "/api/v1/admin/unpin"): {"admin"},
    ("GET", "/api/v1/admin/log"): {"admin"},
    ("GET", "/metrics"): {"metrics", "admin"},
    ("GET", "/api/v1/monitor"): {"metrics", "admin"},
    ("GET", "/health"): set(),
    ("GET", "/ready"): set(),
    ("GET", "/languages"): set(),
    ("GET", "/frontend/settings"): set(),
    # The name is the key: test_libre_clients.py.
    ("GET", "/download_file/{name}"): set(),
    ("GET", "/openapi.json"): set(),
    ("GET", "/spec"): set(),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def published(home: Path) -> Published:
    base, registry = light_base(home / "cache"), Registry(home / "registry")
    versions = {f"is-en version {seed}": publish(registry, light_adapter(home / f"a{seed}", base, "is-en", seed)) for seed in (1, 2)}
    return Published(base, registry, versions)


@pytest.fixture
def keyed(published: Published) -> Iterator[tuple[Running, dict[str, str]]]:
    """A service with a key of each scope, over the keys file of this test."""
    keys = {scope: add_key(scope, [scope])[1] for scope in ("translate", "admin", "metrics")}  # type: ignore[list-item]
    with running(published.base, published.registry) as server:
        yield server, keys


def bearer(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


# The command line


def test_a_key_is_shown_once_and_kept_as_a_hash(cli: Callable[..., Ran], isolated: Path) -> None:
    ran = cli("keys", "add", "website", "--requests-per-minute", 60, "--characters-per-day", 1000, "--expires", "2099-12-31")
    key = ran.out.strip()
    assert key.startswith("tellmt_") and len(key) == 59 and "\n" not in key
    file = keys_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in file.read_text() and key.split("_", 2)[2] not in file.read_text()
    assert key not in ran.err and "website" in ran.err
    listed = cli("keys", "list")
    assert "website" in listed.out and "active" in listed.out and key.split("_", 2)[2] not in listed.out
    record = cli("keys", "list", "--json").json["keys"][0]
    assert (record["name"], record["scopes"], record["state"], record["requests_per_minute"]) == ("website", ["translate"], "active", 60)
    assert "sha256" not in record and "key" not in record
    assert "tellmt: there is an active key of this name; found website; valid: another name" in cli("keys", "add", "website", ok=False).err
    cli("keys", "revoke", "website")
    assert cli("keys", "list", "--json").json["keys"][0]["state"] == "revoked"
    # The name is free again; what was revoked stays in the list.
    assert cli("keys", "add", "website", "--scope", "admin", "--scope", "translate", "--json").json["scopes"] == ["admin", "translate"]
    assert [k["state"] for k in cli("keys", "list", "--json").json["keys"]] == ["revoked", "active"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["add", "a", "--scope", "root"], 2, "'root' is not one of"),
        (["add", "a\nb"], 2, "the name of a key must be one line of text"),
        (["add", "x" * 101], 2, "the name of a key must be one line of text"),
        (["add", "a", "--expires", "2001-01-01"], 2, "expired already"),
        (["add", "a", "--requests-per-minute", "0"], 2, "requests-per-minute"),
        (["revoke", "nobody"], 1, "no active key has this name or id; found nobody; valid: there is no active key"),
    ],
)
def test_what_cannot_be_done_to_keys(cli: Callable[..., Ran], args: list[str], code: int, message: str) -> None:
    ran = cli("keys", *args, ok=False)
    assert (ran.code, ran.out) == (code, "") and message in ran.err
    assert not keys_file().exists()


def test_a_file_open_to_others_or_malformed_is_refused(cli: Callable[..., Ran]) -> None:
    add_key("a", ["translate"])
    file = keys_file()
    for mode, args in ((0o644, ("keys", "list")), (0o604, ("keys", "add", "b")), (0o620, ("serve", "--port", "0", "--engine", "ct2"))):
        file.chmod(mode)
        ran = cli(*args, ok=False)
        assert ran.code == 1 and f"the keys file is open to others; found mode {mode:04o}; valid: a file of mode 0600, or" in ran.err
    file.chmod(0o600)
    good = file.read_text()
    other, scope = good.replace('"version": 1', '"version": 2'), good.replace("translate", "root")
    for bad, message in (("{", "found not JSON"), ("[]", "malformed"), ("[" * 100_000, "found not JSON"), (other, "found version"), (scope, "keys.0.scopes.0")):
        file.write_text(bad)
        ran = cli("keys", "list", ok=False)
        assert ran.code == 1 and "the keys file is malformed" in ran.err and message in ran.err
        assert json.loads(good)["keys"][0]["sha256"] not in ran.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_keys_it_serves_this_machine_alone(cli: Callable[..., Ran], host: str) -> None:
    ran = cli("serve", "--port", "0", "--engine", "ct2", "--host", host, ok=False)
    message = f"tellmt: --host: without keys it serves this machine alone; found {host}; valid: 127.0.0.1, or run: tellmt keys add NAME\n"
    assert (ran.code, ran.err) == (1, message)
    key, _ = add_key("a", ["translate"])
    assert "not in the cache" in cli("serve", "--port", "0", "--engine", "ct2", "--host", host, ok=False).err
    revoke_key(key.id)
    assert cli("serve", "--port", "0", "--engine", "ct2", "--host", host, ok=False).err == message


# The service


def test_each_route_opens_to_its_scopes_alone(keyed: tuple[Running, dict[str, str]]) -> None:
    service, keys = keyed
    api = service.http.get("/openapi.json").json()["paths"]
    routes = {(m.upper(), p): {"translate"} for p, methods in api.items() for m in methods} | ROUTES
    for (method, path), scopes in routes.items():
        for key in (None, "wrong", keys["translate"][:-1] + "!", keys["translate"] + "x"):
            answer = service.http.request(method, path, headers=bearer(key) if key else {}, json={})
            if path == "/translate" and key is None:
                # The key may be in the body, so the body is read first.
                answer = service.http.request(method, path, json={**BODY, "q": "a"})
            elif path == "/detect" and key is None:
                answer = service.http.request(method, path, json={"q": "a"})
            elif path == "/suggest" and key is None:
                answer = service.http.request(method, path, json={**BODY, "q": "a", "s": "b"})
            elif path == "/translate_file" and key is None:
                answer = service.http.request(method, path, data=BODY, files={"file": ("a.txt", b"a")})
            if path.startswith("/v2/"):
                # As DeepL says it.
                assert answer.status_code == 403 and "no valid API key" in answer.json()["message"]
            elif path in KEY_IN_BODY:
                # As LibreTranslate says it.
                assert "no valid API key; valid: api_key in the body, " in error(answer, 403) and "www-authenticate" not in answer.headers
            elif scopes:
                assert "no valid API key" in error(answer, 401)
                assert answer.headers["www-authenticate"] == 'Bearer realm="tellmt"'
            else:
                assert answer.status_code == (404 if "{" in path else 200)
        for scope, key in keys.items():
            answer = service.http.request(method, path, headers=bearer(key), json={})
            if not scopes or scope in scopes:
                assert answer.status_code in ((400, 404) if "{" in path or path.endswith("/feedback") else (200, 400)), (path, scope, answer.text)
            else:
                assert answer.status_code == 403 and "this needs a key of another scope; valid: " in answer.text
    # What is not there is not told to strangers.
    assert service.http.get("/made-up").status_code == 401
    assert service.http.get("/made-up", headers=bearer(keys["translate"])).status_code == 404
    # The page and its files are for everybody.
    assert [service.http.get(p).status_code for p in ("/", "/app.js", "/style.css")] == [200] * 3


SPELLINGS = """
/api/v1/admin/log/ //api/v1/admin/log /api/v1/./admin/log /api/v1/%61dmin/log /api/v1/translate/../admin/log /API/v1/admin/log /api/v1/admin%2flog
/api%2fv1%2fadmin%2flog /health?/api/v1/admin/log /health/../api/v1/admin/log /health%2f..%2fapi/v1/admin/log /api/v1/admin/log;/health
/api/v1/admin/log%00/health /api/v1/admin/log?/health
"""


@pytest.mark.parametrize("path", SPELLINGS.split())
def test_no_spelling_of_a_path_gets_around_the_scope(keyed: tuple[Running, dict[str, str]], path: str) -> None:
    service, keys = keyed
    forwarded = {"X-Forwarded-Prefix": "/health", "X-Original-URL": "/health", "X-Rewrite-URL": "/health", "X-Forwarded-For": "127.0.0.1"}
    for headers in ({}, bearer(keys["translate"]), {**bearer(keys["translate"]), "Host": "x/health"}, forwarded):
        request = service.http.build_request("GET", "/", headers=headers)
        # As it is, unnormalised.
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = service.http.send(request)
        assert "promote" not in answer.text and '"log"' not in answer.text, path
        assert answer.status_code in (307, 400, 401, 403, 404) or path.startswith("/health?"), (path, answer.status_code)


def test_every_way_to_send_a_key(keyed: tuple[Running, dict[str, str]]) -> None:
    service, keys = keyed
    key = keys["translate"]
    for headers in (
        {"X-API-Key": key}, {"x-api-key": key}, {"Authorization": f"Bearer {key}"}, {"Authorization": f"bearer  {key}"},
        {"Authorization": f"DeepL-Auth-Key {key}"}, {"Authorization": "Basic YTpi", "X-API-Key": key},
    ):  # fmt: skip
        assert service.http.post("/api/v1/translate", json=BODY, headers=headers).status_code == 200, headers
    libre = {"source": "is", "target": "en", "q": "a", "api_key": key}
    assert service.http.post("/translate", json=libre).status_code == 200
    assert service.http.post("/translate", data=libre).status_code == 200
    assert service.http.post("/translate", files={k: (None, v) for k, v in libre.items()}).status_code == 200
    # A field without a value holds no key.
    for headers in ({"X-API-Key": "", "Authorization": f"Bearer {key}"}, {"X-API-Key": key, "Authorization": "Bearer"}):
        assert service.http.post("/api/v1/translate", json=BODY, headers=headers).status_code == 200, headers
    for headers in ({"X-API-Key": ""}, {"Authorization": "DeepL-Auth-Key"}):
        assert service.http.post("/translate", json=libre, headers=headers).status_code == 200, headers
        assert service.http.post("/api/v1/translate", json=BODY, headers=headers).status_code == 401, headers
    for value in (key, f"Basic {key}", "Bearer", f"Bearer {key} {key}", f"Bearer{key}"):
        assert service.http.post("/api/v1/translate", json=BODY, headers={"Authorization": value}).status_code == 401, value
    for headers in ({"Cookie": f"key={key}"}, {"X-API-Keys": key}, {"Proxy-Authorization": f"Bearer {key}"}):
        assert service.http.post("/api/v1/translate", json=BODY, headers=headers).status_code == 401, headers
    # Two keys: which one is meant cannot be told.
    assert service.http.post("/api/v1/translate", json=BODY, headers=[("X-API-Key", key), ("X-API-Key", keys["admin"])]).status_code == 400
    # In an address it would be in every log on the way.
    assert service.http.post(f"/api/v1/translate?api_key={key}", json=BODY).status_code == 401
    for path in ("/translate", "/translate_file", "/detect", "/suggest"):
        assert "a key in the address is not read" in error(service.http.post(f"{path}?api_key={key}", json={**libre, "api_key": ""}), 400)
        assert "a key in the address is not read" in error(service.http.post(f"{path}?api_key={key}", json=libre, headers=bearer(key)), 400)
    # A wrong key in a header is not made good by one in the body; nor is a body's key of another scope enough.
    assert service.http.post("/translate", json=libre, headers=bearer("wrong")).status_code == 403
    assert service.http.post("/translate", json={**libre, "api_key": keys["admin"]}).status_code == 403
    for bad in ("", "wrong", key[:-1], "þ" * 59, "\ud800", key + "\0"):
        assert service.http.post("/translate", content=json.dumps({**libre, "api_key": bad})).status_code == 403
    assert service.http.post("/translate", json={**libre, "api_key": [key]}).status_code == 400


def test_refusals_do_not_tell_which_keys_there_are(keyed: tuple[Running, dict[str, str]]) -> None:
    service, keys = keyed
    id = keys["translate"].split("_")[1]
    revoked = add_key("gone", ["translate"])[1]
    revoke_key("gone")
    until(lambda: service.http.get("/api/v1/adapters", headers=bearer(revoked)).status_code == 401)
    messages = set()
    for key in (None, "", "wrong", f"tellmt_{id}_{'A' * 43}", f"tellmt_{'0' * 8}_{'A' * 43}", revoked):
        answer = service.http.get("/api/v1/adapters", headers=bearer(key) if key is not None else {})
        messages.add((answer.status_code, answer.text, str(sorted(h for h in answer.headers if h != "date"))))
    assert len(messages) == 1
    assert next(iter(messages))[0] == 401


def test_the_service_follows_the_file(keyed: tuple[Running, dict[str, str]], capfd: pytest.CaptureFixture[str]) -> None:
    service, _ = keyed

    def status(key: str) -> int:
        return service.http.post("/api/v1/translate", json=BODY, headers=bearer(key)).status_code

    heard: list[str] = []

    def says_and_works(message: str) -> bool:
        assert status(late) == 200, "a key was refused because its file could not be read"
        heard.append(capfd.readouterr().err)
        return f"{message}; the keys that were read last stay in force" in "".join(heard)

    _, late = add_key("late", ["translate"])
    until(lambda: status(late) == 200)
    good = keys_file().read_bytes()
    keys_file().write_bytes(good[:100])
    until(lambda: says_and_works("found not JSON"))
    keys_file().write_bytes(good)
    keys_file().chmod(0o644)
    until(lambda: says_and_works("valid: a file of mode 0600, or 0640 or 0440 where its group is to read it: chmod 600"))
    keys_file().unlink()
    until(lambda: says_and_works("the keys file is gone"))
    assert service.http.post("/api/v1/translate", json=BODY).status_code == 401
    keys_file().write_bytes(good)
    keys_file().chmod(0o600)
    revoke_key("late")
    until(lambda: status(late) == 401)


def test_an_expired_key_is_nobodys(keyed: tuple[Running, dict[str, str]]) -> None:
    service, keys = keyed
    contents = json.loads(keys_file().read_text())
    for key in contents["keys"]:
        key["expires"] = "2020-01-01T00:00:00Z"
    keys_file().write_text(json.dumps(contents))
    os.chmod(keys_file(), 0o600)
    until(lambda: service.http.get("/api/v1/adapters", headers=bearer(keys["translate"])).status_code == 401)


def test_a_service_without_keys_translates_and_administers_nothing(published: Published) -> None:
    with running(published.base, published.registry) as service:
        assert service.translate("a").status_code == 200
        assert service.translate("a", source="is").status_code == 200
        assert service.http.post("/api/v1/translate", json=BODY, headers=bearer("junk")).status_code == 200
        assert service.http.get("/metrics").status_code == 200
        for path in ("rollback", "promote", "pin", "unpin"):
            answer = service.http.post(f"/api/v1/admin/{path}", json={"pair": "is-en", "why": "a page in a browser here"})
            assert "the service has none; valid: tellmt keys add NAME --scope admin" in error(answer, 401)
        assert service.http.get("/api/v1/admin/log").status_code == 401
        # The first key closes it, without a restart; revoking the last one does not open it again.
        _, key = add_key("first", ["translate"])
        until(lambda: service.translate("a").status_code == 401)
        assert service.http.post("/api/v1/translate", json=BODY, headers=bearer(key)).status_code == 200
        revoke_key("first")
        until(lambda: service.http.post("/api/v1/translate", json=BODY, headers=bearer(key)).status_code == 401)
        assert service.translate("a").status_code == 401


def test_translate_through_a_server_that_wants_a_key(keyed: tuple[Running, dict[str, str]], cli: Callable[..., Ran]) -> None:
    service, keys = keyed
    args = ("translate", "-", "--server", service.url, "--from", "is", "--to", "en")
    ran = cli(*args, stdin="halló\n", ok=False)
    assert ran.code == 2 and "the server wants another API key" in ran.err and "a key in TELLMT_API_KEY" in ran.err
    ran = cli(*args, stdin="halló\n", TELLMT_API_KEY=keys["translate"])
    assert ran.out.endswith(">halló\n") and keys["translate"] not in ran.err


# Administration


def admin(service: Running, key: str, path: str, **body: Any) -> httpx.Response:
    return service.http.post(f"/api/v1/admin/{path}", json=body, headers=bearer(key))


def test_promote_roll_back_pin_and_the_log(published: Published) -> None:
    base, registry, ids = published
    first, second = ids.values()
    key = add_key("ops", ["admin", "translate"])[1]
    with running(base, registry) as service:
        service.http.headers["X-API-Key"] = key
        registry.promote("is-en", first, "to begin with")
        until(lambda: service.status()["adapter"] == first)
        # As slow as it is by default: only a wake-up makes a call live at once.
        service.follower.interval = 30.0
        answer = admin(service, key, "promote", pair="is-en", adapter=second[:8], why="better")
        assert answer.status_code == 200, answer.text
        assert (answer.json()["live"], answer.json()["previous"]) == (second, first)
        until(lambda: service.texts("a") == [f"<{second[:8]}>a"])
        answer = admin(service, key, "rollback", pair="is-en", why="numbers")
        assert answer.json()["live"] == first
        until(lambda: service.texts("a") == [f"<{first[:8]}>a"])
        assert admin(service, key, "pin", pair="is-en", why="hot").json()["pinned"] is True
        assert registry.state("is-en").pinned
        assert admin(service, key, "unpin", pair="IS-EN", why="cold").json()["pinned"] is False
        log = service.http.get("/api/v1/admin/log").json()["log"]
        assert [e["event"] for e in log][-4:] == ["promote", "rollback", "pin", "unpin"]
        assert [e["why"] for e in log[-4:]] == [f"{w} (by API key ops)" for w in ("better", "numbers", "hot", "cold")]


def test_what_cannot_be_changed(published: Published, keyed: tuple[Running, dict[str, str]]) -> None:
    service, keys = keyed
    key, why = keys["admin"], "test"
    state = published.registry.state("is-en")
    for path, body, status, message in (
        ("promote", {"pair": "is-en", "adapter": "0" * 32, "why": why}, 409, "is-en: not exactly one adapter has this id"),
        ("promote", {"pair": "en-is", "adapter": published.ids["is-en version 1"], "why": why}, 409, "en-is: this adapter is for another pair"),
        ("promote", {"pair": "is-en", "adapter": "../../../etc", "why": why}, 400, "adapter: not usable"),
        ("promote", {"pair": "is-en", "adapter": "", "why": why}, 400, "adapter: not usable"),
        ("promote", {"pair": "is-en", "why": why}, 400, "adapter: missing"),
        ("promote", {"pair": "../../x", "adapter": published.ids["is-en version 1"], "why": why}, 400, "pair"),
        ("rollback", {"pair": "de-en", "why": why}, 409, "de-en: nothing to roll back to"),
        ("rollback", {"pair": "is-en"}, 400, "why: missing"),
        ("rollback", {"pair": "is-en", "why": " \n"}, 400, "why: not usable"),
        ("rollback", {"pair": "is-en", "why": "x" * 501}, 400, "why: not usable"),
        ("pin", {"pair": "is-en", "why": why, "on": True}, 400, "unknown key; found on"),
        ("unpin", [], 400, "not a JSON object"),
    ):  # fmt: skip
        answer = service.http.post(f"/api/v1/admin/{path}", json=body, headers=bearer(key))
        assert message in error(answer, status), (path, body)
        assert str(published.registry.root) not in answer.text
    assert published.registry.state("is-en") == state
