"""Every class of bases that docs/bases.md has as served by vLLM, in vLLM's build for processors: with and without an adapter it computes what transformers with
peft does, in float32. The models are tiny and random: real weights are not run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.write_bases import ROWS
from serve.engines.vllm_classes import WITH_TORCHVISION
from tell.extras import installed
from tests.conftest import ROOT
from tests.support.bases import CLASSES, OF_FILES

# Nats, at any token. Where a class is right 2e-5 is the most that was seen; what is left out of one shows as 0.01 and more.
EXACT = 1e-3
SERVED = [name for name, row in json.loads(ROWS.read_text()).items() if row["vllm"] is None]
REFUSED = [name for name in CLASSES if name not in SERVED]
Compare = Callable[[str], dict[str, Any]]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compare]:
    """`tests.support.run_vllm_base`, asked for one class at a time."""
    pytest.importorskip("vllm")
    work = tmp_path_factory.mktemp("vllm")
    command = [sys.executable, "-m", "tests.support.run_vllm_base", str(work)]
    with (work / "log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=dict(os.environ))

    def ask(name: str) -> dict[str, Any]:
        assert process.stdin and process.stdout
        begin = (work / "log").stat().st_size
        overdue = threading.Timer(280, process.kill)
        overdue.start()
        process.stdin.write(f"{name}\n")
        process.stdin.flush()
        # vLLM may say something on its way.
        answer = next((line for line in process.stdout if line.startswith("{")), None)
        overdue.cancel()
        assert answer is not None, (work / "log").read_text(errors="replace")[-3000:]
        found: dict[str, Any] = json.loads(answer)
        return found | {"log": (work / "log").read_bytes()[begin:].decode(errors="replace")}

    yield ask
    process.kill()
    process.communicate()


@pytest.mark.parametrize("name", SERVED)
def test_vllm_computes_what_the_class_does(name: str, compare: Compare) -> None:
    found = compare(name)
    if (CLASSES | OF_FILES)[name][0] in WITH_TORCHVISION and not installed("torchvision"):
        assert "vLLM needs torchvision for this base; found not installed" in found["error"]
        pytest.skip("vLLM needs torchvision for this class")
    assert "error" not in found, found["error"] + found["log"][-3000:]
    assert found["moved"] > 0.1, "the adapter does too little to be missed"
    # In bfloat16 vLLM may be about as far from float32 as transformers is, which is far less than the adapter moves.
    bound = min(2 * found["rounding"], found["moved"] / 3) if "rounding" in found else EXACT
    for way in ("bare", "adapted"):
        assert found[f"apart_{way}"] < bound and found[f"missed_{way}"] < bound, found


@pytest.mark.parametrize("name", REFUSED)
def test_vllm_loads_no_lora_on_what_is_refused(name: str, compare: Compare) -> None:
    """Asked all the same, it says so itself: a later release may load one, and the table would be out of date."""
    found = compare(name)
    assert "vLLM could not start" in found["error"] and "does not support LoRA" in found["log"], found
