"""BLEU and chrF2 by sacreBLEU, each with its signature and its 95% confidence interval.

Reads hypotheses and references from memory; writes nothing. A score never leaves here without its signature.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tell.errors import BadInput
from tell.languages import LanguagePair

# sacreBLEU's own default for bootstrap resampling (Koehn 2004): the half-width is stable to about 0.1 at this number.
RESAMPLES = 1000

# Languages written without spaces between words, where sacreBLEU's default `13a` would count a sentence as one word.
# Its mecab and flores tokenizers need packages or downloads of their own; the signature says which was used.
_TOKENIZERS = {"zh": "zh", "yue": "zh", "ja": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}


def bleu_tokenizer(pair: LanguagePair) -> str:
    return _TOKENIZERS.get(pair.target.tag.split("-")[0], "13a")


def metrics(pair: LanguagePair) -> dict[str, Any]:
    """sacreBLEU's metrics at their defaults, by the names scores.json uses."""
    from sacrebleu.metrics import BLEU, CHRF

    return {"bleu": BLEU(tokenize=bleu_tokenizer(pair)), "chrf": CHRF()}


def bootstrap_seed() -> str:
    """The seed sacreBLEU's resampling will use. Raises BadInput when the variable that sets it holds no number."""
    seed = os.environ.get("SACREBLEU_SEED", "12345")
    if not seed.isdecimal():
        raise BadInput("not a seed", place="SACREBLEU_SEED", found=seed, valid="a whole number, so that the intervals can be repeated")
    return seed


def one_line(text: str) -> str:
    """A hypothesis as a line of a hypothesis file: what is scored is what is kept."""
    return " ".join(text.replace("\r", "\n").split("\n")) if "\n" in text or "\r" in text else text


def score_system(hypotheses: Sequence[str], references: Sequence[str], pair: LanguagePair) -> dict[str, dict[str, Any]]:
    """{"bleu": {"name", "score", "signature", "mean", "ci"}, "chrf": {...}}; `ci` is the half-width of the 95% interval round `mean`.

    Raises BadInput when there are not as many references as hypotheses, or none.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise BadInput("hypotheses and references do not match", found=f"{len(hypotheses):,} and {len(references):,}", valid="equally many, at least 1")
    import numpy as np
    from sacrebleu.significance import _bootstrap_resample, estimate_ci

    bootstrap_seed()
    out = {}
    for key, metric in metrics(pair).items():
        # What `corpus_score(..., n_bootstrap=)` does, step by step: its own averaging of the resamples raises TypeError when some of
        # them score exactly 0, as those of a weak system on few segments do.
        stats = metric._extract_corpus_statistics(list(hypotheses), [list(references)])
        found = metric._aggregate_and_compute(stats)
        metric.n_bootstrap = RESAMPLES
        metric.seed, resampled = _bootstrap_resample(stats, metric, RESAMPLES)
        mean, ci = estimate_ci(np.array([float(r.score) for r in resampled]))
        out[key] = {
            "name": found.name,
            "score": round(float(found.score), 4),
            "signature": str(metric.get_signature()),
            "mean": round(float(mean), 4),
            "ci": round(float(ci), 4),
        }
    return out
