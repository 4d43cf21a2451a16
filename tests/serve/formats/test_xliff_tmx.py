"""XLIFF and TMX: states by the specification, segments that are partly there, damage of one unit."""

from __future__ import annotations

import pytest

from serve.formats.units import Replacement, Unit
from serve.formats.xml_events import BLOCK
from tell.errors import CorpusError
from tests.support.formats_fixture import RecordingVisitor, loud, same, through

XLIFF = '<xliff version="1.2"><file source-language="en" target-language="is"><body>{}</body></file></xliff>'
XLIFF2 = '<xliff version="2.0" srcLang="en" trgLang="is"><file id="f"><unit id="u">{}</unit></file></xliff>'
TMX = '<tmx version="1.4"><header srclang="en"/><body>{}</body></tmx>'
ANEW = 'state="needs-review-translation" state-qualifier="mt-suggestion"'
L10N = 'state="needs-review-l10n" state-qualifier="mt-suggestion"'

# The state of a target with a text of its own, with the text of the source, and without text: what comes out, None where it stays.
STATES: dict[str, tuple[str | None, str | None, str | None]] = {
    "": (None, None, ANEW),
    "new": (ANEW, ANEW, ANEW),
    "needs-translation": (ANEW, ANEW, ANEW),
    "needs-l10n": (L10N, L10N, L10N),
    # What is not text is left to do: the text is translated, unless it is a copy of the source.
    "needs-adaptation": (None, L10N, L10N),
    "needs-review-translation": (None, None, ANEW),
    "needs-review-l10n": (None, None, L10N),
    "needs-review-adaptation": (None, None, L10N),
    "translated": (None, None, ANEW),
    "signed-off": (None, None, ANEW),
    "final": (None, None, ANEW),
    "x-checked": (None, None, ANEW),
}


@pytest.mark.parametrize("state", STATES)
def test_states_of_xliff_1(state: str) -> None:
    written = f' state="{state}"' if state else ""
    for text, expected in zip(("já", "yes", ""), STATES[state], strict=True):
        source = XLIFF.format(f'<trans-unit id="1"><source>yes</source><target{written}>{text}</target></trans-unit>')
        output, _ = through("xliff", source)
        assert output.decode() == (source if expected is None else source.replace(f"<target{written}>{text}<", f"<target {expected}>YES<")), text


# Attributes of a segment and its target: the attributes that come out, None where it stays.
SEGMENTS = {
    ('id="s"', ""): 'id="s" state="translated" subState="tellmt:mt"',
    ('state="initial"', "<target>yes</target>"): 'state="translated" subState="tellmt:mt"',
    ('state="initial" subState="mq:draft"', "<target>yes</target>"): 'state="translated" subState="tellmt:mt"',
    ('subState="my:new" state="initial" id="s"', ""): 'subState="tellmt:mt" state="translated" id="s"',
    ('state="translated" subState="my:checked"', "<target>já</target>"): None,
    ('state="reviewed"', "<target>já</target>"): None,
    ('state="final"', "<target>yes</target>"): None,
    ('id="s"', "<target>já</target>"): None,
    ('state="reviewed" subState="x:y"', "<target/>"): 'state="translated" subState="tellmt:mt"',
}


@pytest.mark.parametrize("segment", SEGMENTS)
def test_states_of_xliff_2(segment: tuple[str, str]) -> None:
    attributes, target = segment
    source, expected = XLIFF2.format(f"<segment {attributes}><source>yes</source>{target}</segment>"), SEGMENTS[segment]
    output = through("xliff", source)[0].decode()
    assert output == (source if expected is None else XLIFF2.format(f"<segment {expected}><source>yes</source><target>YES</target></segment>"))


def test_a_substate_goes_with_the_state_that_it_was_of() -> None:
    """ "Writers updating the attribute state MUST also update or delete the attribute subState" (XLIFF 2.1)."""
    source = XLIFF2.format('<segment subState="my:new" state="initial"><source>yes</source></segment>')
    output = through("xliff", source, lambda unit: Replacement("já", "corpus"))[0].decode()
    assert output == XLIFF2.format('<segment state="translated"><source>yes</source><target>já</target></segment>')


def marked(**texts: str) -> str:
    """Segments by their mid."""
    return " ".join(f'<mrk mtype="seg" mid="{mid[1:]}">{text}</mrk>' for mid, text in texts.items())


SEG_SOURCE = f"<source>One. Two. 3</source><seg-source>{marked(_1='One.', _2='Two.', _3='3')}</seg-source>"
CODE = 'Eitt <x id="1"/>.'
ALL = marked(_1="ONE.", _2="TWO.", _3="3")
# Segments of the target that is there: the texts that are new, and the target that comes out, None where it stays.
PARTLY: dict[str, tuple[str, list[str], str | None]] = {
    "the second is empty": (f"<target>{marked(_1=CODE, _2='')}</target>", ["Two."], marked(_1=CODE, _2="TWO.", _3="3")),
    "the first is missing": (f"<target>{marked(_2='Tvö.')}</target>", ["One."], marked(_1="ONE.", _2="Tvö.", _3="3")),
    "none is there": ("<target/>", ["One.", "Two."], ALL),
    "all are there": (f"<target>{marked(_1='Eitt.', _2='Tvö.', _3='')}</target>", [], None),
    "another segmentation": (f"<target>{marked(_7='Eitt.')}</target>", [], None),
    "no segmentation": ("<target>Eitt. Tvö.</target>", [], None),
    "a new unit": ('<target state="new">' + marked(_1="One.", _2="") + "</target>", ["One.", "Two."], ALL),
}


@pytest.mark.parametrize("name", PARTLY)
def test_segments_that_are_partly_there(name: str) -> None:
    target, new, expected = PARTLY[name]
    source = XLIFF.format(f'<trans-unit id="1">{SEG_SOURCE}{target}</trans-unit>')
    output, visitor = through("xliff", source)
    assert [u.text for u in visitor.units if not u.translated] == new
    assert output.decode() == (source if expected is None else XLIFF.format(f'<trans-unit id="1">{SEG_SOURCE}<target {ANEW}>{expected}</target></trans-unit>'))
    # What has been filled is not filled again, and a segment that fails leaves the unit as it was.
    assert through("xliff", output)[0] == output
    assert through("xliff", source, lambda unit: Replacement("", "failed"))[0].decode() == source


def test_locked_units_stay() -> None:
    source = XLIFF.format('<trans-unit id="1" xmlns:mq="MQXliff" mq:locked="locked"><source>yes</source><target/></trans-unit>')
    assert through("xliff", source)[0].decode() == source


def test_elements_of_xliff_in_a_memory() -> None:
    source = TMX.format('<tu><tuv xml:lang="en"><seg>Press <g id="1">the <mrk mtype="x">red</mrk> button</g> now</seg></tuv></tu>')
    output, visitor = through("tmx", source)
    assert visitor.texts == ["Press <x1>the <x3>red</x3> button</x1> now"]
    assert b'<seg>PRESS <g id="1">THE <mrk mtype="x">RED</mrk> BUTTON</g> NOW</seg></tuv></tu>' in output


EN, IS = '<tuv xml:lang="en"><seg>yes</seg></tuv>', '<tuv xml:lang="is" creationid="tellmt"><seg>YES</seg></tuv>'
# A unit, the unit that comes out (None: as it was), and what is said of it.
VARIANTS: dict[str, tuple[str, str | None, list[str]]] = {
    "no segment in the source": ('<tuv xml:lang="en"><note>x</note></tuv>', None, ["bad unit 2: the <tuv> of en has no <seg>"]),
    "an empty source": ('<tuv xml:lang="en"/><tuv xml:lang="is"><seg>já</seg></tuv>', None, ["bad unit 2: the <tuv> of en has no <seg>"]),
    "another source has one": (f'<tuv xml:lang="en"/>{EN}', f'<tuv xml:lang="en"/>{EN}{IS}', []),
    "no segment in the target": (f'{EN}<tuv xml:lang="is"><prop type="x">y</prop></tuv>', EN + IS, []),
    "an empty target": (f'{EN}<tuv xml:lang="is"/>', EN + IS, []),
    "another language alone": ('<tuv xml:lang="fr"><seg>oui</seg></tuv>', None, []),
    "no language": ("<tuv><seg>yes</seg></tuv>", None, []),
    "a reference to no character": ('<tuv xml:lang="en"><seg>a&#x0;b</seg></tuv>', None, ["bad unit 2: a character that XML forbids: &#x0;"]),
    "a decimal one": ('<tuv xml:lang="en"><seg>a&#11;b</seg></tuv>', None, ["bad unit 2: a character that XML forbids: &#11;"]),
    "half a character": ('<tuv xml:lang="en"><seg>a&#xD83D;&#xDE00;b</seg></tuv>', None, ["bad unit 2: a character that XML forbids: &#xD83D;"]),
    "beyond Unicode": ('<tuv xml:lang="en"><seg>a&#99999999;b</seg></tuv>', None, ["bad unit 2: a character that XML forbids: &#99999999;"]),
    "a control character": ('<tuv xml:lang="en"><seg>a\x0bb</seg></tuv>', None, ["bad unit 2: a character that XML forbids: &#11;"]),
    "in an attribute": (f'<prop type="&#2;">x</prop>{EN}', None, ["bad unit 2: a character that XML forbids: &#2;"]),
    "references to characters": ('<tuv xml:lang="en"><seg>a&#10;&#xE1;&#9;b</seg></tuv>',
        '<tuv xml:lang="en"><seg>a&#10;&#xE1;&#9;b</seg></tuv><tuv xml:lang="is" creationid="tellmt"><seg>A\nÁ\tB</seg></tuv>', []),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_one_unit_does_not_stop_the_others(name: str, encoding: str) -> None:
    unit, expected, messages = VARIANTS[name]
    head = '<?xml version="1.0" encoding="UTF-16"?>' if encoding == "utf-16" else ""
    source = head + TMX.format(f"<tu>{EN}</tu><tu>{unit}</tu><tu>{EN}</tu>")
    output, visitor = through("tmx", source.encode(encoding))
    assert output.decode(encoding) == head + TMX.format(f"<tu>{EN}{IS}</tu><tu>{expected or unit}</tu><tu>{EN}{IS}</tu>")
    assert visitor.messages == messages


def test_damage_in_xliff() -> None:
    good, bad = '<trans-unit id="{}"><source>yes</source></trans-unit>', '<trans-unit id="b"><source>a&#x1F;b</source></trans-unit>'
    output, visitor = through("xliff", XLIFF.format(good.format("a") + bad + good.format("c")))
    assert visitor.messages == ["bad unit b: a character that XML forbids: &#x1F;"] and output.count(b"<target") == 2 and bad.encode() in output


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_damage_between_two_blocks(encoding: str) -> None:
    """A reference that begins in one block of the file and ends in the next, wherever it is cut."""
    bom, width = ("\ufeff", 2) if encoding != "utf-8" else ("", 1)
    for cut in range(8):
        head = bom + '<tmx version="1.4"><body><tu><tuv xml:lang="en"><seg>'
        source = head + "x" * (BLOCK // width - len(head) - cut) + '&#x0B;y</seg></tuv></tu><tu><tuv xml:lang="en"><seg>yes</seg></tuv></tu></body></tmx>'
        output, visitor = through("tmx", source.encode(encoding))
        assert visitor.messages == ["bad unit 1: a character that XML forbids: &#x0B;"] and visitor.texts == ["yes"]
        assert "<seg>YES</seg>" in output.decode(encoding)


def test_a_memory_without_the_source_language_is_refused() -> None:
    source = TMX.format('<tu><tuv xml:lang="de"><seg>ja</seg></tuv><tuv xml:lang="fr"><seg>oui</seg></tuv></tu>')
    with pytest.raises(CorpusError, match=r"no unit is in the source language; found de \(1\), fr \(1\); valid: en"):
        through("tmx", source)
    assert through("tmx", source, pair="de-is")[1].texts == ["ja"]
    assert through("tmx", TMX.format("")) and through("tmx", TMX.format("<tu/>"))


def test_the_nearest_variant_is_translated() -> None:
    source = TMX.format('<tu><tuv xml:lang="en-GB"><seg>colour</seg></tuv><tuv xml:lang="en"><seg>color</seg></tuv></tu>')
    assert through("tmx", source)[1].texts == ["color"] and through("tmx", source, pair="en-GB:is")[1].texts == ["colour"]


def test_a_visitor_without_an_answer_changes_nothing() -> None:
    for format, source in (("xliff", XLIFF.format('<trans-unit id="1"><source>a</source></trans-unit>')), ("tmx", TMX.format(f"<tu>{EN}</tu>"))):
        assert through(format, source, lambda unit: None)[0].decode() == source
        visitor = RecordingVisitor(same)
        assert visitor.visit(Unit("a", "b")) == Replacement("a") and loud(Unit("a", "b")) == Replacement("A")
