"""Size of the packages, and the order that imports give their modules.

The graph of imports has an arrow from each module to each it imports, at its top, in a function or for types alone. A room of a package is a module or a
sub-package that lies directly in it; the arrows of rooms are those of the modules in them. A circle is a set of more than one that reach each other, and
floors are those of the longest chain, a circle being on one floor.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from house.source import Module

Graph = Mapping[str, set[str]]


def packages(modules: Sequence[Module]) -> dict[str, dict[str, Any]]:
    """What `_package` says of each folder with Python files, and of all of them as "all" without arrows."""
    graph = imports(modules)
    names = sorted({".".join(m.package.split(".")[: n + 1]) for m in modules for n in range(m.package.count(".") + 1)})
    # Product first, in the order that the modules were read.
    tops = list(dict.fromkeys(m.top for m in modules))
    names.sort(key=lambda name: (tops.index(name.split(".")[0]), name))
    return {"all": _sizes(modules), **{name: _package(name, modules, graph) for name in names}}


def _sizes(modules: Sequence[Module]) -> dict[str, Any]:
    lines = [m.lines for m in modules]
    return {
        "files": len(lines),
        "mean_lines": round(sum(lines) / len(lines), 1),
        "over_200": sum(n > 200 for n in lines),
        "over_400": sum(n > 400 for n in lines),
    }


def _package(name: str, modules: Sequence[Module], graph: Graph) -> dict[str, Any]:
    """`modules` and `packages` directly in it, sizes of all files below it, and arrows, floors and circles of its rooms and of all modules below it."""
    below = [m for m in modules if f"{m.package}.".startswith(f"{name}.")]
    inner = {m.name for m in below}
    own = {m: {to for to in graph[m] if to in inner} for m in inner}
    depth = name.count(".") + 1
    room = {m: m.split(".")[depth] for m in inner if m != name}
    rooms: dict[str, set[str]] = {r: set() for r in room.values()}
    for start, ends in own.items():
        for end in ends:
            if start in room and end in room and room[start] != room[end]:
                rooms[room[start]].add(room[end])
    direct = [m for m in below if m.package == name and m.name != name]
    return {
        "modules": len(direct),
        "packages": len(rooms) - len(direct),
        **_sizes(below),
        "arrows": sum(map(len, rooms.values())),
        "floors": floors(rooms),
        "circles": [sorted(c) for c in circles(rooms)],
        "module_floors": floors(own),
        "module_circles": [sorted(c) for c in circles(own)],
    }


def imports(modules: Sequence[Module]) -> dict[str, set[str]]:
    """The names of the modules that each module imports, itself not among them."""
    module_names = {m.name for m in modules}
    return {m.name: {to for to in _imported(m, module_names) if to != m.name} for m in modules}


def _imported(module: Module, module_names: set[str]) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            imported = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = module.package.split(".")
            start = folder[: len(folder) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            # A name is a module of the package, or something that the package or module holds.
            imported = [f"{source}.{a.name}" for a in node.names]
        else:
            continue
        yield from filter(None, (_known(name, module, module_names) for name in imported))


def _known(name: str, module: Module, module_names: set[str]) -> str | None:
    """The module that holds what has this full name. What is no part of the product may import what lies beside it, or above, by a shorter name."""
    folders = [] if module.product else module.package.split(".")
    for folder in (".".join(folders[:n]) for n in range(len(folders) + 1)):
        candidate = f"{folder}.{name}" if folder else name
        while candidate != folder and candidate not in module_names:
            candidate = candidate.rpartition(".")[0]
        if candidate != folder:
            return candidate
    return None


def reached(graph: Graph) -> dict[str, set[str]]:
    """What each can come to by one arrow or more."""
    reachable: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            if (at := todo.pop()) not in seen:
                seen.add(at)
                todo += graph[at]
        reachable[start] = seen
    return reachable


def circles(graph: Graph) -> list[set[str]]:
    """Sets of more than one that reach each other."""
    reach = reached(graph)
    circles = {frozenset({other for other in reach[one] if one in reach[other]} | {one}) for one in graph}
    return sorted((set(c) for c in circles if len(c) > 1), key=sorted)


def floors(graph: Graph) -> int:
    """The number in the longest chain of arrows, a circle counted once."""
    reach = reached(graph)
    height: dict[str, int] = {}
    # What reaches less lies lower; all of a circle reach the same.
    for module in sorted(graph, key=lambda module: len(reach[module] - _circle(module, reach))):
        below = reach[module] - _circle(module, reach)
        height[module] = 1 + max((height[b] for b in below), default=0)
    return max(height.values(), default=0)


def _circle(module: str, reach: Graph) -> set[str]:
    return {other for other in reach[module] if module in reach[other]} | {module}
