"""How well a base knows a language: tokens per word, and bits per byte against English, with advice.

Reads a prepared base and some texts, writes nothing. Counting tokens needs the tokenizer alone; bits need the extra `train`, and are computed on this
machine in about a minute for a small base.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tell.extras import installed, need
from tell.languages import Language, LanguagePair
from tell.machine import bf16
from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer

# Texts that are measured, and tokens read of each: beyond that the measure of the language hardly changes.
TEXTS, MOST = 100, 128
# Texts whose tokens are counted.
COUNTED = 2000
# Bits per byte against English from which a base is said to know a language little, and barely. Gemma 3 270M has 2.4 times as many for Icelandic, and
# SmolLM2 135M, which is a model of English, 2.7 times.
LITTLE, BARELY = 1.6, 2.6
# English to compare with where the pair has none.
ENGLISH = (
    "The ferry leaves the harbour at seven in the morning and comes back before it is dark.",
    "My grandmother kept her letters in a wooden box under the window.",
    "Prices went up again last month, and most families now spend more on food than on rent.",
    "The committee will meet on Thursday to decide who pays for the new bridge.",
    "He has not answered the phone since the snow closed the road over the mountain.",
    "Please wash your hands before you touch the bread.",
    "Scientists found that the bees slept longer when the nights were cold.",
    "We were late for the concert because nobody knew where the car was parked.",
    "The law says that every child has the right to go to school close to home.",
    "If you heat the water slowly, the salt will not stick to the bottom of the pot.",
    "She won the race although she had never run so far in her life.",
    "The doctor asked how long he had been coughing and whether it hurt to breathe.",
)


def _spread(texts: Sequence[str], most: int) -> list[str]:
    """At most `most` of the texts, evenly spaced."""
    return [texts[i * len(texts) // most] for i in range(most)] if len(texts) > most else list(texts)


def _nats(base: Base, ids: list[list[int]]) -> Iterator[float]:
    """The loss of each text in nats, its first token after BOS included."""
    torch = need("torch", "train")
    from tell.model.embeddings import load

    model = load(base, "bfloat16" if bf16() == "yes" else "float32", "cpu", "AutoModelForCausalLM")
    with torch.inference_mode():
        for text in ids:
            row = torch.tensor([text])
            logits = model(input_ids=row, use_cache=False).logits[0, :-1].float()
            yield float(torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum"))


def bits_per_byte(base: Base, texts: Sequence[str]) -> float:
    """The base's cross-entropy on the texts, in bits per byte of UTF-8. Raises MissingExtra without torch, BaseModelError when the base cannot be loaded."""
    tokenizer = BaseTokenizer(base)
    # A base without BOS begins with its EOS.
    start = tokenizer.bos or tokenizer.eos_ids[:1]
    most = min(MOST, base.context - 1)
    ids = [text_ids[:most] for text_ids in tokenizer.encode_batch(_spread(texts, TEXTS))]
    ids = [text_ids for text_ids in ids if text_ids]
    # Of a text that was cut, only the bytes of its tokens count.
    size = sum(len(tokenizer.decode(text_ids).encode()) for text_ids in ids)
    return sum(_nats(base, [start + text_ids for text_ids in ids])) / math.log(2) / max(1, size)


def token_counts(base: Base, texts: Sequence[str]) -> dict[str, Any]:
    """Tokens per word (what white space parts) and per character."""
    sample = _spread(texts, COUNTED)
    tokens = sum(map(len, BaseTokenizer(base).encode_batch(sample)))
    words, characters = sum(len(t.split()) for t in sample), sum(map(len, sample))
    return {"segments": len(sample), "tokens_per_word": round(tokens / max(1, words), 3), "tokens_per_character": round(tokens / max(1, characters), 3)}


def advice(language: Language, ratio: float) -> str | None:
    """Advice for a language that takes `ratio` times as many bits per byte as English; None where the base knows it."""
    if ratio < LITTLE:
        return None
    times = f"it is {ratio:.1f} times as surprised by it as by English, per byte"
    if ratio < BARELY:
        remedy = "A few thousand pairs teach it more than a few hundred; try a base that was trained on more languages too."
        return f"This base knows {language.name} a little: {times}. {remedy}"
    return (
        f"This base barely knows {language.name}: {times}. Expect poor translations into it whatever the number of pairs. "
        "Try a base that was trained on it, or on languages near it; translating from it needs less than translating into it."
    )


def base_knowledge(base: Base, pair: LanguagePair, source: Sequence[str], target: Sequence[str]) -> dict[str, Any]:
    """What the report says about the base: a row for each language (and one for English, where the pair has none), and advice as sentences."""
    measured = installed("torch") and installed("transformers")
    english = [texts for language, texts in ((pair.source, source), (pair.target, target)) if language.tag.partition("-")[0] == "en"]
    languages = [(pair.source, source), (pair.target, target)]
    rows: list[dict[str, Any]] = []
    for language, texts in languages:
        bits = round(bits_per_byte(base, texts), 3) if measured else None
        rows.append({"language": language.tag, "name": language.name, **token_counts(base, texts), "bits_per_byte": bits})
    advice_lines = []
    if measured:
        by_tag = {row["language"].partition("-")[0]: row["bits_per_byte"] for row in rows}
        english_bits = by_tag["en"] if english else bits_per_byte(base, ENGLISH)
        if not english:
            rows.append({"language": "en", "name": "English, to compare with", **token_counts(base, ENGLISH), "bits_per_byte": round(english_bits, 3)})
        sentences = [advice(language, row["bits_per_byte"] / english_bits) for (language, _), row in zip(languages, rows, strict=False) if english_bits]
        advice_lines = [line for line in sentences if line]
    else:
        advice_lines = ['Bits per byte are not measured without torch: pip install "tellmt[train]".']
    return {"id": base.id, "revision": base.revision, "languages": rows, "said": advice_lines}
