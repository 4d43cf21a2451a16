"""`tellmt decoding`: choose how an adapter decodes, by the dev split of its corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tell.command import Command
from tell.console import emit, say, table

DIRECTORY = click.Path(path_type=Path)


def shown(result: dict[str, Any]) -> Any:
    rows = []
    for r in result["tried"]:
        chrf, bleu = (f"{r[m]['score']:.1f} ± {r[m]['ci']:.1f}" for m in ("chrf", "bleu"))
        against = [f"{r['paired'][m]['delta']:+.2f}, p = {r['paired'][m]['p']:.4f}" for m in ("chrf", "bleu")] if "paired" in r else ["", ""]
        rows.append([f"{r['penalty']:g}{' (chosen)' if r['penalty'] == result['chosen'] else ''}", chrf, bleu, r["stuck"], *against])
    part = result.get("part", {})
    half = f" of {part['of']:,}, the half that chooses" if part.get("part") == "choosing" else ""
    title = f"{result['pair']}, {result['segments']:,} dev segments{half}"
    return table(title, ["penalty", "chrF2", "BLEU", "loops or cut", "chrF2, gained", "BLEU, gained"], rows)


@click.command(cls=Command)
@click.argument("adapter", type=DIRECTORY)
@click.option("--corpus", type=DIRECTORY, required=True, help="Corpus directory that the adapter was trained on; its dev split chooses.")
@click.option("--engine", default="auto", show_default=True, help="Engine driver: vllm, ct2, or auto.")
@click.option("--force", is_flag=True, help="Choose again although nothing changed.")
def decoding(adapter: Path, corpus: Path, engine: str, force: bool) -> None:
    """Choose the penalty on repetition that ADAPTER decodes with, and write it into its card.

    Adapters of small corpora repeat themselves. While any of the first 200 dev segments repeats itself or reaches the token limit, this tries the next of 1.1,
    1.2 and 1.3, and takes it if its chrF2 is better than the best before it and its BLEU is not worse (paired tests, p < 0.1). Do this before scoring and
    publishing.

    Where the dev split has 200 segments or more, only one half of it is asked, and `tellmt publish` judges on the other. With fewer than 100 nothing is
    chosen, and the adapter decodes as its recipe says ([decoding] repetition_penalty, 1 by default).
    """
    from eval.gate.decoding import choose_decoding, decoding_path
    from tell.adapter.card import open_adapter

    result, reused = choose_decoding(adapter, corpus, engine, force)
    if "not_chosen" in result:
        say(f"nothing is chosen, since {result['not_chosen']}: the penalty on repetition is the recipe's, {result['chosen']:g} ([decoding] repetition_penalty)")
    say(f"unchanged, reused: {decoding_path(adapter)}" if reused else f"wrote {decoding_path(adapter)}")
    emit({**result, "id": open_adapter(adapter).id, "reused": reused, "path": str(decoding_path(adapter))}, lambda: shown(result))
