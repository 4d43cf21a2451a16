"""The Python files of a checkout, parsed. Works on any layout: what is there of the known top folders is read."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

# What is shipped, and what stands beside it.
PRODUCT = ("tellmt", "tell", "train", "eval", "serve")
BESIDE = ("benchmarks", "scripts", "deploy", "tests")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Module:
    # Relative to the checkout, with "/".
    path: str
    # With dots; a package's is that of its folder.
    name: str
    tree: ast.Module
    lines: int

    @property
    def top(self) -> str:
        return self.path.split("/")[0]

    @property
    def product(self) -> bool:
        return self.top in PRODUCT

    @property
    def package(self) -> str:
        """The folder's name with dots."""
        return ".".join(self.path.split("/")[:-1])


def read_modules(root: Path) -> list[Module]:
    """The modules of the known folders, in order of their paths."""
    return [_read(root, path) for top in (*PRODUCT, *BESIDE) for path in sorted((root / top).rglob("*.py"))]


def _read(root: Path, path: Path) -> Module:
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    text = path.read_text(encoding="utf-8")
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(relative.as_posix(), name, ast.parse(text, filename=str(path)), len(text.splitlines()))


def functions(node: ast.AST, inside: str = "", method: bool = False) -> Iterator[tuple[str, Function, bool]]:
    """(qualified name, node, whether it is in a class's body) of all functions in `node`, nested ones too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield inside + child.name, child, method
            yield from functions(child, f"{inside}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{inside}{child.name}.", method=True)
        else:
            yield from functions(child, inside, method)


def parameters(function: Function, method: bool = False) -> list[str]:
    """Names of what a caller may give, `*args` and `**more` each one of them; of a method without what it is bound to."""
    a = function.args
    named = [p.arg for p in (*a.posonlyargs, *a.args)]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
    if method and not static:
        named = named[1:]
    star = [f"*{a.vararg.arg}"] if a.vararg else []
    more = [f"**{a.kwarg.arg}"] if a.kwarg else []
    return [*named, *star, *(p.arg for p in a.kwonlyargs), *more]
