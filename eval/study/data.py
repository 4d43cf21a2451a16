"""The data of a study's arms that no command makes: answers dealt out anew, and the tokens of task examples before they are mixed."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tell.corpus.directory import open_corpus
from tell.errors import CorpusError
from tell.files import write_atomic
from tell.languages import parse_pair
from tell.model.anchor import AnchorConfig, render
from tell.model.base import Base
from tell.model.tokenizer import BaseTokenizer
from tell.records import Example


def shuffle_answers(pool: Sequence[Path], out: Path, seed: int) -> int:
    """Write the general examples of the files with the answers dealt out anew among the prompts by the seed, and return how many kept their own.

    The texts stay what they were, and so does their number of tokens; only what answers what is lost.
    """
    rows: list[dict[str, Any]] = []
    for path in pool:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for number, line in enumerate(raw.decode("utf-8").split("\n"), 1):
            if line:
                try:
                    row = json.loads(line)
                    rows.append({"prompt": row["prompt"], "completion": row["completion"]})
                except (ValueError, KeyError, TypeError):
                    raise CorpusError("not a general example", place=f"{path}, line {number}", valid="a JSON object with prompt and completion") from None
    answers = [r["completion"] for r in rows]
    random.Random(f"answers {seed}").shuffle(answers)
    write_atomic(out, "".join(json.dumps({"prompt": r["prompt"], "completion": a}, ensure_ascii=False) + "\n" for r, a in zip(rows, answers, strict=True)))
    return sum(r["completion"] == a for r, a in zip(rows, answers, strict=True))


def task_tokens(corpora: Sequence[Path], anchor: dict[str, Any], pair: str, base: Base) -> int:
    """The tokens of all training pairs of the corpora as task examples, each once."""
    rendered = render(AnchorConfig.model_validate(anchor), parse_pair(pair), base)
    pairs = (p for path in corpora for p in open_corpus(path).pairs("train"))
    examples = [Example(f"task:{p.doc}:{p.line}", "task", rendered.prompt(p.source), rendered.opening, p.target) for p in pairs]
    return sum(len(ids) for ids, _ in BaseTokenizer(base, rendered.chat).example_ids(examples))
