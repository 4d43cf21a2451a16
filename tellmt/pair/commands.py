"""The steps of `tellmt pair add`: each is another command of tellmt in a process of its own, and is shown as the user can type it.

So every step can be run again alone, reuses what is unchanged, and goes on where it was interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from tell.console import clock, say
from tell.errors import TellmtError


class StepFailed(TellmtError):
    """A step ended with another code than 0; its own message is on stderr already. `exit_code` is the step's."""

    def __init__(self, title: str, code: int, result: dict[str, Any] | None):
        super().__init__(f"{title}: ended with exit code {code}" + ("; see above" if code == 2 else "; the same command goes on from here"))
        self.exit_code, self.result = code, result


def command_line(words: Sequence[str]) -> str:
    return shlex.join(["tellmt", *words])


def run_command(title: str, words: Sequence[str]) -> dict[str, Any]:
    """Run `tellmt WORDS --json` and return its result. Raises StepFailed.

    The command's messages and progress go to stderr as they come. A SIGTERM is passed on to the command, which is then waited for.
    """
    say(f"\n{title}\n  $ {command_line(words)}")
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "tellmt", *words, "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=os.environ)

    def stop(number: int, _: object) -> None:
        child.send_signal(number)

    previous_handler = signal.signal(signal.SIGTERM, stop)
    try:
        stdout, _ = child.communicate()
    except KeyboardInterrupt:
        # A terminal has sent the signal to the step too; a second one does no harm.
        child.send_signal(signal.SIGINT)
        child.communicate()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
    try:
        result: dict[str, Any] | None = dict(json.loads(stdout))
    except (ValueError, TypeError):
        result = None
    if child.returncode or result is None:
        code = child.returncode if child.returncode > 0 else 128 - child.returncode if child.returncode else 1
        raise StepFailed(title, code, result)
    say(f"  {clock(time.monotonic() - began)}")
    return result
