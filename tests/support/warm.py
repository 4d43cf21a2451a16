"""Commands in processes that have torch, transformers, peft and the model of languages loaded already: a fork of one that did nothing else takes no 4 s to
import them.

Run as a script it is that process: for each line on its standard input, a request as JSON, it forks a child that is the command, with files as its
streams, and says on its standard output how the command ended.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_started: dict[tuple[int, ...], subprocess.Popen[str]] = {}
_one_at_a_time = threading.Lock()


def _process(cores: tuple[int, ...]) -> subprocess.Popen[str]:
    """The one for these cores: how many threads torch takes is settled when it is loaded."""
    if cores not in _started or _started[cores].poll() is not None:
        _started[cores] = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        atexit.register(_started[cores].kill)
    return _started[cores]


def run(args: list[str], stdin: str | None, timeout: float) -> subprocess.CompletedProcess[str]:
    """`tellmt ARGS`, as subprocess.run would run it with text and captured output. Raises TimeoutExpired, and the command is killed."""
    with _one_at_a_time, tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder, name)) for name in ("in", "out", "err")}
        Path(files["in"]).write_text(stdin or "")
        request = {"args": args, "env": dict(os.environ), "cwd": os.getcwd(), "files": files}
        process = _process(tuple(sorted(os.sched_getaffinity(0))))
        assert process.stdin and process.stdout
        overdue = threading.Timer(timeout, process.kill)
        overdue.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            overdue.cancel()
        if not answer:
            raise subprocess.TimeoutExpired(args, timeout)
        out, err = (Path(files[name]).read_bytes().decode() for name in ("out", "err"))
        return subprocess.CompletedProcess(args, json.loads(answer), out.replace("\r\n", "\n"), err.replace("\r\n", "\n"))


def _command(request: dict[str, object]) -> None:
    """Become the command: its directory, environment and streams; never returns."""
    files = request["files"]
    assert isinstance(files, dict)
    for number, (name, mode) in enumerate({"in": os.O_RDONLY, "out": os.O_WRONLY | os.O_CREAT, "err": os.O_WRONLY | os.O_CREAT}.items()):
        os.dup2(os.open(files[name], mode), number)
    # This process's own have its pipes' buffers.
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    sys.argv = ["tellmt", *request["args"]]  # type: ignore[misc]
    from tellmt.cli import entry

    entry()


def _serve() -> None:
    sys.path[0] = str(ROOT)
    from tell.extras import need
    from tell.languages import parse_pair
    from tell.text.language_id import label
    from tellmt.cli import COMMANDS

    # transformers loads most of itself when it is asked for something.
    assert need("transformers", "train").AutoModelForCausalLM
    need("peft", "train")
    for module, _ in COMMANDS.values():
        importlib.import_module(module.partition(":")[0])
    assert label(parse_pair("is-en").source.tag) == "is"
    # Children need not look through what is here already, and copy its pages as they do.
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            code = 1
            try:
                _command(request)
                code = 0
            except SystemExit as e:
                code = e.code if isinstance(e.code, int) else int(e.code is not None)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                # What the command registered for its end runs, what this process did not open stays.
                atexit._run_exitfuncs()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
