"""What the replicas of a registry say of themselves, for each other (serve.adapters.agreement). Reads and writes <registry>/replicas/<id>.json.

    {"beat": 17, "pairs": {"is-en": {"ready": 4, "held": 4, "live": 3}}}

`beat` grows with every write, so that a reader sees that the writer is there, whatever their clocks say. A process removes its file when it ends, and
others remove that of one that was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from typing import Any

from tell.registry.registry import Registry

FOLDER = "replicas"
_NAME = re.compile(r"([0-9a-f]{16})\.json")


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Generations of one pair in a replica: loaded and checked, with requests held for it, and answering. -1 for none."""

    ready: int = -1
    held: int = -1
    live: int = -1


def write_replica(registry: Registry, id: str, beat: int, pairs: dict[str, Standing]) -> None:
    """Raises RegistryError or OSError where the registry cannot be written."""
    body = {"beat": beat, "pairs": {pair: dataclasses.asdict(standing) for pair, standing in sorted(pairs.items())}}
    registry.store.write_file(FOLDER, f"{id}.json", data=json.dumps(body).encode() + b"\n")


def read_replicas(registry: Registry, own: str) -> dict[str, tuple[int, dict[str, Standing]]]:
    """Beat and standings of every replica but one's own. What is no such file is not one. Raises RegistryError or OSError."""
    found = {}
    for name in registry.store.file_names(FOLDER):
        match = _NAME.fullmatch(name)
        if match is None or match[1] == own:
            continue
        try:
            body: Any = json.loads(registry.store.read_file(FOLDER, name))
            pairs = {str(pair): Standing(*(int(s[field]) for field in ("ready", "held", "live"))) for pair, s in body["pairs"].items()}
            found[match[1]] = int(body["beat"]), pairs
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # Removed meanwhile, or of another version of tellmt.
            continue
    return found


def forget(registry: Registry, id: str) -> None:
    """Remove a replica's file, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        registry.store.remove_file(FOLDER, f"{id}.json")
