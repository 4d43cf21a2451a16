"""The arrows between the packages: no stage imports a later one, and `tell` needs no extra. Read from the source, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# package -> the packages of ours it may import
MAY = {"tell": {"tell"}, "train": {"tell", "train"}, "eval": {"tell", "eval"}, "serve": {"tell", "eval", "serve"}}
OURS = set(MAY)
# Distributions that only extras bring; `tell` may use them inside a function, after tell.extras.need.
EXTRAS = {"torch", "transformers", "peft", "safetensors", "gguf", "numpy", "sklearn", "threadpoolctl"}
EXTRAS |= {"fastapi", "starlette", "uvicorn", "prometheus_client", "ctranslate2", "vllm", "fsspec"}
MODULES = sorted(p for package in OURS for p in (ROOT / package).rglob("*.py"))


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


def backward(package: str, source: str) -> list[str]:
    found = imports(ast.parse(source), everywhere=True)
    return [f"line {n}: {package} imports {m}" for n, m in found if m.startswith(".") or (m.split(".")[0] in OURS and m.split(".")[0] not in MAY[package])]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_arrow_runs_back(path: Path) -> None:
    assert backward(path.relative_to(ROOT).parts[0], path.read_text(encoding="utf-8")) == []


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


@pytest.mark.parametrize("path", sorted((ROOT / "tell").rglob("*.py")), ids=lambda p: p.stem)
def test_tell_is_importable_without_any_extra(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    assert [(place, m) for place, m in loaded_with(name, set()) if m.split(".")[0] in EXTRAS] == []


@pytest.mark.parametrize(
    ("package", "source", "lines"),
    [
        ("tell", "import json\nfrom tell.files import key_of", 0),
        ("tell", "def f():\n    from train.fetch_base import fetch_base", 1),
        ("train", "import eval.scoring.scores, tell.adapter.card", 1),
        ("eval", "if True:\n    import serve", 1),
        ("eval", "from train import run", 1),
        ("serve", "import tell, eval.scoring.scores, serve.app", 0),
        ("serve", "class A:\n    def f(self):\n        import train.model", 1),
        ("serve", "from . import app", 1),
    ],
)
def test_the_rule_itself(package: str, source: str, lines: int) -> None:
    assert len(backward(package, source)) == lines


def test_every_module_is_in_a_package_that_is_shipped() -> None:
    import tomllib

    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(packages) == sorted({".".join(p.relative_to(ROOT).parent.parts) for p in MODULES})
