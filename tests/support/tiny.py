"""A tiny real base (2-layer Gemma 3 with random weights, a byte-level tokenizer) and adapters for it.

Everything that runs on it is the real code on a real checkpoint: only the size is small.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tell.adapter.card import CONFIG, WEIGHTS, Adapter, BaseRef, Card, open_adapter, write_card
from tell.files import sha256_file, write_json
from tell.languages import parse_pair
from tell.model.anchor import AnchorConfig, render
from tell.model.base import MANIFEST, Base

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = 1024
TINY_CONTEXT = 2048


def _tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "examples" / "en-is").glob("*.tsv"))]
    tokenizer.train_from_iterator((line for text in texts for line in text.split("\n")), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>")
    fast.save_pretrained(path)


def make_tiny_base(cache: Path, base_id: str = "tiny") -> Base:
    """Register a tiny base under `cache` (what TELLMT_CACHE names) and return it. Made again, it is the same bytes."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    path = cache / "bases" / base_id
    if (path / MANIFEST).exists():
        return Base.model_validate(json.loads((path / MANIFEST).read_text()))
    path.mkdir(parents=True)
    _tokenizer(path)
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        query_pre_attn_scalar=64,
        sliding_window=512,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=TINY_CONTEXT,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    model = Gemma3ForCausalLM(config)
    # Input and output embeddings are one matrix: unless the layers outweigh it, such a model only repeats its last token, adapter or not.
    for name, p in model.named_parameters():
        if "post_attention_layernorm" in name or "post_feedforward_layernorm" in name:
            torch.nn.init.constant_(p, 4.0)
    torch.random.set_rng_state(state)
    model.to(torch.bfloat16).save_pretrained(path)
    files = {n: sha256_file(path / n) for n in ("config.json", "model.safetensors", "tokenizer.json")}
    base = Base(
        id=base_id,
        revision=files["model.safetensors"],
        path=path,
        bos_id=2,
        eos_ids=[1],
        context=TINY_CONTEXT,
        architecture="Gemma3ForCausalLM",
        parameters="tiny",
        licence="CC0",
        notice="made for tests",
        files=files,
    )
    write_json(path / MANIFEST, base.model_dump(mode="json"))
    return base


def make_tiny_adapter(path: Path, base: Base, pair: str = "is-en", seed: int = 0, rank: int = 8, scale: float = 0.5) -> Adapter:
    """A valid adapter directory with random LoRA weights, large enough to change every output."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shutil.rmtree(path, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM", base_model_name_or_path=base.id))
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data = torch.randn(p.shape, generator=generator) * scale
        elif "lora_A" in name:
            p.data = torch.randn(p.shape, generator=generator) * 0.1
    model.save_pretrained(path)
    # peft adds a README with the local path in it; an adapter directory holds the three files only.
    (path / "README.md").unlink(missing_ok=True)
    config = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps(config, sort_keys=True))
    card = Card(
        pair=str(parse_pair(pair)),
        base=BaseRef(id=base.id, revision=base.revision),
        anchor=render(AnchorConfig(), parse_pair(pair)),
        rank=rank,
        recipe={},
        seed=seed,
        data={},
        training={},
        versions={},
        files={n: sha256_file(path / n) for n in (WEIGHTS, CONFIG)},
    )
    write_card(path, card)
    return open_adapter(path)
