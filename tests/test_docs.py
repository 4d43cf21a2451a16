"""What the documents say is so: commands and options exist, links lead somewhere, counts and dependencies are those of the files."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import tomllib
from collections import Counter
from pathlib import Path

import click
import pytest

from tellmt.cli import COMMANDS, tellmt
from tests.conftest import ROOT

DOCUMENTS = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/decisions.md", "examples/README.md", "docs/recipes.md", "docs/select.md", "docs/serving.md",
    "docs/engines.md", "docs/registry.md", "docs/security.md", "docs/text.md", "docs/protocols.md", "docs/scoring.md", "docs/pairs.md", "docs/steps.md",
    "docs/monitoring.md", "docs/files.md", "docs/corpora.md", "docs/api.md", "docs/glossaries.md", "docs/lexicon.md",
    "docs/retrieval.md", "docs/deploy.md",
]  # fmt: skip


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a language, indented ones too, each dedented."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks_found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", body, flags=re.M).replace("\\\n", " ") for indent, body in blocks_found]


def shell_lines() -> list[tuple[str, str]]:
    return [(d, line) for d in DOCUMENTS for block in blocks(d, "sh") for line in block.split("\n") if line.strip()]


def check(words: list[str]) -> click.Context:
    """Parse a command line as `tellmt` does, down to the last word, without running it."""
    context = tellmt.make_context("tellmt", list(words))
    command: click.Command = tellmt
    while isinstance(command, click.Group):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, rest, parent=context)
    return context


TELLMT = [(d, line) for d, line in shell_lines() if line.startswith("tellmt ")]


@pytest.mark.parametrize(("document", "line"), TELLMT)
def test_a_command_in_a_document_is_one(document: str, line: str) -> None:
    check(shlex.split(line, comments=True)[1:])


def test_every_command_is_shown() -> None:
    documented = {shlex.split(line)[1] for d, line in TELLMT if d in ("README.md", "docs/steps.md")}
    assert documented == set(COMMANDS)


def test_the_check_finds_what_is_wrong() -> None:
    for line in ("serve --prot 1", "corpus biuld a b", "train -o x", "publish"):
        with pytest.raises(click.UsageError):
            check(shlex.split(line))


@pytest.mark.parametrize(("document", "line"), [(d, line) for d, line in shell_lines() if line.startswith("make ")])
def test_a_target_in_a_document_is_one(document: str, line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert shlex.split(line, comments=True)[1] in targets


def test_toml_in_the_documents_is_accepted() -> None:
    """One block is a recipe, the other a tellmt.toml; each is checked by those who read it."""
    from tell.languages import parse_pair
    from tell.mix.build import MixConfig
    from tell.model.anchor import AnchorConfig
    from tell.model.engine import Decoding
    from tell.recipe import TOP, validated
    from train.config import LoraOptions, TrainOptions

    (recipe,), (defaults,) = ([tomllib.loads(b) for b in blocks(d, "toml")] for d in ("docs/steps.md", "README.md"))
    assert set(recipe) <= set(TOP) and str(parse_pair(recipe["pair"])) == recipe["pair"]
    for name, model in (("anchor", AnchorConfig), ("mix", MixConfig), ("train", TrainOptions), ("lora", LoraOptions), ("decoding", Decoding)):
        validated(model, recipe.get(name, {}), name)
    for name, options in defaults.items():
        module, attribute = COMMANDS[name][0].split(":")
        assert set(options) <= {p.name for p in getattr(importlib.import_module(module), attribute).params}


def test_curl_lines_ask_what_the_routes_take() -> None:
    from serve.api import libretranslate, native

    lines = [line for d, line in shell_lines() if d == "README.md" and line.startswith("curl ")]
    bodies = {"/api/v1/translate": native.TranslateRequest, "/translate": libretranslate.LibreTranslateRequest}
    seen = []
    for words in map(shlex.split, lines):
        path = next(w for w in words if w.startswith("http")).split(":8080")[1]
        seen.append(path)
        if path in bodies:
            bodies[path].model_validate(json.loads(words[words.index("-d") + 1]))
    assert seen == ["/api/v1/translate", "/translate", "/languages"]
    assert set(seen) <= {r.path for api in (native, libretranslate) for r in api.routes.routes}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / document).parent.joinpath(target).exists(), target


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dependencies = {re.match(r"[A-Za-z0-9._-]+", r)[0] for rs in (project["dependencies"], *project["optional-dependencies"].values()) for r in rs}  # type: ignore[index]
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    decided = re.findall(r"^- ([a-z0-9.-]+): ", text, re.M)
    assert Counter(decided) == Counter(dependencies - {"tellmt"})


def test_the_extras_in_the_readme_are_those_of_pyproject() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    table = (ROOT / "README.md").read_text().partition("\n| extra |")[2].partition("\n\n")[0]
    listed = {name for row in table.split("\n") for name in re.findall(r"`([a-z-]+)`", row.split("|")[1] if "|" in row[1:] else "")}
    assert listed == extras - {"dev"}


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[1:] if line]


def test_the_examples_are_as_many_as_is_said() -> None:
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    documents = pairs = 0
    for path in sorted((ROOT / "examples" / "en-is").glob("*.tsv")):
        table_rows = rows(path)
        assert all(len(r) == 3 and all(c.strip() for c in r) for r in table_rows)
        n = len({r[0] for r in table_rows})
        assert re.search(rf"^\| en-is/{path.name} \| [^|]+ \| {n} \| {len(table_rows)} \|$", text, re.M), (path.name, n, len(table_rows))
        documents, pairs = documents + n, pairs + len(table_rows)
    assert f"| en-is, together | English and Icelandic | {documents} | {pairs} |" in text
    general = [json.loads(line) for line in (ROOT / "examples" / "general.jsonl").read_text(encoding="utf-8").split("\n") if line]
    tasks = Counter(g["task"] for g in general)
    assert set(tasks.values()) == {21} and len(tasks) == 20
    assert f"| {len(general)} |" in text


def test_the_licences_are_there() -> None:
    licence, notice = (ROOT / "LICENSE").read_text(), (ROOT / "NOTICE").read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
    from tell.model.base import PACKAGED

    for base in PACKAGED.values():
        assert base.id in notice
    assert PACKAGED["gemma-3-270m"].notice in notice
