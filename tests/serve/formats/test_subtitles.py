"""Subtitles: where a cue ends, and what several people say in it."""

from __future__ import annotations

import re

import pytest

from tests.support.formats_fixture import loud, same, through

TIMES = "00:00:0{0}{1}000 --> 00:00:0{0}{1}900"


def cue(text: str, number: str = "1", second: int = 1, mark: str = ",") -> str:
    return f"{number}\n{TIMES.format(second, mark)}\n{text}\n"


# The text of a cue, and what is translated of it one by one
SPEAKERS: dict[str, tuple[str, list[str]]] = {
    "one sentence": ("It was so late\nthat we left.", ["It was so late that we left."]),
    "dashes": ("- Hi.\n- Hello.", ["- Hi.", "- Hello."]),
    "dashes without spaces": ("–Hi.\n–Hello.", ["–Hi.", "–Hello."]),
    "a dash before the second alone": ("Hi.\n- Hello.", ["Hi.", "- Hello."]),
    "a dash in a sentence": ("He came\n- at last.", ["He came - at last."]),
    "several lines of one person": ("- Hi, how\n  are you?\n- Fine.", ["- Hi, how are you?", "- Fine."]),
    "dashes on one line": ("- Hi. - Hello there!", ["- Hi.", "- Hello there!"]),
    "dashes in italics": ("<i>- Hi.</i>\n<i>- Hello.</i>", ["- Hi.", "- Hello."]),
    "italics over both": ("<i>- Hi.\n- Hello.</i>", ["- Hi.", "- Hello."]),
    "names": ("ANNA: Hi.\nDR. BERG 2: Hello\nthere.", ["ANNA: Hi.", "DR. BERG 2: Hello there."]),
    "names with small letters": ("Anna: Hi.\nJón Berg: Hello.", ["Anna: Hi.", "Jón Berg: Hello."]),
    "no name": ("There is one thing\nLeft: go home.", ["There is one thing Left: go home."]),
    "names in brackets": ("[ANNA] Hi.\n(MAN): Hello.", ["[ANNA] Hi.", "(MAN): Hello."]),
    "signs of another speaker": (">> Hi.\n>> Hello\nthere.", [">> Hi.", ">> Hello there."]),
    "what is heard": ("[door slams]\nWho is it?", ["[door slams]", "Who is it?"]),
    "what is sung": ("♪ La la ♪\n♪ lo lo\nlo ♪", ["♪ La la ♪", "♪ lo lo lo ♪"]),
    "a word with a sign": ("We all went\n#there today.", ["We all went #there today."]),
}


@pytest.mark.parametrize("name", SPEAKERS)
def test_what_several_people_say(name: str) -> None:
    text, texts = SPEAKERS[name]
    source = cue(text)
    assert through("srt", source, same)[0].decode() == source
    output, visitor = through("srt", source, loud)
    assert visitor.texts == texts and not visitor.messages
    lines = output.decode().split("\n")
    # As many lines, and what each person says at the beginning of one.
    assert len(lines) == source.count("\n") + 1
    assert output.decode().upper().split() == source.upper().split()
    bare = [re.sub("<[^<>]*>", "", line) for line in lines]
    assert all(any(line.startswith(said.split()[0].upper()) for line in bare) for said in texts if name != "dashes on one line")


def test_voices() -> None:
    source = f"WEBVTT\n\n{TIMES.format(1, '.')}\n<v Anna>Hi.\n<v Berg>Hello <i>there</i>.</v>\n\n{TIMES.format(2, '.')}\n<v Anna>One. <v.loud Berg>Two.\n"
    assert through("vtt", source, same)[0].decode() == source
    output, visitor = through("vtt", source, loud)
    assert visitor.texts == ["Hi.", "Hello <x1>there</x1>.", "One.", "Two."]
    for line in ("<v Anna>HI.", "<v Berg>HELLO <i>THERE</i>.</v>", "<v Anna>ONE. <v.loud Berg>TWO."):
        assert f"\n{line}\n" in output.decode()


# (file, its texts)
CUES: dict[str, tuple[str, list[str]]] = {
    "a blank line in a cue": (cue("one\n\ntwo") + "\n" + cue("three", "2", 2), ["one", "two", "three"]),
    "two blank lines, and spaces": (cue("one\n\n  \ntwo\nmore") + "\n\n" + cue("three", "2", 2), ["one", "two more", "three"]),
    "a blank line first": (cue("\none"), ["one"]),
    "a number in a cue": (cue("one\n42\n\n1984") + "\n" + cue("two", "2", 2), ["one 42", "two"]),
    "a number that is text, and one that is not": (cue("Agent\n7") + "\n" + cue("two", "8", 2), ["Agent 7", "two"]),
    "numbers with signs": (cue("one", "#1.") + "\n" + cue("two", "[2]", 2), ["one", "two"]),
    "a blank line after the number": (cue("one") + "\n2\n\n" + cue("two", "", 2).lstrip("\n"), ["one", "two"]),
    "no numbers": (f"{TIMES.format(1, ',')}\none\n\nmore\n\n{TIMES.format(2, ',')}\ntwo\n", ["one", "more", "two"]),
    "numbers that repeat and go back": (cue("one", "7") + "\n" + cue("two", "7", 2) + "\n" + cue("three", "1", 3), ["one", "two", "three"]),
    "no line between cues": (cue("one") + cue("two", "2", 2), ["one", "two"]),
    "a cue without text": (cue("") + "\n" + cue("two", "2", 2), ["two"]),
    "text after the last cue": (cue("one") + "\n\nmore", ["one", "more"]),
    "ends of lines": (cue("one\n\ntwo").replace("\n", "\r\n"), ["one", "two"]),
}


@pytest.mark.parametrize("name", CUES)
def test_where_a_cue_ends(name: str) -> None:
    source, texts = CUES[name]
    assert through("srt", source, same)[0].decode() == source
    output, visitor = through("srt", source, loud)
    assert (visitor.texts, output.decode().upper(), visitor.messages) == (texts, source.upper(), [])


def test_a_cue_of_webvtt_ends_at_a_blank_line() -> None:
    source = f"WEBVTT\n\nNOTE a\nb\n\nintro\n{TIMES.format(1, '.')}\none\n\nNOTE\nnot this\n\nSTYLE\n::cue {{}}\n\nsecond\n{TIMES.format(2, '.')}\ntwo\n"
    output, visitor = through("vtt", source, loud)
    assert visitor.texts == ["one", "two"]
    assert output.decode() == source.replace("\none", "\nONE").replace("\ntwo", "\nTWO")
    assert not visitor.messages


def test_text_that_stands_in_no_cue_is_named() -> None:
    source = f"WEBVTT Kind: captions\nLanguage: en\n\n{TIMES.format(1, '.')}\none\n\nlost of it\n\nNOTE a\nb\n\nid\n{TIMES.format(2, '.')}\ntwo\n"
    assert through("vtt", source, loud)[1].messages == ["warn line 7: stands in no cue, and is not translated"]
    assert through("srt", "Subtitles by nobody\n\n" + cue("one"), loud)[1].messages == ["warn line 1: stands in no cue, and is not translated"]
