"""Every pattern of ours takes time in proportion to the text, whatever stands in it; and every pattern is found here, since none is compiled elsewhere than
at the top of a module."""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("serve", "tell")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# Built from a base's vocabulary when it is loaded.
ELSEWHERE = {"tell/model/token_lengths.py:word_boundaries"}
USES = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
INDENTED = re.compile(rf"^[ \t].*\bre\.(?:{'|'.join(sorted(USES))})\(", re.M)
# Uses of a pattern that look at one place of a text.
AT_A_PLACE = {"match", "fullmatch"}

# What texts are made of that are hard on patterns: runs, beginnings without an end, and what divides a text in two ways.
SHAPES = [
    *" a1<([{`'\"\\-_*&:;,.=!\n~|/@%$#>",
    "a ", " a", "1.", ".a", "a,", "; ", "\n\n", "\n ", "\t\n", "<a", "<a ", "</a", "<!--", "<a b=", "<a b='", "&#1", "{a", "{a,", "{{", "%(", "${", "http://a",
    "www.", "a@", "a.a-", "[a", "[a]", "](", "![", "[`", "``a", "![a](", "[^", "\\(", "(a", "(a)", '"a', "'\"", "--", "- ", "1) ", "__a", "_a_", "**a", "~~",
    "(line ", "Plural-Forms:", '"Content-Type:', "<html", " lang=", "-->", "a: ", "||", "| -", "A1", "X 1", "、，", "ＡＢ", "À ",
]  # fmt: skip
# Characters, and how many times as many; and the seconds below which no time is too long.
SHORT, TIMES, FLOOR = 500, 4, 0.003


def patterns() -> Iterator[tuple[str, str, str, re.Pattern[str] | re.Pattern[bytes]]]:
    """(module, file, name, pattern) of every pattern at the top of a module, also of those in a dictionary."""
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if path.name == "__main__.py" or "re.compile(" not in path.read_text(encoding="utf-8"):
            continue
        for name, value in vars(importlib.import_module(module)).items():
            for pattern in value.values() if isinstance(value, dict) else (value,):
                if isinstance(pattern, re.Pattern):
                    yield module, str(path), name, pattern


def only_at_a_place(file: str, name: str) -> bool:
    """Whether the module looks for the pattern at one place alone, so that its time at all other places does not matter."""
    attributes = set(re.findall(rf"\b{re.escape(name)}\.(\w+)", Path(file).read_text(encoding="utf-8")))
    return bool(attributes) and attributes <= AT_A_PLACE | {"pattern"}


def seconds(pattern: re.Pattern[str] | re.Pattern[bytes], at_a_place: bool, text: str) -> float:
    subject: str | bytes = text if isinstance(pattern.pattern, str) else text.encode()
    before = time.thread_time()
    if at_a_place:
        pattern.match(subject)  # type: ignore[arg-type]
        pattern.fullmatch(subject)  # type: ignore[arg-type]
    else:
        for _ in pattern.finditer(subject):  # type: ignore[arg-type]
            pass
    return time.thread_time() - before


@pytest.mark.clock
def test_every_pattern_is_linear() -> None:
    slow = []
    texts_by_shape = {shape: [(shape * n)[:n] for n in (SHORT, TIMES * SHORT)] for shape in SHAPES}
    found = {id(pattern): (module, file, name, pattern) for module, file, name, pattern in patterns()}
    for module, file, name, pattern in found.values():
        at_a_place = only_at_a_place(file, name)
        for shape, texts in texts_by_shape.items():
            # Twice the time that is due, and a floor for what else the machine does; what takes the square is at four times as much.
            if (long := seconds(pattern, at_a_place, texts[1])) > FLOOR and long > 2 * TIMES * seconds(pattern, at_a_place, texts[0]):
                slow.append(f"{module}.{name} on {shape!r}: {long:.3f} s for {TIMES * SHORT} characters")
    assert len(found) > 80 and not slow, "\n".join(slow)


def calls(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.Call]]:
    """(function, call) of the calls of module `re` inside functions."""
    for node in ast.iter_child_nodes(tree):
        name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else inside
        function = node.func if isinstance(node, ast.Call) else None
        if inside and isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "re" and function.attr in USES:
            yield inside, node  # type: ignore[misc]
        yield from calls(node, "lambda" if isinstance(node, ast.Lambda) and not name else name)


def test_no_pattern_is_compiled_in_a_function() -> None:
    sources = {path: source for path in FILES if INDENTED.search(source := path.read_text(encoding="utf-8"))}
    found = {f"{path.relative_to(ROOT)}:{name}" for path, source in sources.items() for name, _ in calls(ast.parse(source))}
    assert found == ELSEWHERE, "a pattern at the top of its module is timed by the test above"


def test_texts_of_signs_are_cut_and_looked_through_in_linear_time() -> None:
    """What is not a pattern: functions that go through a whole text. Each of these took seconds, or the square of the length."""
    from tell.text.icu import icu_parts
    from tell.text.placeholders import find_placeholders, mask
    from tell.text.segments import cut, split

    def count(texts: list[str]) -> list[int]:
        return list(map(len, texts))

    before = time.thread_time()
    for text in (";" * 20_000, "http://" + ")" * 20_000, "{a,plural,x{" * 2000):
        assert "".join(cut(text, count, 100)) == text
        assert "".join(span.text for span in split(text)) == text
        find_placeholders(text), icu_parts(text), mask(text)
    assert time.thread_time() - before < 5
