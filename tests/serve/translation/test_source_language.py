"""Languages found in texts, and `source: auto`: each text by the pair of its own language, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tell.registry.registry import Registry
from tell.text.language_id import detect, label, ranked
from tests.conftest import SHARED
from tests.support.fake_eval_engine import light_adapter, light_base
from tests.support.serving import Running, error, publish, running

IS = "Ríkisstjórnin hefur samþykkt að veita styrki til fyrirtækja."
FO = "Landsstýrið hevur samtykt at lata fyritøkum stuðul, tí tað er neyðugt."
EN = "The government has agreed to give grants to companies."
DE = "Die Regierung hat beschlossen, den Unternehmen Zuschüsse zu gewähren."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (IS, "is"), (FO, "fo"), (EN, "en"), (DE, "de"),
        ("Eg eiti Jón og búgvi í Føroyum.", "fo"), ("Hvar er sundlaugin?", "is"), ("Ég heiti Jón og bý í Færeyjum.", "is"),
        ("Правительство согласилось предоставить гранты.", "ru"), ("今日は晴れ。明日は雨。", "ja"), (f"{IS} {{name}} https://english.example/the/page", "is"),
        ("🙂🎉", "und"), ("{name} %s", "und"), ("12,5 %", "und"), ("", "und"),
    ],
)  # fmt: skip
def test_detect(text: str, language: str) -> None:
    detected = detect(text)
    assert detected.language == language
    assert (detected.confidence > 0.5) == (language != "und") and 0 <= detected.confidence <= 1


def test_detect_among_some() -> None:
    assert detect(IS, ["fo", "en"]).language == "fo"
    detected = detect(IS, ["is", "en", "pt-BR"])
    assert detected.language == "is" and detected.confidence > 0.99
    assert detect("O governo concordou em conceder subsídios às empresas.", ["is", "pt-BR"]).language == "pt-BR"
    # A language that the model does not know is detected only where there is no other.
    assert detect(IS, ["chr"]) == detect("", ["chr"]) and detect(IS, ["chr"]).confidence == 0
    assert detect(IS, []).language == detect("", ["is"]).language.replace("is", "und") == "und"


def test_every_language_has_its_share() -> None:
    languages = ranked(IS)
    assert languages[0].language == "is" and len(languages) > 100 and sum(d.confidence for d in languages) <= 1.001
    assert ranked("12") == []
    assert [label(t) for t in ("pt-BR", "nb", "zh-Hant", "chr", "fil")] == ["pt", "no", "zh", None, "tl"]


def test_news_is_told_apart() -> None:
    path = SHARED / "en-is" / "newstest2021"
    if not path.is_dir():
        pytest.skip("no newstest2021 under shared/data")
    for language, name in (("is", "is-en.src.is"), ("en", "en-is.src.en")):
        lines = (path / f"newstest2021.{name}").read_text(encoding="utf-8").rstrip("\n").split("\n")
        assert sum(detect(line, ["is", "fo", "en"]).language == language for line in lines) >= 0.995 * len(lines)


# Over HTTP


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    root: Path = tmp_path_factory.mktemp("auto")
    base, registry = light_base(root / "cache"), Registry(root / "registry")
    ids = {pair: publish(registry, light_adapter(root / pair, base, pair)) for pair in ("is-en", "fo-en", "en-is", "chr-fo")}
    with running(base, registry) as service:
        yield service, ids


def translate(service: Running, text: Any, target: str = "en") -> dict[str, Any]:
    answer = service.translate(text, source="auto", target=target)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_each_text_goes_by_its_own_language(served: Any) -> None:
    service, ids = served
    answer = translate(service, [IS, FO, EN, IS, "🙂"])
    assert (answer["pair"], answer["adapter"]) == ("is-en", ids["is-en"])
    assert [t.get("pair") for t in answer["translations"]] == ["is-en", "fo-en", None, "is-en", "fo-en"]
    assert [t["detected"]["language"] for t in answer["translations"]] == ["is", "fo", "en", "is", "und"]
    mark = {pair: f"<{id[:8]}>" for pair, id in ids.items()}
    assert [t["text"] for t in answer["translations"]] == [mark["is-en"] + IS, mark["fo-en"] + FO, EN, mark["is-en"] + IS, "🙂"]
    # What is in the target language already stays, without a flag; and a request for one pair says nothing of languages.
    assert answer["translations"][2]["flags"] == []
    assert set(service.translate(IS).json()["translations"][0]) == {"text", "truncated", "flags"}


def test_a_stream_goes_by_each_texts_language_in_order(served: Any) -> None:
    service, ids = served
    texts = [EN, IS, FO, FO, EN, "🙂"]
    lines = service.http.post("/api/v1/translate/stream", json={"source": "auto", "target": "en", "text": texts}).text
    events = [json.loads(line) for line in lines.split("\n") if line]
    assert [(e["index"], e.get("pair")) for e in events[:-1]] == [(0, None), (1, "is-en"), (2, "fo-en"), (3, "fo-en"), (4, None), (5, "fo-en")]
    assert [e["detected"]["language"] for e in events[:-1]] == ["en", "is", "fo", "fo", "en", "und"]
    assert events[-1]["done"] and events[0]["text"] == EN and events[2]["text"] == f"<{ids['fo-en'][:8]}>{FO}"
    only = service.http.post("/api/v1/translate/stream", json={"source": "auto", "target": "en", "text": EN})
    assert only.headers["x-tellmt-pair"] == "fo-en" and [json.loads(x).get("text") for x in only.text.split("\n") if x] == [EN, None]


def test_mixed_languages_in_one_text_go_by_most_of_it(served: Any) -> None:
    service, ids = served
    text = f"{IS}\n{EN}\n{IS}"
    answer = translate(service, text)
    assert answer["pair"] == "is-en"
    out = answer["translations"][0]
    assert out["text"].count(f"<{ids['is-en'][:8]}>") == 3 and out["detected"]["language"] == "is"


def test_the_only_source_is_taken_for_what_is_too_short_to_tell(served: Any) -> None:
    service, _ = served
    assert translate(service, "Halló", target="is")["pair"] == "en-is"
    # A source that the model does not know is what is no other.
    assert translate(service, "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", target="fo")["translations"][0]["pair"] == "chr-fo"
    assert translate(service, FO, target="fo")["translations"][0]["text"] == FO


def test_one_text_that_no_adapter_translates_does_not_refuse_the_others(served: Any) -> None:
    service, ids = served
    texts = [DE, IS, EN, "Oui."]
    translations = translate(service, texts)["translations"]
    assert [t["text"] for t in translations][:3] == [DE, f"<{ids['is-en'][:8]}>{IS}", EN]
    # What the fake engine answers has flags of its own.
    assert translations[0]["flags"] == ["untranslated"] and translations[2]["flags"] == [] and "untranslated" not in translations[1]["flags"]
    assert translations[0]["detected"]["language"] == "de" and "pair" not in translations[0]
    lines = service.http.post("/api/v1/translate/stream", json={"source": "auto", "target": "en", "text": texts}).text
    parts = [json.loads(line) for line in lines.split("\n") if line][:-1]
    assert [(p["index"], p["text"], p["flags"]) for p in parts[:2]] == [(0, DE, ["untranslated"]), (1, translations[1]["text"], translations[1]["flags"])]
    libre = service.http.post("/translate", json={"q": texts[:2], "source": "auto", "target": "en"}).json()
    assert libre["translatedText"] == [DE, translations[1]["text"]] and [d["language"] for d in libre["detectedLanguage"]] == ["de", "is"]


@pytest.mark.parametrize("path", ["/api/v1/translate", "/api/v1/translate/stream"])
@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        (DE, "en", "source: no adapter translates this text's language; found de; valid: fo-en, is-en"),
        ([DE, DE], "en", "text 0: no adapter translates this text's language; found de"),
        (IS, "de", "no adapter translates into this language; found de"),
        (IS, "xx", "target: unknown language code"),
    ],
)
def test_what_cannot_be_told_is_refused(served: Any, path: str, text: Any, target: str, message: str) -> None:
    answer = served[0].http.post(path, json={"source": "auto", "target": target, "text": text})
    assert message in error(answer, 400) and "Regierung" not in answer.text
