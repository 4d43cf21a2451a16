"""A bare base on a held-out slice, with or without examples in its prompt: `python -m eval.study.base SPEC OUT`.

Reads SPEC (JSON, written by `eval.study.run`). Writes OUT/adapter.hyp.txt and prints scores in the shape of `tellmt score --json`.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

from eval.scoring.hypotheses import System, translate_set
from eval.scoring.score import versions
from eval.scoring.scores import score_system
from eval.scoring.testset import from_corpus
from tell.corpus.directory import open_corpus
from tell.errors import CorpusError, TellmtError
from tell.files import write_atomic
from tell.languages import parse_pair
from tell.model.anchor import Anchor, AnchorConfig, render
from tell.model.base import find_base
from tell.model.engine import Decoding, choose_engine
from tell.records import Pair

# Characters of the source of an example, at least and at most: a much longer one would use up the context.
SHOT_LENGTH = (30, 200)


def with_shots(anchor: Anchor, pairs: list[Pair], shots: int, seed: int) -> Anchor:
    """An anchor whose prefix holds `shots` translated examples before its own text. Raises CorpusError when there are too few."""
    fitting = sorted({(p.source, p.target) for p in pairs if SHOT_LENGTH[0] <= len(p.source) <= SHOT_LENGTH[1]})
    if len(fitting) < shots:
        raise CorpusError("not enough examples for the prompt", found=f"{len(fitting)} of {SHOT_LENGTH[0]} to {SHOT_LENGTH[1]} characters", valid=f"{shots}")
    chosen = random.Random(f"shots {seed}").sample(fitting, shots)
    examples = "".join(f"{anchor.prompt(source)}{anchor.opening}{target}\n\n" for source, target in chosen)
    return anchor.model_copy(update={"prefix": examples + anchor.prefix})


def main(spec_path: str, out: str) -> None:
    spec: dict[str, Any] = json.loads(Path(spec_path).read_bytes())
    pair, base = parse_pair(spec["pair"]), find_base(spec["base"])
    anchor = render(AnchorConfig.model_validate(spec["anchor"]), pair, base)
    if spec["shots"]:
        pairs = [p for c in spec["train"] for p in open_corpus(Path(c)).pairs("train")]
        anchor = with_shots(anchor, pairs, spec["shots"], spec["seed"])
    test = from_corpus(open_corpus(Path(spec["held"]["corpus"])), spec["held"]["split"])
    engine = choose_engine("auto")
    output = translate_set(base, [System("base", None, anchor, Decoding.model_validate(spec["decoding"]))], test, engine)["base"]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "adapter.hyp.txt", "".join(h + "\n" for h in output.hypotheses))
    scores = score_system(output.hypotheses, test.references, pair)
    system = {**scores, "truncated": output.truncated, "empty": output.empty}
    print(json.dumps({"name": test.name, "segments": len(test.sources), "systems": {"adapter": system}, "versions": versions(engine, base)}))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TellmtError as e:
        sys.exit(f"tellmt: {e}")
