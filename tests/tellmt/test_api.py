"""The public names: they are all there with the core alone, typed and described; and a package that uses nothing else brings an engine and a metric."""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tellmt
from tests.conftest import ROOT
from tests.support.running import publish

PLUGIN = ROOT / "tests" / "support" / "plugin"
# What may not be loaded by a program that only asks a service.
HEAVY = {"fastapi", "starlette", "torch", "transformers", "serve", "train", "uvicorn", "numpy", "sacrebleu"}
USER = """
import tellmt


def translated(client: tellmt.Client) -> str:
    translation = client.translate("a", "is", "en", quality="best", fallback=["pivot"])
    reveal_type(translation)
    reveal_type(client.translate(["a"], "is", "en"))
    return translation.text


async def streamed(client: tellmt.AsyncClient) -> None:
    async for event in client.stream("a", "is", "en"):
        reveal_type(event)
    try:
        await client.translate("a", "is", "en", speed=1)
    except tellmt.Overloaded as e:
        reveal_type(e.retry_after)
    tellmt.Unknown
"""


def python(code: str, **env: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **env}).stdout


def test_all_is_what_is_public() -> None:
    """Each name is listed once, in three places that agree: `__all__`, the types, and what is imported on use."""
    assert len(set(tellmt.__all__)) == len(tellmt.__all__)
    tree = ast.parse(Path(tellmt.__file__).read_text(encoding="utf-8"))
    typed = {a.asname or a.name for node in ast.walk(tree) if isinstance(node, ast.If) for i in node.body if isinstance(i, ast.ImportFrom) for a in i.names}
    names = set(tellmt.__all__) - {"__version__"}
    assert typed == names == set(tellmt._HOMES)
    public = {name for name in dir(tellmt) if not name.startswith("_") and not inspect.ismodule(getattr(tellmt, name))}
    assert public - {"TYPE_CHECKING", "annotations"} == names
    with pytest.raises(AttributeError, match="no attribute 'Unknown'"):
        tellmt.Unknown  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", sorted(set(tellmt.__all__) - {"__version__"}))
def test_each_name_is_a_class_with_a_docstring(name: str) -> None:
    kind = getattr(tellmt, name)
    assert inspect.isclass(kind) and (kind.__dict__.get("__doc__") or "").strip(), name
    for method, value in vars(kind).items():
        if inspect.isfunction(value) and not method.startswith("_") and name in ("Client", "AsyncClient") and method != "close":
            assert value.__doc__, f"{name}.{method}"


def test_it_is_loaded_on_use() -> None:
    """The command line imports the package before anything else."""
    loaded = json.loads(python("import sys, json, tellmt; print(json.dumps(sorted(sys.modules)))"))
    assert not {"httpx", "pydantic", "tell.client", "tell.model"} & set(loaded)
    code = f"import sys, tellmt; [getattr(tellmt, n) for n in tellmt.__all__]; print(sorted({{m.split('.')[0] for m in sys.modules}} & {HEAVY!r}))"
    assert python(code) == "[]\n"


def test_the_earlier_way_to_the_client_stays() -> None:
    from tell.client import AsyncClient, Client, NoAnswer, Translation

    assert (Client, AsyncClient, NoAnswer, Translation) == (tellmt.Client, tellmt.AsyncClient, tellmt.NoAnswer, tellmt.Translation)


def mypy(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_type_checker_sees_the_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER)
    out = mypy(tmp_path / "user.py").stdout
    revealed = [line.partition("Revealed type is ")[2].strip('"') for line in out.split("\n") if "Revealed" in line]
    part = "tell.client.models.TranslationPart | tell.client.models.StreamEnd"
    assert [r.removeprefix("builtins.") for r in revealed] == ["tell.client.models.Translation", "list[tell.client.models.Translation]", part, "int"], out
    errors = [line.partition("error: ") for line in out.split("\n") if "error: " in line]
    # An option that there is not, and a name that there is not.
    assert {where.rpartition(":")[0].rpartition(":")[2] for where, _, _ in errors} == {"16", "19"}, out
    assert any('keyword argument "speed"' in said for _, _, said in errors) and any('"Unknown"' in said for _, _, said in errors), out
    plugin = mypy(PLUGIN / "tellmt_test_plugin.py")
    assert plugin.returncode == 0, plugin.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH that the package is installed into."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(folder / "site")]
    done = subprocess.run([*command, str(folder / "source")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def command_line(site: Path, *args: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(site), str(ROOT), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-m", "tellmt", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)


def test_an_installed_package_brings_an_engine(site: Path, isolated: Path, tmp_path: Path) -> None:
    publish(isolated, "is-en")
    (tmp_path / "in.txt").write_text("hestur\n\nfjall og dalur\n", encoding="utf-8")
    ran = command_line(site, "translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "--engine", "shout")
    assert (ran.returncode, ran.stdout) == (0, "HESTUR\n\nFJALL OG DALUR\n"), ran.stderr
    ran = command_line(site, "translate", tmp_path / "in.txt", "--from", "is", "--to", "en", "--engine", "shoot")
    assert ran.returncode == 2 and "shout (did you mean this?)" in ran.stderr


def test_an_installed_package_brings_a_metric(site: Path, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("abc\nabcd\n")
    (tmp_path / "ref.txt").write_text("abc\nabcdef\n")
    ran = command_line(site, "--json", "score", "--hypotheses", tmp_path / "out.txt", "--reference", tmp_path / "ref.txt", "--metric", "same-length")
    assert ran.returncode == 0, ran.stderr
    score = json.loads(ran.stdout)["systems"]["out"]["same-length"]
    assert score["score"] == 99.0 and score["name"] == "SameLength" and score["signature"].startswith("same-length|version:1.0|")
