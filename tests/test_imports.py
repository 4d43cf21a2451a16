"""The arrows between packages and between the folders in them: each uses only lower floors, no module leads back to itself, and `tell` needs no extra.

Read from the source, nothing is run. What a string names (the command table, `python -m MODULE`) is an arrow too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

# package -> the packages of ours it may import
MAY = {
    "tell": {"tell"},
    "train": {"tell", "train"},
    "eval": {"tell", "eval"},
    "serve": {"tell", "eval", "serve"},
    "tellmt": {"tell", "train", "eval", "serve", "tellmt"},
}
# From the ground up: a folder, or a module beside the folders, uses only floors below its own. "." stands for all modules beside the folders together.
FLOORS = {
    "tell": [".", "text", "lexicon", "retrieval", "model", "adapter client corpus.readers", "corpus registry", "alignment", "mix select"],
    "train": ["."],
    "eval": [".", "scoring", "compare gate monitor study"],
    "serve": [
        "config corrections threads",
        "logs",
        "engines formats metrics",
        "engines.ct2 engines.openai adapters http",
        "auth scheduling",
        "translation",
        "documents files glossary monitor",
        "api",
        "app",
        "server",
        "cli",
    ],
    "tellmt": ["doctor pair", "cli", "__main__"],
}
OURS = set(MAY)
# Distributions that only extras bring; `tell` may use them inside a function, after tell.extras.need.
EXTRAS = {"torch", "transformers", "peft", "safetensors", "gguf", "numpy", "sklearn", "threadpoolctl"}
EXTRAS |= {"fastapi", "starlette", "uvicorn", "prometheus_client", "ctranslate2", "vllm", "fsspec"}
FILES = sorted(p for package in OURS for p in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(p): p for p in FILES}


def imports(tree: ast.AST, everywhere: bool) -> Iterator[tuple[int, str]]:
    """(line, module) of the imports in `tree`; with `everywhere` false, only of those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{a.name}") for a in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not everywhere:
            continue
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports(node, everywhere)


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of the strings that are a module of ours, by themselves or with `:attribute`, as the command table has them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (module := node.value.partition(":")[0]) in MODULES and "." in module:
            yield node.lineno, module


def arrows(source: str) -> list[tuple[int, str]]:
    tree = ast.parse(source)
    return [*imports(tree, everywhere=True), *named(tree)]


def backward(package: str, source: str) -> list[str]:
    forbidden = OURS - MAY[package]
    return [f"line {n}: {package} imports {m}" for n, m in arrows(source) if m.startswith(".") or m.split(".")[0] in forbidden]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_arrow_runs_back(path: Path) -> None:
    assert backward(path.relative_to(ROOT).parts[0], path.read_text(encoding="utf-8")) == []


def room_of(module: str) -> tuple[str, str]:
    """(package, room): the folder that a module lies in, or its own name where it lies beside the folders."""
    package, _, rest = module.partition(".")
    path = MODULES[module]
    folder = ".".join(path.relative_to(ROOT).parent.parts[1:])
    return package, folder or rest


def floor_of(package: str, room: str) -> int | None:
    rooms = [set(floor.split()) for floor in FLOORS[package]]
    beside = not (ROOT / package / room.replace(".", "/")).is_dir()
    return next((n for n, floor in enumerate(rooms) if room in floor or (beside and "." in floor)), None)


def target(name: str) -> str | None:
    """The module of ours that an import of `name` loads: the name itself, or what it is an attribute of."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def upward(module: str, source: str) -> list[str]:
    """The arrows of `module` that lead to its own floor or one above it, within its package."""
    package, room = room_of(module)
    violations = []
    for line, name in arrows(source):
        other = target(name)
        if other is None or other == package or room_of(other)[0] != package or room_of(other)[1] == room:
            continue
        from_floor, to_floor = floor_of(package, room), floor_of(*room_of(other))
        both_beside = "." in FLOORS[package][from_floor or 0].split() and from_floor == to_floor
        if from_floor is None or to_floor is None or (to_floor >= from_floor and not both_beside):
            violations.append(f"line {line}: {room} (floor {from_floor}) uses {other} (floor {to_floor})")
    return violations


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_arrow_runs_up(module: str) -> None:
    assert module in MAY or floor_of(*room_of(module)) is not None, f"{module} is on no floor: give its folder one in FLOORS"
    assert upward(module, MODULES[module].read_text(encoding="utf-8")) == []


@cache
def graph() -> Mapping[str, set[str]]:
    imported_by: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported_by[module] = {t for _, name in imports(tree, everywhere=True) if (t := target(name)) and t != module}
    return imported_by


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Chains of modules that lead back to where they began, one for each module that is in one: by way of depth-first search."""
    out: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            out.append(path[path.index(module) :])
        elif module not in done:
            for other in sorted(graph.get(module, ())):
                walk(other, [*path, module])
            done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return out


def test_no_module_leads_back_to_itself() -> None:
    assert circles(graph()) == []


def loaded_with(module: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """(file:line, module) of everything imported when `module` of `tell` is, its own modules followed."""
    path = ROOT / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if module in seen or not path.exists():
        return
    seen.add(module)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, name in imports(tree, everywhere=False):
        yield f"{path.relative_to(ROOT)}:{line}", name
        if name.split(".")[0] == "tell":
            # `from tell.files import key_of` loads tell.files; `from tell import files` loads it too.
            yield from loaded_with(name, seen)
            yield from loaded_with(name.rpartition(".")[0], seen)


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.split(".")[0] == "tell"))
def test_tell_is_importable_without_any_extra(module: str) -> None:
    assert [(place, m) for place, m in loaded_with(module, set()) if m.split(".")[0] in EXTRAS] == []


@pytest.mark.parametrize(
    ("package", "source", "lines"),
    [
        ("tell", "import json\nfrom tell.files import key_of", 0),
        ("tell", "def f():\n    from train.fetch_base import fetch_base", 1),
        ("train", "import eval.scoring.scores, tell.adapter.card", 1),
        ("eval", "if True:\n    import serve", 1),
        ("eval", "from train import run", 1),
        ("eval", 'COMMANDS = {"serve": ("serve.cli:serve", "Serve.")}', 1),
        ("tellmt", 'COMMANDS = {"serve": ("serve.cli:serve", "Serve.")}', 0),
        ("eval", '"""Scores, as serve.cli shows them."""', 0),
        ("serve", "import tell, eval.scoring.scores, serve.app", 0),
        ("serve", "class A:\n    def f(self):\n        import train.model", 1),
        ("serve", "from . import app", 1),
    ],
)
def test_the_rule_of_packages_itself(package: str, source: str, lines: int) -> None:
    assert len(backward(package, source)) == lines


@pytest.mark.parametrize(
    ("module", "source", "lines"),
    [
        ("serve.translation.service", "from serve.scheduling.queue import Queue\nfrom serve.translation.retry import Retry", 0),
        ("serve.scheduling.queue", "def f():\n    from serve.translation.service import Service", 1),
        ("serve.http.middleware", "from serve.adapters import versions", 1),
        ("serve.config", "import serve.app", 1),
        ("serve.engines.vllm", "from serve.engines.ct2.engine import Ct2Engine", 1),
        ("serve.engines.ct2.engine", "from serve.engines import checkpoint", 0),
        ("tell.files", "from tell.errors import TellmtError", 0),
        ("tell.files", "from tell.text.normalise import letters", 1),
        ("tell.corpus.readers.tmx", "import tell.corpus.build", 1),
        ("tell.corpus.build", "from tell.corpus.readers.dispatch import read", 0),
        ("tellmt.doctor", 'X = "tellmt.cli:main"', 1),
        ("train.config", "import train.loop", 0),
    ],
)
def test_the_rule_of_floors_itself(module: str, source: str, lines: int) -> None:
    assert len(upward(module, source)) == lines


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_folder_is_a_package_that_is_shipped() -> None:
    import tomllib

    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(packages) == sorted(word for package in OURS for word in (package, f"{package}.*"))
    assert [str(p.parent.relative_to(ROOT)) for p in FILES if not (p.parent / "__init__.py").exists()] == []
