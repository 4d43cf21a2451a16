"""COMET (`wmt22-comet-da`). It needs the extra `comet` and a checkpoint on this machine.

Reads the checkpoint that TELLMT_COMET names, or the one in the hub's cache; fetches and writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.errors import BadInput
from tell.extras import has_gpu, need

MODEL = "Unbabel/wmt22-comet-da"
BATCH = 16


def _checkpoint(comet: Any) -> str:
    if setting := os.environ.get("TELLMT_COMET"):
        if not Path(setting).expanduser().is_file():
            raise BadInput("no such file", place="TELLMT_COMET", found=setting, valid="a COMET checkpoint (.ckpt)")
        return str(Path(setting).expanduser())
    try:
        return str(comet.download_model(MODEL, local_files_only=True))
    except Exception as e:  # the hub's own errors, which are many
        how = f"fetch it once with COMET's own command (comet-score --model {MODEL}), or name a checkpoint in TELLMT_COMET"
        raise BadInput("the COMET checkpoint is not on this machine", place="comet", found=f"{type(e).__name__}: {e}", valid=how) from None


class Comet:
    """An eval.scoring.metrics.SegmentMetric. Scores are between 0 and 1 for nearly all segments."""

    name, higher_is_better, needs_sources = "COMET", True, True

    def __init__(self) -> None:
        from importlib import metadata

        comet = need("comet", "comet")
        path = _checkpoint(comet)
        self.model: Any = comet.load_from_checkpoint(path)
        setting = os.environ.get("TELLMT_COMET")
        self.signature = f"model:{Path(setting).name if setting else MODEL}|version:comet-{metadata.version('unbabel-comet')}"

    def segments(self, sources: Sequence[str] | None, hypotheses: Sequence[str], references: Sequence[str]) -> Sequence[float]:
        rows = [{"src": s, "mt": h, "ref": r} for s, h, r in zip(sources or [], hypotheses, references, strict=True)]
        prediction = self.model.predict(rows, batch_size=BATCH, gpus=int(has_gpu()), progress_bar=False)
        return [float(s) for s in prediction.scores]
