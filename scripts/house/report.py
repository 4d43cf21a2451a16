"""The figures as tables, of one checkout or of two side by side, for a terminal or for docs/results/house.md."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

Figures = Mapping[str, Any]
Cells = Callable[[Figures], Mapping[str, str]]

INTRO = """Counted from the source of what is shipped; the table of packages has tests, benchmarks and scripts too. The files on a request's way are from a
traced run over the tests' fake engine. What counts as what is said in `scripts/house/`."""

# What the columns of the table of packages are called, and where their figures are.
COLUMNS = {
    "modules": "modules",
    "sub-packages": "packages",
    "files below": "files",
    "lines a file": "mean_lines",
    "over 200": "over_200",
    "over 400": "over_400",
    "arrows": "arrows",
    "floors": "floors",
    "circles": "circles",
}


@dataclasses.dataclass(frozen=True)
class Table:
    title: str
    head: list[str]
    rows: list[list[str]]


def as_text(sides: Sequence[tuple[str, Figures]]) -> str:
    return "\n\n".join(_text(table) for table in tables([label for label, _ in sides], [figures for _, figures in sides]))


def as_markdown(sides: Sequence[tuple[str, Figures]], command: str) -> str:
    """The whole document; of one side, with an empty column for what comes after it."""
    labels = [f"{when}, {label}" for when, (label, _) in zip(("before", "after"), sides, strict=False)]
    figures: list[Figures | None] = [f for _, f in sides]
    parts = ["# How the code is laid out", INTRO, f"    {command}"]
    if len(sides) == 1:
        labels, figures = [*labels, "after"], [*figures, None]
        parts.append(f"The column for what comes after is filled with `--against {sides[0][0]}` in place of `--revision`.")
    return "\n\n".join([*parts, *(_markdown(table) for table in tables(labels, figures))])


def tables(labels: Sequence[str], sides: Sequence[Figures | None]) -> list[Table]:
    """Each table has a column for each side, empty where there is none."""

    def keyed(title: str, first: str, cells: Cells) -> Table:
        """A row for each key that a side has."""
        columns = [cells(side) if side is not None else {} for side in sides]
        keys = dict.fromkeys(key for one in columns for key in one)
        return Table(title, [first, *labels], [[key, *(one.get(key, "") for one in columns)] for key in keys])

    def listed(title: str, cells: Callable[[Figures], list[str]]) -> Table:
        """Each side's own list, from above."""
        columns = [cells(side) if side is not None else [] for side in sides]
        return Table(title, ["", *labels], [[str(n), *row] for n, row in enumerate(zip_longest(*columns, fillvalue=""), 1)])

    tables = [
        keyed("In short", "", summary),
        keyed("Classes of one name in several modules", "class", lambda f: {f"`{name}`": _places(paths) for name, paths in f["classes"].items()}),
        keyed("Functions of one name with different parameters", "function", lambda f: {f"`{k}`": _meanings(v) for k, v in differing(f).items()}),
        listed("The commonest names of local variables", lambda f: [f"`{name}`: {times:,} times in {files} files" for name, times, files in f["locals"]]),
        listed("Functions with more than eight parameters", lambda f: [f"`{name}`: {n}, {path}" for path, name, n in f["parameters"]]),
        keyed("Names of engines outside their drivers", "", lambda f: {kind: _counted(places) for kind, places in f["engines"].items()}),
    ]
    if any(side and side["request"] for side in sides):
        tables.append(listed("Files on the way of POST /api/v1/translate", lambda f: list((f["request"] or {}).get("files", []))))
        tables.append(listed("Paths as names in /openapi.json", lambda f: [f"`{n}`" for n in (f["request"] or {}).get("path_names", [])]))
    return [*tables, _packages(sides), keyed("Circles of imports", "package", circles)]


def differing(figures: Figures) -> dict[str, dict[str, list[str]]]:
    return {name: by for name, by in figures["functions"].items() if len(by) > 1}


def summary(figures: Figures) -> dict[str, str]:
    functions, differ, longest = figures["functions"], differing(figures), figures["parameters"]
    largest = f", the largest {longest[0][2]}" if longest else ""
    rows = {
        "names of classes in several modules": len(figures["classes"]),
        "names of functions in several modules, with different parameters": len(differ),
        "names of functions in several modules, with the same parameters": len(functions) - len(differ),
        **{f"modules with the word `{word}` in a name": len(paths) for word, paths in figures["words"].items()},
        "functions with more than eight parameters": f"{len(longest)}{largest}",
        "uses of `app.state`": len(figures["app_state"]),
        "comparisons with an engine's name outside the drivers": len(figures["engines"]["comparisons"]),
        "literals that are an engine's name outside the drivers": len(figures["engines"]["literals"]),
    }
    if request := figures["request"]:
        rows["files on a request's way"] = len(request["files"])
        rows["names in the public schema that are paths"] = f"{len(request['path_names'])} of {request['schemas']}"
    return {name: str(value) for name, value in rows.items()}


def circles(figures: Figures) -> dict[str, str]:
    """Of the rooms of each package that has some, and of modules across its rooms."""
    circles = {}
    for name, package in figures["packages"].items():
        if package.get("circles"):
            circles[f"{name}/"] = "; ".join(", ".join(circle) for circle in package["circles"])
        if package.get("module_circles") and not package["circles"]:
            circles[f"{name}/, modules"] = "; ".join(", ".join(circle) for circle in package["module_circles"])
    return circles


def _packages(sides: Sequence[Figures | None]) -> Table:
    packages_of_sides = [side["packages"] for side in sides if side is not None]
    rows = []
    for name in dict.fromkeys(name for one in packages_of_sides for name in one):
        # What is equal on both sides stands once.
        cells = [" → ".join(dict.fromkeys(_cell(one.get(name), key) for one in packages_of_sides)) for key in COLUMNS.values()]
        rows.append([name if name == "all" else name.replace(".", "/") + "/", *cells])
    return Table("Packages" + (", before → after" if len(packages_of_sides) > 1 else ""), ["package", *COLUMNS], rows)


def _cell(package: Mapping[str, Any] | None, key: str) -> str:
    value = (package or {}).get(key, "–")
    return str(len(value) if isinstance(value, list) else value)


def _places(paths: Sequence[str]) -> str:
    return ", ".join(paths) if len(paths) < 5 else f"{', '.join(paths[:3])} and {len(paths) - 3} more"


def _meanings(by: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(_places(paths) for paths in by.values())


def _counted(places: Sequence[str]) -> str:
    """How many there are in each file; lines move with every change."""
    files = Counter(place.rpartition(":")[0] for place in places)
    return ", ".join(f"{path} {n}" if n > 1 else path for path, n in files.items())


def _text(table: Table) -> str:
    rows = [[cell.replace("`", "") for cell in row] for row in (table.head, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([table.title, "", *lines])


def _markdown(table: Table) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (table.head, ["---"] * len(table.head), *table.rows)]
    return "\n".join([f"## {table.title}", "", *lines])
