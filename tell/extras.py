"""What is installed here, and one sentence for what is not."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from pathlib import Path
from types import ModuleType

from tell.errors import MissingExtra


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def need(module: str, extra: str) -> ModuleType:
    """The module, imported. Raises MissingExtra with the pip command when it is not installed."""
    if module == "peft":
        # peft loads it wherever it is installed, and it warns of kernels that nobody asked for.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name and not module.startswith(e.name):
            raise MissingExtra(f"{module} is installed but lacks {e.name}", valid=f'run: pip install "tellmt[{extra}]"') from None
        raise MissingExtra(f"this needs {module}, which is not installed", valid=f'run: pip install "tellmt[{extra}]"') from None


def has_gpu() -> bool:
    """Whether an NVIDIA device is present, without importing torch."""
    return Path("/dev/nvidia0").exists()
