"""scripts/measure_house.py on small checkouts whose figures are known by hand, and once on this one, whose service it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "measure_house.py"


def script(*words: object, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, timeout=200, check=False)
    assert not ok or done.returncode == 0, done.stderr
    return done


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def figures(root: Path, files: dict[str, str]) -> dict[str, Any]:
    (measures,) = json.loads(script("--root", write(root, files), "--json").stdout)
    return dict(measures)


def test_names_with_two_meanings(tmp_path: Path) -> None:
    measures = figures(
        tmp_path,
        {
            "tell/a.py": "class Ledger: ...\nclass _File: ...\nclass Own: ...\ndef read(path): ...\ndef _own(): ...\ndef find(text): ...\ndef main(): ...\n",
            "serve/a.py": "class Ledger: ...\nclass _File:\n    class Own: ...\ndef read(path, /, *, size=1): ...\ndef _own(x): ...\ndef find(text=''): ...\n",
            "serve/b.py": "def main(argv): ...\n@click.command()\n@click.option('-x')\ndef read(x): ...\n@routes.post('/find')\nasync def find(request): ...\n",
            "tests/a.py": "class Own: ...\n",
        },
    )
    assert measures["classes"] == {"Ledger": ["tell/a.py", "serve/a.py"], "_File": ["tell/a.py", "serve/a.py"]}
    assert measures["functions"] == {
        "find": {"text": ["tell/a.py", "serve/a.py"]},
        "read": {"path": ["tell/a.py"], "path, size": ["serve/a.py"]},
    }


def test_vague_words_are_found_as_whole_words(tmp_path: Path) -> None:
    measures = figures(
        tmp_path,
        {
            "serve/canary.py": "x = 1\n",
            "serve/a.py": "class CanarySet:\n    def barely(self): ...\n    def _bare_one(self): ...\n",
            "serve/b.py": "def f():\n    def passes(): ...\n    canary = 1\nHTTPCanary = 2\n",
            "tests/passes.py": "",
        },
    )
    assert measures["words"] == {"canary": ["serve/a.py", "serve/canary.py"], "bare": ["serve/a.py"], "passes": ["serve/b.py"]}


def test_local_names(tmp_path: Path) -> None:
    measures = figures(
        tmp_path,
        {
            "tell/a.py": """
found = [found for found in ()]
def f(found, *, given=(unbound := 1)):
    global shared
    import found
    shared = 1
    found = other = 1
    found += 1
    nothing: int
    for found, (_, other) in ():
        with open(found) as found, open(other) as self.found:
            found[0] = (found := 1)
    class Inner:
        attribute = 1
        def g(self):
            nested: int = 1
    return lambda: [found for found in ()], {k: v for k, v in ()}
""",
            "tell/b.py": "def f():\n    other = 1\n",
        },
    )
    assert measures["locals"] == [["found", 5, 1], ["other", 3, 2], ["k", 1, 1], ["nested", 1, 1], ["v", 1, 1]]


def test_long_parameter_lists(tmp_path: Path) -> None:
    measures = figures(
        tmp_path,
        {
            "tell/a.py": """
def eight(a, b, /, c, d, *e, f, g, **h): ...
def nine(a, b, /, c, d, *e, f, g, h, **i): ...
class C:
    def eight(self, a, b, c, d, e, f, g, h): ...
    @classmethod
    async def ten(cls, a, b, c, d, e, f, g, h, i, j):
        def inner(self, a, b, c, d, e, f, g, h): ...
    @staticmethod
    def still(a, b, c, d, e, f, g, h, i): ...
    @overload
    def said(self, a, b, c, d, e, f, g, h, i): ...
""",
        },
    )
    assert measures["parameters"] == [
        ["tell/a.py", "C.ten", 10], ["tell/a.py", "C.still", 9], ["tell/a.py", "C.ten.inner", 9], ["tell/a.py", "nine", 9],
    ]  # fmt: skip


def test_app_state(tmp_path: Path) -> None:
    lines = ["app.state.jobs = 1", "a = request.app.state.service.pairs()", "b = app.state", "c = app.states.x", "d = state.x", "e = self.app.state.x.y"]
    assert figures(tmp_path, {"serve/a.py": "\n".join(lines)})["app_state"] == ["serve/a.py:1", "serve/a.py:2", "serve/a.py:6"]


def test_engine_names(tmp_path: Path) -> None:
    code = """"ct2"
def f(x):
    "vllm"
    if x == "ct2" or x in ("vllm", "other"):
        return {"openai": "vllm is fast"}
    match x:
        case "ct2": ...
"""
    drivers = ["serve/ct2_engine.py", "serve/openai_http.py", "serve/vllm_engine.py", "serve/engines/ct2/engine.py"]
    measures = figures(tmp_path, dict.fromkeys([*drivers, "eval/a.py", "tests/a.py"], code))
    assert measures["engines"]["literals"] == [f"eval/a.py:{line}" for line in (4, 4, 5, 7)]
    assert measures["engines"]["comparisons"] == [f"eval/a.py:{line}" for line in (4, 4, 7)]


def test_packages(tmp_path: Path) -> None:
    measures = figures(
        tmp_path,
        {
            "serve/__init__.py": "",
            "serve/app.py": "from serve import queue\nfrom serve.api.native import routes\n",
            "serve/queue.py": "def f():\n    import serve.api.info\n",
            "serve/api/__init__.py": "",
            "serve/api/native.py": "from . import info\nfrom ..limits import Limits\n",
            "serve/api/info.py": "from __future__ import annotations\nif TYPE_CHECKING:\n    from serve.api.native import routes\n",
            "serve/limits.py": "import json, os.path\n" + "x = 1\n" * 200,
            "tests/big.py": "import conftest, json\nfrom tests.conftest import x\n" + "x = 1\n" * 400,
            "tests/conftest.py": "import serve.app\n",
        },
    )["packages"]
    assert list(measures) == ["all", "serve", "serve.api", "tests"]
    assert measures["all"] == {"files": 9, "mean_lines": 68.1, "over_200": 2, "over_400": 1}
    serve = measures["serve"]
    assert (serve["modules"], serve["packages"], serve["files"], serve["over_200"], serve["over_400"]) == (3, 1, 7, 1, 0)
    # app > queue > api > limits, and app > api.
    assert (serve["arrows"], serve["floors"], serve["circles"]) == (4, 4, [])
    assert (serve["module_floors"], serve["module_circles"]) == (4, [["serve.api.info", "serve.api.native"]])
    assert (measures["serve.api"]["floors"], measures["serve.api"]["circles"]) == (1, [["info", "native"]])
    assert (measures["tests"]["modules"], measures["tests"]["arrows"], measures["tests"]["floors"]) == (2, 1, 2)


def test_two_revisions_side_by_side(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True).stdout.strip()

    write(tmp_path, {"tell/a.py": "class Turns: ...\n", "serve/turns.py": "class Turns: ...\n"})
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    first = git("rev-parse", "--short", "HEAD")
    (tmp_path / "serve" / "turns.py").rename(tmp_path / "serve" / "fair_queue.py")
    write(tmp_path, {"tell/a.py": "class ChatTurns: ...\n"})

    before, after = json.loads(script("--root", tmp_path, "--against", "HEAD", "--json").stdout)
    assert (before["revision"], after["revision"]) == (first, f"{first} and changes")
    assert (list(before["classes"]), list(after["classes"])) == (["Turns"], [])

    page = script("--root", tmp_path, "--against", "HEAD", "--markdown").stdout
    assert f"|  | before, {first} | after, {first} and changes |" in page
    assert "| names of classes in several modules | 1 | 0 |" in page
    assert "| `Turns` | tell/a.py, serve/turns.py |  |" in page
    assert "| serve/ | 1 | 0 | 1 | 1.0 |" in page

    alone = script("--root", tmp_path, "--revision", first, "--markdown").stdout
    assert f"|  | before, {first} | after |" in alone and "| names of classes in several modules | 1 |  |" in alone
    assert "names of classes in several modules " in script("--root", tmp_path).stdout


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    done = script("--root", tmp_path, ok=False)
    assert (done.returncode, done.stderr) == (1, f"measure_house: no package of tellmt in {tmp_path}\n")
    done = script("--against", "no-such-revision", ok=False)
    assert done.returncode == 1 and "no-such-revision" in done.stderr and "Traceback" not in done.stderr


def test_a_request_of_this_checkout() -> None:
    (measures,) = json.loads(script("--request", "--json").stdout)
    request = measures["request"]
    # Each file that a plain text enters must earn it: 29 do, those that judge its Host, count its characters and find its dates among them.
    assert 5 < len(request["files"]) <= 29 and all((ROOT / file).is_file() for file in request["files"])
    assert {file.split("/")[0] for file in request["files"]} >= {"tell", "serve"}
    assert request["schemas"] > len(request["path_names"])
