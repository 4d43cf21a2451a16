"""Whether an adapter could write the references of a test set: where they have more tokens than an output may have, every output is cut and every score is
that of a fragment. Reads texts and a base's tokenizer; writes nothing.
"""

from __future__ import annotations

from eval.scoring.testset import TestSet
from tell.console import say
from tell.errors import BadInput
from tell.model.base import Base
from tell.model.engine import Decoding
from tell.model.tokenizer import BaseTokenizer

# The share of the references that may be longer: one in a hundred is a bad alignment, as `tellmt mix` has it, which sets the limit.
SHARE = 0.01


def check_references(base: Base, decoding: Decoding, test: TestSet) -> None:
    """Raises BadInput where more than SHARE of the references would be cut; says so instead where the factor is below the default, which somebody chose."""
    tokens = BaseTokenizer(base)
    sources, references = (tokens.encode_batch([text.strip() for text in texts]) for texts in (test.sources, test.references))
    limits = [decoding.max_tokens(len(source)) for source in sources]
    # One token more: the end.
    cut = [i for i, (reference, limit) in enumerate(zip(references, limits, strict=True)) if len(reference) + 1 > limit]
    if len(cut) <= SHARE * len(references):
        return
    allowed = f"{decoding.length_factor:g} tokens for each of the source and {decoding.length_extra} more"
    found = f"{len(cut):,} of {len(references):,} references, the first at {test.places[cut[0]]}"
    if decoding.length_factor < Decoding().length_factor:
        say(f"{test.name}: {found}, are longer than an output may be: {allowed}")
        return
    valid = "an adapter trained on a new mix, which sets the limit by the corpus (tellmt mix --force), or a larger [decoding] length_factor"
    raise BadInput(f"references would be truncated: an output may have {allowed}", place=test.name, found=found, valid=valid)
