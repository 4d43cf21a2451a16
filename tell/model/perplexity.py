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
from tell.model.tokenizer import Tokens

# Texts that are asked about, and tokens of each that are read: the measure is of the language, and steady by then.
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
    """So many of the texts, from all over them."""
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
    """How surprised the base is by the texts. Raises MissingExtra without torch, BaseModelError when the base cannot be loaded."""
    tokens = Tokens(base)
    # A base without BOS begins with what ends its texts.
    start = tokens.bos or tokens.eos_ids[:1]
    most = min(MOST, base.context - 1)
    ids = [found[:most] for found in tokens.encode_batch(_spread(texts, TEXTS))]
    ids = [found for found in ids if found]
    # Of a text that was cut, only the bytes of its tokens count.
    size = sum(len(tokens.decode(found).encode()) for found in ids)
    return sum(_nats(base, [start + found for found in ids])) / math.log(2) / max(1, size)


def counted(base: Base, texts: Sequence[str]) -> dict[str, Any]:
    """Tokens per word (what white space parts) and per character."""
    some = _spread(texts, COUNTED)
    pieces = sum(map(len, Tokens(base).encode_batch(some)))
    words, characters = sum(len(t.split()) for t in some), sum(map(len, some))
    return {"segments": len(some), "tokens_per_word": round(pieces / max(1, words), 3), "tokens_per_character": round(pieces / max(1, characters), 3)}


def advice(language: Language, ratio: float) -> str | None:
    """What to say of a language that takes `ratio` times as many bits per byte as English; None where the base knows it."""
    if ratio < LITTLE:
        return None
    times = f"it is {ratio:.1f} times as surprised by it as by English, per byte"
    if ratio < BARELY:
        more = "A few thousand pairs teach it more than a few hundred; try a base that was trained on more languages too."
        return f"This base knows {language.name} a little: {times}. {more}"
    return (
        f"This base barely knows {language.name}: {times}. Expect poor translations into it whatever the number of pairs. "
        "Try a base that was trained on it, or on languages near it; translating from it needs less than translating into it."
    )


def knows(base: Base, pair: LanguagePair, source: Sequence[str], target: Sequence[str]) -> dict[str, Any]:
    """What the report says of the base: a row for each language (and one for English, where the pair has none), and sentences for whom it concerns."""
    measured = installed("torch") and installed("transformers")
    english = [texts for language, texts in ((pair.source, source), (pair.target, target)) if language.tag.partition("-")[0] == "en"]
    asked = [(pair.source, source), (pair.target, target)]
    rows: list[dict[str, Any]] = []
    for language, texts in asked:
        bits = round(bits_per_byte(base, texts), 3) if measured else None
        rows.append({"language": language.tag, "name": language.name, **counted(base, texts), "bits_per_byte": bits})
    said = []
    if measured:
        by_tag = {row["language"].partition("-")[0]: row["bits_per_byte"] for row in rows}
        least = by_tag["en"] if english else bits_per_byte(base, ENGLISH)
        if not english:
            rows.append({"language": "en", "name": "English, to compare with", **counted(base, ENGLISH), "bits_per_byte": round(least, 3)})
        found = [advice(language, row["bits_per_byte"] / least) for (language, _), row in zip(asked, rows, strict=False) if least]
        said = [line for line in found if line]
    else:
        said = ['Bits per byte are not measured without torch: pip install "tellmt[train]".']
    return {"id": base.id, "revision": base.revision, "languages": rows, "said": said}
