"""The list of real files, and what becomes of a package that is made here."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from benchmarks.serving.harness.equal_files import equal
from benchmarks.serving.real_files import members, outcome, read_list, report, sha256
from serve.formats import format_of


def test_the_list_names_every_file_once() -> None:
    files = read_list()
    assert len(files) > 200 and len({(f.package, f.path) for f in files}) == len(files)
    assert all(len(f.hash) == len(f.package_hash) == 64 and f.version for f in files)
    assert len({format_of(f.path.rpartition("!")[2].rpartition("/")[2]).name for f in files}) >= 15


def test_a_package_with_an_archive_in_it(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.properties", "a=Hello\n")
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as archive:
        archive.writestr("p/en.json", json.dumps({"a": "Hello there"}))
        archive.writestr("p/lib.jar", inner.getvalue())
    found = dict(members(tmp_path / "p.whl"))
    assert [outcome(path, found[path])[:2] for path in ("p/en.json", "p/lib.jar!a.properties")] == [("json", "same"), ("properties", "same")]
    assert outcome("a.yml", b"- a\n")[1].startswith("refused: line 1: this YAML is no catalogue")
    file = read_list()[0]
    assert "| json | 1 | 1 | 1 | 0 | 0 |" in report([(file, "json", "same", 1)], [], []) and len(sha256(b"")) == 64


def test_what_tools_see_as_equal() -> None:
    po, filled = b'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "a"\nmsgstr ""\n', b'#, fuzzy\nmsgid "a"\nmsgstr "a"\n'
    assert equal("po", po, po.replace(b'msgid "a"\nmsgstr ""\n', filled)) and not equal("po", po, po.replace(b'"a"\nmsgstr ""', b'"a"\nmsgstr "b"'))
    ts = b'<TS><message><source>a</source><translation type="unfinished">{}</translation></message></TS>'
    assert equal("qt", ts.replace(b"{}", b""), ts.replace(b"{}", b"a")) and not equal("qt", ts, ts.replace(b"<source>a", b"<source>b"))
    assert equal("json", b'{"a": 1}', b'{"a":1}') and not equal("text", b"a", b"b")
