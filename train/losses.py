"""The loss of each held-out segment under an adapter, given its reference.

Reads an adapter directory, its base and a corpus. Returns one row a segment: its tokens (reference and EOS) and their summed
cross-entropy in nats. Cheaper and steadier than translating, and comparable between adapters of one base and one anchor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tell.adapter.card import WEIGHTS, check_base, hinter_of, open_adapter, retriever_of
from tell.console import progress
from tell.errors import CorpusError
from tell.extras import need
from tell.lexicon.hints import Hinter
from tell.machine import cores
from tell.model.anchor import Anchor
from tell.model.base import find_base
from tell.model.tokenizer import BaseTokenizer
from tell.model.translator import prompt_texts
from tell.records import Example, Pair
from tell.retrieval.retriever import Retriever
from train.config import LoraOptions, TrainOptions
from train.distributed import keep_few_shapes
from train.plan import Tokenised, micro_batches

# Tokens, padding included, in one forward pass.
BATCH_TOKENS = 2048


def held_out_examples(pairs: Sequence[Pair], anchor: Anchor, tokens: BaseTokenizer, hinter: Hinter | None, retriever: Retriever | None) -> list[Tokenised]:
    """The references of held-out pairs as training sees them. The opening is part of the prompt, as in serving, so losses under different anchors are over
    the same tokens."""
    opening_tokens = len(tokens.encode(anchor.opening))
    prompts = [anchor.prompt(next(prompt_texts(p.source, hinter, retriever))[1]) for p in pairs]
    examples = [Example(f"task:{p.doc}:{p.line}", "task", prompt, anchor.opening, p.target) for p, prompt in zip(pairs, prompts, strict=True)]
    return [Tokenised(ids, start + opening_tokens, True) for ids, start in tokens.example_ids(examples)]


def token_losses(model: Any, data: Sequence[Tokenised], pad: int, device: str) -> Iterator[tuple[int, Any]]:
    """(index, nats of each token of the response) of all examples, under the softmax of all words; batch by batch, not in their order. Takes no gradients."""
    import torch

    from train.model import collate, response_states
    from train.output_layer import output_layer, output_losses

    layer = output_layer(model.get_base_model())
    with torch.no_grad():
        for batch in micro_batches(list(range(len(data))), data, BATCH_TOKENS):
            micro_batch = collate([data[i] for i in batch], pad).to(device)
            losses = output_losses(response_states(model, micro_batch), layer, micro_batch.labels).cpu()
            offset = 0
            for i in batch:
                n = len(data[i].ids) - data[i].start
                yield i, losses[offset : offset + n].double()
                offset += n


def segment_losses(adapter_path: Path, pairs: list[Pair], each: bool = False) -> list[dict[str, Any]]:
    """[{"line": from 1, "tokens": n, "nats": x}] in the order of `pairs`; with `each`, "each" has the nats of every token. Raises CorpusError when there
    are none, AdapterError when the adapter is damaged."""
    keep_few_shapes()
    torch = need("torch", "train")
    for module in ("transformers", "peft", "safetensors"):
        need(module, "train")
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    from train.model import load_model, pick_dtype

    adapter = open_adapter(adapter_path)
    card = adapter.card
    base = find_base(card.base.id)
    check_base(adapter, base.id, base.revision)
    if not pairs:
        raise CorpusError("there are no segments to compute a loss for", found="0 segments", valid="at least 1")
    tokens = BaseTokenizer(base, card.anchor.chat)
    data = held_out_examples(pairs, card.anchor, tokens, hinter_of(adapter), retriever_of(adapter))
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    if not cuda:
        torch.set_num_threads(cores())
    lora = LoraOptions.model_validate(card.recipe.get("lora", {"rank": card.rank}))
    model = load_model(base, lora, pick_dtype(TrainOptions(), cuda), device, 0)
    set_peft_model_state_dict(model, load_file(adapter.path / WEIGHTS, device=device))
    model.eval()
    rows: dict[int, dict[str, Any]] = {}
    with progress() as bar:
        task = bar.add_task("losses", total=len(data))
        for i, losses in token_losses(model, data, base.eos_ids[0], device):
            rows[i] = {"line": i + 1, "tokens": len(losses), "nats": round(float(losses.sum()), 6)}
            rows[i] |= {"each": [round(x, 3) for x in losses.tolist()]} if each else {}
            bar.advance(task)
    return [rows[i] for i in range(len(data))]
