"""`tellmt glossary`: from a file to the requests of a running service, and to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.auth.keys import add_key
from serve.config import Limits
from tell.registry.registry import Registry
from tellmt.cli import main
from tests.support.fake_eval_engine import light_base
from tests.support.hint_engine import HintEngine, hinted_adapter
from tests.support.serving import publish, running, until


@pytest.fixture
def run(isolated: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def go(*args: object) -> tuple[int, str, str]:
        code = main(["glossary", *map(str, args)])
        return code, *capsys.readouterr()

    return go


def test_a_glossary_for_all_callers_and_one_for_a_key(run: Callable[..., Any], isolated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {name: add_key(name, ["translate"]) for name in ("one", "other")}
    publish(Registry(), hinted_adapter(isolated / "is-en", light_base(isolated / "cache")))
    (tmp_path / "Dýr.tsv").write_text("hundurinn\tthe hound\n", encoding="utf-8")
    (tmp_path / "Dýr.csv").write_text("hundurinn,a pup\n", encoding="utf-8")
    with running(light_base(isolated / "cache"), Registry(), HintEngine, Limits(context=2048)) as service:

        def asked(name: str) -> Any:
            body = {"source": "is", "target": "en", "text": "Hundurinn", "glossary": "Dýr"}
            answer = service.http.post("/api/v1/translate", json=body, headers={"X-API-Key": keys[name][1]})
            return answer.json()["translations"][0]["text"] if answer.is_success else answer.status_code

        assert asked("one") == 404
        code, everybodys, err = run("create", tmp_path / "Dýr.tsv", "--pair", "is-en")
        assert code == 0 and "1 terms from Icelandic to English" in err
        code, own, _ = run("create", tmp_path / "Dýr.csv", "--pair", "is-en", "--key", "one")
        assert (asked("one"), asked("other")) == ("a pup", "the hound")
        code, out, _ = run("list")
        assert code == 0 and [line.split()[1:5] for line in out.split("\n") if "is-en" in line] != [] and "other" not in out
        # An id can be copied from a terminal of any width.
        monkeypatch.setenv("COLUMNS", "60")
        assert all(id.strip() in run("list")[1] for id in (everybodys, own))
        assert run("show", own.strip()[:8])[1] == "hundurinn\ta pup\n"
        assert run("delete", everybodys.strip())[0] == run("delete", own.strip())[0] == 0
        until(lambda: asked("one") == asked("other") == 404)
    assert "no glossaries" in run("list")[1]


def test_what_cannot_be_kept_or_found(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,b,de,en\n", encoding="utf-8")
    code, _, err = run("create", file, "--pair", "is-en")
    assert code == 2 and "a.csv, line 1: a term of other languages; found de-en; valid: is-en" in err
    file.write_text("a,b,is,en\n", encoding="utf-8")
    code, _, err = run("create", file, "--pair", "is-en", "--key", "nobody")
    assert code == 2 and "--key: no key has this name or id" in err
    code, _, err = run("delete", "0f3c")
    assert code == 1 and "not exactly one glossary has this id; found 0f3c (0 match)" in err
