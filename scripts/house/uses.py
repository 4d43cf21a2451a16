"""Functions with long parameter lists, what is kept untyped in `app.state`, and engines called by name where their drivers are not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from house.source import Function, Module, functions, parameters

MOST_PARAMETERS = 8
ENGINES = ("ct2", "vllm", "openai")
# Where the drivers are, in a folder of their own or by the names of their files.
_DRIVERS = re.compile(r"serve/(engines/.*|ct2_\w+\.py|vllm_engine\.py|openai_\w+\.py)")


def long_lists(modules: Sequence[Module], most: int = MOST_PARAMETERS) -> list[tuple[str, str, int]]:
    """(path, qualified name, parameters) of functions and methods with more than `most`, the longest list first; signatures that only overload are none."""
    counts = [(m.path, name, len(parameters(node, method))) for m in modules for name, node, method in functions(m.tree) if not _overloads(node)]
    return sorted((f for f in counts if f[2] > most), key=lambda f: (-f[2], f[0], f[1]))


def _overloads(node: Function) -> bool:
    return any(ast.unparse(d).split(".")[-1] == "overload" for d in node.decorator_list)


def app_state(modules: Sequence[Module]) -> list[str]:
    """The place (path:line) of each `app.state.NAME`, read or written, whatever stands before `app`."""
    return [p for m in modules for p in _places(m, [n for n in ast.walk(m.tree) if isinstance(n, ast.Attribute) and _is_state(n.value)])]


def _places(module: Module, nodes: Sequence[ast.expr]) -> list[str]:
    """In order of their lines, which a walk does not keep."""
    return [f"{module.path}:{line}" for line in sorted(node.lineno for node in nodes)]


def _is_state(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr != "state":
        return False
    app = node.value
    return (isinstance(app, ast.Name) and app.id == "app") or (isinstance(app, ast.Attribute) and app.attr == "app")


def engine_names(modules: Sequence[Module]) -> dict[str, list[str]]:
    """Places (path:line) outside the drivers where an engine's name is a literal.

    `comparisons`: of `==`, `!=`, `in`, `not in` and `case` with such a name. `literals`: of each one, those in comparisons too.
    """
    comparisons: list[str] = []
    literals: list[str] = []
    for module in modules:
        if _DRIVERS.fullmatch(module.path):
            continue
        docstrings = {id(d) for d in _docstrings(module.tree)}
        nodes = list(ast.walk(module.tree))
        literals += _places(module, [n for n in nodes if isinstance(n, ast.Constant) and n.value in ENGINES and id(n) not in docstrings])
        comparisons += _places(module, [sides[0] for sides in map(_compared, nodes) if any(map(_names_engine, sides))])
    return {"comparisons": comparisons, "literals": literals}


def _compared(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    return [node.value] if isinstance(node, ast.MatchValue) else []


def _names_engine(node: ast.expr) -> bool:
    values = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]
    return any(isinstance(v, ast.Constant) and v.value in ENGINES for v in values)


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body and isinstance(node.body[0], ast.Expr):
            yield node.body[0].value
