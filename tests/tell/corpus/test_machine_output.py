"""What a machine has translated and nobody confirmed is left out of a corpus, by one rule for every format."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve.formats import format_of
from serve.formats.units import Options, Replacement, Unit
from tell.corpus.readers.dispatch import groups, read_group
from tell.corpus.readers.machine_output import is_machine_output, of_ids, of_values, sentence, tool_of
from tell.corpus.readers.segment import ReadOptions
from tell.languages import parse_pair
from tests.conftest import Ran
from tests.support import corpora

PAIR = parse_pair("en-is")
OUT = "urn:oasis:names:tc:xliff:document:"


def read(name: str, data: bytes | str, machine_output: bool = False) -> list[tuple[str, str | None]]:
    """(target, reason) of each segment."""
    Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())
    want = ReadOptions(PAIR, machine_output=machine_output)
    return [(s.target, s.reason) for group in groups((Path(name),)) for s in read_group(group, want, group.reading())]


def unit(target: str, attributes: str = "", after: str = "") -> str:
    space = 'xmlns:m="urn:memsource" xmlns:mq="urn:memoq" xmlns:sdl="urn:sdl" xmlns:its="urn:its"'
    body = f'<trans-unit id="1" {attributes}><source>A horse</source>{target}{after}</trans-unit>'
    return f'<xliff version="1.2" xmlns="{OUT}1.2" {space}><file original="a" source-language="en" target-language="is"><body>{body}</body></file></xliff>'


def segment(attributes: str) -> str:
    body = f"<segment {attributes}><source>A horse</source><target>Hestur</target></segment>"
    return f'<xliff version="2.0" xmlns="{OUT}2.0" srcLang="en" trgLang="is"><file id="f"><unit id="1">{body}</unit></file></xliff>'


def state(attributes: str) -> str:
    return f"<target {attributes}>Hestur</target>"


def tu(of_unit: str = "", of_target: str = "", props: str = "") -> str:
    source, target = '<tuv xml:lang="en"><seg>A horse</seg></tuv>', f'<tuv xml:lang="is" {of_target}><seg>Hestur</seg></tuv>'
    return f'<tmx version="1.4"><header srclang="en"/><body><tu {of_unit}>{props}{source}{target}</tu></body></tmx>'


def seg(number: int, text: str) -> str:
    return f'<mrk mtype="seg" mid="{number}">{text}</mrk>'


def sdl(conf: str, origin: str) -> str:
    return f'<sdl:seg-defs><sdl:seg id="1" conf="{conf}" origin="{origin}" origin-system="DeepL"/></sdl:seg-defs>'


MT, REVIEW = "machine output: mt-suggestion", "machine output: needs-review-translation"
CASES: dict[str, tuple[str, str | bytes, str | None]] = {
    "what this program writes": ("a.xlf", unit(state('state="needs-review-translation" state-qualifier="mt-suggestion"')),
        "machine output: needs-review-translation, mt-suggestion"),
    "from a corpus, not reviewed": ("a.xlf", unit(state('state="needs-review-translation" state-qualifier="exact-match"')), REVIEW),
    "a suggestion without a state": ("a.xlf", unit(state('state-qualifier="mt-suggestion"')), MT),
    "leveraged": ("a.xlf", unit(state('state="translated" state-qualifier="leveraged-mt"')), "machine output: translated, leveraged-mt"),
    "needs translation, and has one": ("a.xlf", unit(state('state="needs-translation"')), "machine output: needs-translation"),
    "new, and has one": ("a.xlf", unit(state('state="new"')), "machine output: new"),
    "confidence of a machine": ("a.xlf", unit(state('its:mtConfidence="0.8"')), "machine output: MT"),
    "translated": ("a.xlf", unit(state('state="translated"')), None),
    "no state": ("a.xlf", unit(state("")), None),
    "signed off": ("a.xlf", unit(state('state="signed-off" state-qualifier="mt-suggestion"')), None),
    "approved": ("a.xlf", unit(state('state="needs-review-translation" state-qualifier="mt-suggestion"'), 'approved="yes"'), None),
    "from a memory": ("a.xlf", unit(state('state="translated" state-qualifier="fuzzy-match"')), None),
    "Phrase, by a machine": ("a.mxliff", unit(state(""), 'm:trans-origin="mt" m:confirmed="0"'), "machine output: MT"),
    "Phrase, confirmed": ("a.mxliff", unit(state(""), 'm:trans-origin="mt" m:confirmed="1"'), None),
    "Phrase, from a memory": ("a.mxliff", unit(state(""), 'm:trans-origin="tm" m:confirmed="0"'), None),
    "memoQ, by a machine": ("a.mqxliff", unit(state(""), 'mq:status="MachineTranslated"'), "machine output: MT"),
    "memoQ, confirmed": ("a.mqxliff", unit(state(""), 'mq:status="ManuallyConfirmed"'), None),
    "Trados, by a machine": ("a.sdlxliff", unit(state(""), after=sdl("Draft", "nmt")), "machine output: DeepL, draft"),
    "Trados, approved": ("a.sdlxliff", unit(state(""), after=sdl("ApprovedTranslation", "mt")), None),
    "Trados, confirmed as it is": ("a.sdlxliff", unit(state(""), after=sdl("Translated", "mt")), None),
    "Trados, by a person": ("a.sdlxliff", unit(state(""), after=sdl("Translated", "interactive")), None),
    "in segments": ("a.sdlxliff", unit(f"<target>{seg(1, 'Hestur')}</target>", after=f"<seg-source>{seg(1, 'A horse')}</seg-source>"), None),
    "XLIFF 2, what this program writes": ("b.xlf", segment('state="translated" subState="tellmt:mt"'), "machine output: tellmt, translated"),
    "XLIFF 2, reviewed since": ("b.xlf", segment('state="reviewed" subState="tellmt:mt"'), None),
    "XLIFF 2, another tool's": ("b.xlf", segment('state="translated" subState="my:mt-suggestion"'), "machine output: translated, mt-suggestion"),
    "XLIFF 2, initial": ("b.xlf", segment('state="initial"'), "machine output: initial"),
    "XLIFF 2, translated": ("b.xlf", segment('state="translated"'), None),
    "XLIFF 2, no state": ("b.xlf", segment(""), None),
    "TMX, what this program writes": ("a.tmx", tu(of_target='creationid="tellmt"'), "machine output: tellmt"),
    "TMX of Wordfast": ("a.tmx", tu(of_unit='creationid="MT!"'), "machine output: MT"),
    "TMX, changed by a machine": ("a.tmx", tu(of_target='creationid="anna" changeid="DeepL v2"'), "machine output: DeepL"),
    "TMX, changed by a person": ("a.tmx", tu(of_target='creationid="MT!" changeid="anna"'), None),
    "TMX, confirmed by a property": ("a.tmx", tu(of_unit='creationid="MT!"', props='<prop type="x-status">Approved</prop>'), None),
    "TMX of Trados": ("a.tmx", tu(props='<prop type="x-Origin:SingleString">AdaptiveMachineTranslation</prop>'), "machine output: MT"),
    "TMX of Trados, confirmed": ("a.tmx", tu(props='<prop type="x-Origin">MT</prop><prop type="x-ConfirmationLevel">Translated</prop>'), None),
    "TMX, a third language": ("a.tmx", tu().replace("</tu>", '<tuv xml:lang="de" creationid="MT!"><seg>Pferd</seg></tuv></tu>'), None),
    "TMX, a person's": ("a.tmx", tu(of_target='creationid="ai" changeid="AI"'), None),
    "TMX, a property": ("a.tmx", tu(props='<prop type="x-Origin">MT</prop>'), "machine output: MT"),
    "TMX, usage": ("a.tmx", tu(props='<prop type="usage">machine-translation</prop>'), "machine output: MT"),
    "TMX, another property": ("a.tmx", tu(props='<prop type="x-project">MT</prop>'), None),
    "PO": ("is.po", 'msgid ""\nmsgstr "Language: is\\n"\n\n#, fuzzy\nmsgid "A horse"\nmsgstr "Hestur"\n', "fuzzy"),
    "CSV, origin": ("a.csv", "en,is,origin\nA horse,Hestur,MT\n", "machine output: MT"),
    "CSV, a yes": ("a.csv", "en,is,mt\nA horse,Hestur,yes\n", "machine output: mt"),
    "CSV, a no": ("a.csv", "en,is,mt\nA horse,Hestur,no\n", None),
    "CSV, the machine's text beside the person's": ("a.csv", "en,is,mt\nA horse,Hestur,Ein hestur\n", None),
    "CSV, status": ("a.csv", "en;is;Status\nA horse;Hestur;Needs review\n", "machine output: needs-review"),
    "CSV, approved": ("a.csv", "en,is,origin,status\nA horse,Hestur,DeepL,approved\n", None),
    "CSV, post-edited": ("a.csv", "en,is,origin\nA horse,Hestur,MTPE\n", None),
    "CSV, reviewed in a column": ("a.csv", "en,is,origin,reviewed\nA horse,Hestur,MT,yes\n", None),
    "CSV, not reviewed in a column": ("a.csv", "en,is,origin,reviewed\nA horse,Hestur,MT,no\n", "machine output: MT"),
    "CSV, reviewed by somebody": ("a.csv", "en,is,origin,Reviewed by\nA horse,Hestur,MT,Anna\n", None),
    "CSV, reviewed by nobody": ("a.csv", "en,is,origin,Reviewed by\nA horse,Hestur,MT,\n", "machine output: MT"),
    "CSV, the same text by a machine": ("a.csv", "en,is,mt\nA horse,Hestur,hestur\n", None),
    "CSV, several words": ("a.csv", "en,is,Status\nA horse,Hestur,machine-translated; needs review\n", "machine output: MT"),
    "CSV, several words, confirmed": ("a.csv", 'en,is,Status\nA horse,Hestur,"MT, reviewed"\n', None),
    "CSV, of pandas": ("a.csv", "en,is,is_machine_translated\nA horse,Hestur,1.0\n", "machine output: machine translated"),
    "CSV, an Icelander's": ("a.csv", "en,is,Uppruni\nA horse,Hestur,Vélþýðing\n", "machine output: MT"),
    "CSV, a translator of this name": ("a.csv", "en,is,translator\nA horse,Hestur,Moses\n", None),
    "CSV, a new row": ("a.csv", "en,is,status\nA horse,Hestur,new\n", None),
    "CSV, another column": ("a.csv", "en,is,company\nA horse,Hestur,Google\n", None),
    "TSV": ("a.tsv", "en\tis\tmachine\nA horse\tHestur\tGoogle Translate\n", "machine output: Google"),
    "XLSX": ("a.xlsx", corpora.xlsx([("A horse", "Hestur", "machine translated")], ("en", "is", "Translation status")), "machine output: MT"),
    "JSONL": ("a.jsonl", '{"en": "A horse", "is": "Hestur", "mt": true}\n', "machine output: mt"),
    "JSONL, engine": ("a.jsonl", '{"source": "A horse", "target": "Hestur", "engine": "opus-mt"}\n', "machine output: OPUS-MT"),
    "JSONL of a corpus": ("a.jsonl", '{"source": "A horse", "target": "Hestur", "origin": "deepl.tmx"}\n', None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_a_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    name, data, reason = CASES[case]
    assert read(name, data) == [("Hestur", reason)]
    assert read(name, data, machine_output=True) == [("Hestur", None)]
    assert reason is None or is_machine_output(reason)


def test_a_unit_of_segments_not_all_of_which_are_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = f"<seg-source>{seg(1, 'A')} {seg(2, 'horse')}</seg-source>"
    for second, reason in (("", "not translated"), (seg(2, ""), "not translated"), (seg(2, "Hestur"), None)):
        assert [r for _, r in read("a.sdlxliff", unit(f"<target>{seg(1, 'x')}{second}</target>", after=source))] == [reason]


def test_a_guess_that_is_of_another_text_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    po = 'msgid ""\nmsgstr "Language: is\\n"\n\n#, fuzzy\n#| msgid "A house"\nmsgid "A horse"\nmsgstr "Hús"\n'
    assert read("is.po", po, machine_output=True) == [("Hús", "fuzzy")]


class _Machine:
    def visit(self, unit: Unit) -> Replacement:
        return Replacement("Hestur")

    def warn(self, place: str, text: str) -> None: ...

    def unreadable(self, place: str, text: str) -> None: ...


@pytest.mark.parametrize(
    ("name", "source"),
    [("a.xlf", unit("")), ("b.xlf", segment("").replace("<target>Hestur</target>", "")),
     ("a.tmx", tu().replace('<tuv xml:lang="is" ><seg>Hestur</seg></tuv>', "")),
     ("is.po", 'msgid ""\nmsgstr "Language: is\\n"\n\nmsgid "A horse"\nmsgstr ""\n')],
)  # fmt: skip
def test_what_this_program_translates_it_does_not_take_for_a_persons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    out = io.BytesIO()
    format_of(name).convert(io.BytesIO(source.encode()), out, _Machine(), Options(pair=PAIR))
    ((target, reason),) = read(name, out.getvalue())
    assert target == "Hestur" and reason is not None and is_machine_output(reason)


@pytest.mark.parametrize(
    ("text", "tool"),
    [("DeepL", "DeepL"), ("deepl v2.1", "DeepL"), ("DeepL API Free", "DeepL"), ("Google_Translate", "Google"), ("tellmt/0.9", "tellmt"), ("OPUS-MT", "OPUS-MT"),
     ("google_mt", "Google"), ("MT (DeepL)", "DeepL"), ("Machine Translation (DeepL)", "DeepL"), ("Google Cloud Translation API v3", "Google"),
     ("DeepL Translator", "DeepL"), ("Microsoft MT", "Microsoft"), ("Helsinki-NLP/opus-mt-en-is", "OPUS-MT"), ("facebook/nllb-200-distilled-600M", "NLLB"),
     ("gpt-3.5-turbo", "GPT"), ("Claude 3.5 Sonnet", "Claude"), ("neural mt", "MT"), ("MT (post-edited)", ""), ("MT+PE", ""), ("Anna (DeepL)", ""),
     ("Microsoft", ""), ("Amazon", ""), ("Amazon Translate", "Amazon"), ("Microsoft Terminology", ""), ("mt.tsv", ""),
     ("mt@company.is", ""), ("anna", ""), ("Claude", ""), ("deepl.tmx", ""), ("mtpe", ""), ("", ""), ("Martin", ""), ("gpt-4", "GPT")],
)  # fmt: skip
def test_names_of_machines(text: str, tool: str) -> None:
    assert tool_of(text) == tool
    assert of_ids(text, "") == (f"machine output: {tool}" if tool else None)
    assert of_values([("origin", text), ("status", "approved")]) is None


def test_the_sentence_names_the_option_where_it_is_more_than_half() -> None:
    dropped = {"machine output: tellmt, translated": 40, "fuzzy": 2, "blank line": 7}
    assert sentence(dropped, 100) == "left out as machine output that nobody confirmed: 42 of 100 pairs (tellmt, translated: 40; fuzzy: 2)"
    assert sentence(dropped, 80).endswith("that is more than half: --with-machine-output takes it all the same")
    assert sentence({"blank line": 7}, 9) == ""


def test_a_corpus_counts_it_and_takes_it_when_told_to(here: Callable[..., Ran]) -> None:
    rows = corpora.pairs(40)
    machine = "".join(f"{a}\t{b}\t{'MT' if i % 4 else ''}\n" for i, (a, b) in enumerate(rows))
    Path("t.tsv").write_text("is\ten\torigin\n" + machine, encoding="utf-8")
    options: tuple[Any, ...] = ("corpus", "build", "t.tsv", "--pair", "is-en", "--off", "near-duplicate", "--dev", 0, "--test", 0, "-o", "c", "--json")
    done = here(*options)
    assert done.json["kept"] == 10 and done.json["dropped"] == {"machine output: MT": 30}
    assert "30 of 40 pairs (MT: 30); that is more than half: --with-machine-output" in done.err
    assert "nobody has confirmed" in Path("c/report.html").read_text(encoding="utf-8")
    assert here(*options, "--with-machine-output").json["kept"] == 40
    assert json.loads(Path("c/corpus.json").read_bytes())["dropped"] == {}


def test_corpora_of_every_format_that_says_it_are_built_again(tmp_path: Path) -> None:
    """A TSV where it has a column that says it; any other is as it was, and what was trained on it too."""
    from tell.corpus import build
    from tell.corpus.readers import dispatch

    assert set(dispatch.ENDINGS.values()) - {"mo"} == build._SAYING | {"tsv"}
    for head, says in (("is\ten", False), ("is\ten\tnote", False), ("is\ten\torigin", True), ("is\tmt\ten", True), ("", False)):
        (tmp_path / "t.tsv").write_text(f"{head}\na\tb\tMT\n", encoding="utf-8")
        (group,) = build.grouped(build.BuildOptions((tmp_path / "t.tsv",), parse_pair("is-en")))
        assert build._may_say(group) == says, head
