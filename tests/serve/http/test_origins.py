"""Names in Host, web pages of other origins, CORS, paths with a slash at their end, proxies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.auth.gate import Keys
from serve.auth.keys import add_key
from serve.config import WebConfig
from tests.support.serving import Published, Running, error, running

pytest_plugins = ["tests.support.serving_fixtures"]

BODY = {"source": "is", "target": "en", "text": "Halló."}


@pytest.fixture(scope="module")
def open_to_some(published: Published) -> Iterator[Running]:
    """A service without keys that answers to mt.example.org too, and to the pages of one origin."""
    web = WebConfig(("mt.example.org", "*.inside.example"), ("https://app.example.org",), ("127.0.0.1",), "")
    with running(published.base, published.registry, web=web) as service:
        yield service


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "localhost.", "tellmt.localhost", "127.0.0.1:1", "127.8.9.1", "[::1]", "[::1]:8080"])
def test_names_of_this_machine_are_answered(service: Running, host: str) -> None:
    assert service.http.post("/api/v1/translate", json=BODY, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.7", "10.0.0.1:8080", "0.0.0.0", "[::2]", ""]
)
@pytest.mark.parametrize("path", ["/metrics", "/", "/languages", "/openapi.json"])
def test_another_name_is_refused_by_a_service_without_keys(service: Running, host: str, path: str) -> None:
    answer = service.http.get(path, headers={"Host": host})
    assert "--allow-host" in error(answer, 421)
    if host:
        assert host not in answer.text


def test_probes_may_send_any_host(service: Running) -> None:
    for path in ("/health", "/ready"):
        assert service.http.get(path, headers={"Host": "10.1.2.3:8080"}).status_code == 200


def test_names_that_are_allowed(open_to_some: Running) -> None:
    for host, status in {
        "mt.example.org": 200,
        "MT.example.org.:443": 200,
        "a.inside.example": 200,
        "inside.example": 421,
        "localhost": 200,
        "other.org": 421,
    }.items():
        assert open_to_some.http.get("/languages", headers={"Host": host}).status_code == status, host


def test_with_keys_any_name_is_answered_unless_names_are_given(published: Published, tmp_path: Path) -> None:
    _, key = add_key("a", ["translate"], path=tmp_path / "keys.json")
    for hosts, status in (((), 200), (("mt.example.org",), 421)):
        with running(published.base, published.registry, keys=Keys(tmp_path / "keys.json"), web=WebConfig(hosts)) as service:
            headers = {"Host": "other.example", "X-API-Key": key}
            assert service.http.post("/api/v1/translate", json=BODY, headers=headers).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"}, {"Origin": "https://app.example.org.evil.example"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    ],
)  # fmt: skip
def test_pages_of_other_origins_cannot_have_work_done(service: Running, open_to_some: Running, headers: dict[str, str]) -> None:
    for target in (service, open_to_some):
        for path in ("/api/v1/translate", "/translate", "/api/v1/feedback"):
            answer = target.http.post(path, content=b"{}", headers={"Content-Type": "text/plain", **headers})
            assert "--allow-origin" in error(answer, 403)
            assert "access-control-allow-origin" not in answer.headers
        assert target.http.get("/languages", headers=headers).status_code == 200


def test_own_page_and_other_clients_can(service: Running) -> None:
    own = service.http.base_url.netloc.decode()
    for headers in (
        {}, {"Origin": f"http://{own}"}, {"Origin": f"https://{own}"}, {"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"},
        # A proxy has put its own name for the service into Host.
        {"Origin": "https://mt.example.org", "Sec-Fetch-Site": "same-origin"},
    ):  # fmt: skip
        assert service.http.post("/api/v1/translate", json=BODY, headers=headers).status_code == 200, headers


def test_an_origin_that_is_allowed_can_use_every_api(open_to_some: Running) -> None:
    origin = {"Origin": "https://app.example.org"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,tellmt-pair,x-api-key"}
    preflight = open_to_some.http.options("/translate", headers={**origin, **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin["Origin"]
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert {"x-api-key", "tellmt-pair"} <= set(preflight.headers["access-control-allow-headers"].replace(" ", "").split(","))
    for path, body in (
        ("/translate", {"q": "Halló.", "source": "is", "target": "en"}),
        ("/api/v1/translate", BODY),
        ("/v2/translate", {"text": ["Halló."], "target_lang": "EN"}),
    ):
        answer = open_to_some.http.post(path, json=body, headers={**origin, "Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200, path
        assert answer.headers["access-control-allow-origin"] == origin["Origin"] and "Retry-After" in answer.headers["access-control-expose-headers"]
    # The page can read why it was refused.
    assert "access-control-allow-origin" in open_to_some.http.post("/translate", json={}, headers=origin).headers
    # It can name the adapter that it corrects; and it may ask for a service on the user's own machine, as Chromium's preflights do.
    assert "X-Tellmt-Adapter" in open_to_some.http.post("/translate", json={}, headers=origin).headers["access-control-expose-headers"]
    private = open_to_some.http.options("/translate", headers={**origin, **asked, "Access-Control-Request-Private-Network": "true"})
    assert private.status_code == 200 and private.headers["access-control-allow-private-network"] == "true"
    other = open_to_some.http.options("/translate", headers={"Origin": "https://evil.example", **asked})
    assert "access-control-allow-origin" not in other.headers


def test_without_origins_there_is_no_cors(service: Running) -> None:
    headers = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    answer = service.http.options("/translate", headers=headers)
    assert answer.status_code == 405 and not [name for name in answer.headers if name.startswith("access-control")]


def test_any_origin(published: Published) -> None:
    with running(published.base, published.registry, web=WebConfig(origins=("*",))) as service:
        answer = service.http.post(
            "/translate", json={"q": "Halló.", "source": "is", "target": "en"}, headers={"Origin": "null", "Sec-Fetch-Site": "cross-site"}
        )
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "*"


def test_a_slash_at_the_end_of_a_path_changes_nothing(service: Running) -> None:
    assert service.http.post("/api/v1/translate/", json=BODY).status_code == 200
    assert service.http.get("/health/").status_code == 200
    for path in ("/health//", "/languages//"):
        assert service.http.get(path, follow_redirects=False).status_code == 404


def test_a_key_is_asked_for_where_the_path_has_a_slash(published: Published, tmp_path: Path) -> None:
    add_key("a", ["translate"], path=tmp_path / "keys.json")
    with running(published.base, published.registry, keys=Keys(tmp_path / "keys.json")) as service:
        assert service.http.post("/api/v1/translate/", json=BODY).status_code == 401
        assert service.http.get("/metrics/").status_code == 401


def link(service: Running, headers: dict[str, str]) -> httpx.URL:
    answer = service.http.post("/translate_file", files={"file": ("a.txt", "Halló.")}, data={"source": "is", "target": "en"}, headers=headers)
    assert answer.status_code == 200, answer.text
    return httpx.URL(answer.json()["translatedFileUrl"])


def test_links_believe_trusted_proxies_alone(service: Running, open_to_some: Running) -> None:
    headers = {"Host": "localhost:99", "X-Forwarded-Proto": "https"}
    assert str(link(service, headers)).startswith("http://localhost:99/download_file/")
    assert str(link(open_to_some, headers)).startswith("https://localhost:99/download_file/")


def test_links_begin_with_the_public_address(published: Published) -> None:
    with running(published.base, published.registry, web=WebConfig(public_url="https://mt.example.org/a")) as service:
        found = link(service, {})
        assert str(found).startswith("https://mt.example.org/a/download_file/")
        assert service.http.get(found.path.removeprefix("/a")).text.endswith("Halló.")
