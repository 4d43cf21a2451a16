"""Names that mean two things, words that say little, and the names that local variables have."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from house.source import Function, Module, parameters

# Words that stand for several things, or for none in particular.
VAGUE = ("canary", "bare", "passes")
# Decorators by which a framework takes a function for a command or a route: it is found by that word or path, and its parameters are the framework's affair.
ENTRY = {"command", "group", "get", "post", "put", "patch", "delete", "head"}
COMMONEST = 20

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def classes_twice(modules: Sequence[Module]) -> dict[str, list[str]]:
    """Names of classes, public or not, that more than one of the modules defines at its top, with the modules' paths."""
    classes: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        # A name may be bound twice in one module, for two platforms say.
        for name in dict.fromkeys(n.name for n in module.tree.body if isinstance(n, ast.ClassDef)):
            classes[name].append(module.path)
    return {name: paths for name, paths in sorted(classes.items()) if len(paths) > 1}


def functions_twice(modules: Sequence[Module]) -> dict[str, dict[str, list[str]]]:
    """Names of public functions that more than one of the modules defines at its top, with the modules' paths by the function's parameters.

    With the same parameters, by name and in order, functions are taken for implementations of one protocol, as the writers of formats are; with others they
    cannot mean the same. Commands, routes and `main` are left out: a framework finds them by something else than their name.
    """
    signatures: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for module in modules:
        for name, function in {n.name: n for n in module.tree.body if isinstance(n, Function)}.items():
            if not name.startswith("_") and name != "main" and not _is_entry(function):
                signatures[name][", ".join(parameters(function))].append(module.path)
    return {name: dict(by) for name, by in sorted(signatures.items()) if sum(map(len, by.values())) > 1}


def _is_entry(function: Function) -> bool:
    called = (d.func if isinstance(d, ast.Call) else d for d in function.decorator_list)
    return any(isinstance(d, ast.Attribute) and d.attr in ENTRY for d in called)


def vague_words(modules: Sequence[Module], words: Sequence[str] = VAGUE) -> dict[str, list[str]]:
    """The paths of the modules in whose own name, or in whose classes' and functions' names, a word is."""
    places: dict[str, list[str]] = {word: [] for word in words}
    for module in modules:
        names = [module.name.split(".")[-1], *(n.name for n in ast.walk(module.tree) if isinstance(n, (ast.ClassDef, Function)))]
        held = {w.lower() for name in names for w in _WORD.findall(name)}
        for word in words:
            if word in held:
                places[word].append(module.path)
    return places


def common_locals(modules: Sequence[Module], most: int = COMMONEST) -> list[tuple[str, int, int]]:
    """(name, times bound, files) of the names that functions bind most often."""
    times: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for module in modules:
        bindings = Counter(bound(module.tree))
        times += bindings
        files.update(bindings.keys())
    ranked = sorted(times, key=lambda name: (-times[name], name))
    return [(name, times[name], files[name]) for name in ranked[:most]]


def bound(node: ast.AST, local: bool = False, shared: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names that functions in `node` bind by `=`, `for`, `with`, `:=` or in a comprehension, once for each place.

    Parameters, imports, what `+=` alters, `global` names and the throwaway `_` are none of them. `local`: whether `node` is in a function already.
    """
    if isinstance(node, (Function, ast.Lambda)):
        body = node.body if isinstance(node.body, list) else [node.body]
        declared = frozenset(name for n in ast.walk(node) if isinstance(n, ast.Global) for name in n.names)
        inside = {id(child) for child in body}
        for child in ast.iter_child_nodes(node):
            yield from bound(child, local or id(child) in inside, declared if id(child) in inside else shared)
    elif isinstance(node, ast.ClassDef):
        for child in ast.iter_child_nodes(node):
            yield from bound(child)
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.AnnAssign) and node.value is None):
        if node.value is not None:
            yield from bound(node.value, local, shared)
    elif isinstance(node, ast.Name):
        if local and isinstance(node.ctx, ast.Store) and node.id != "_" and node.id not in shared:
            yield node.id
    else:
        for child in ast.iter_child_nodes(node):
            yield from bound(child, local, shared)
