"""Imports optional dependencies, and says in one sentence how to install those that are missing."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

from tell.errors import MissingExtra

# What transformers and peft load where it is installed, and nothing here uses; bitsandbytes only for bases in 4 bits, where it is loaded before them.
UNUSED = ("sklearn", "scipy", "bitsandbytes", "boto3")
# Compiles for GPUs; 70 MB of memory that a processor's process has no use for.
FOR_GPUS = ("triton",)


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def need(module: str, extra: str) -> ModuleType:
    """The module, imported. Raises MissingExtra with the pip command when it is not installed."""
    if module == "bitsandbytes":
        # It warns of kernels that nobody asked for.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        with hide_unused_libraries() if module in ("transformers", "peft") else nullcontext():
            return importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name and not module.startswith(e.name):
            raise MissingExtra(f"{module} is installed but lacks {e.name}", valid=f'run: pip install "tellmt[{extra}]"') from None
        raise MissingExtra(f"this needs {module}, which is not installed", valid=f'run: pip install "tellmt[{extra}]"') from None


def hide_unused_libraries() -> AbstractContextManager[None]:
    """While the block runs, libraries that training does not use here look as if they were not installed."""
    return unseen(*UNUSED, *(() if has_gpu() else FOR_GPUS))


@contextmanager
def unseen(*modules: str) -> Iterator[None]:
    """While the block runs, these modules look as if they were not installed, unless they are loaded already.

    For libraries that load whatever they find: transformers brings in scikit-learn and scipy for kinds of decoding that nobody here uses, and
    peft bitsandbytes, which takes three seconds and 200 MB in every process.
    """
    hidden = [m for m in modules if m not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for module in hidden:
            del sys.modules[module]


def has_gpu() -> bool:
    """Whether an NVIDIA device is present, without importing torch."""
    return Path("/dev/nvidia0").exists()
