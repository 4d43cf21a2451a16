#!/usr/bin/env python3
"""The files that llama.cpp reads, made with its own converters: the base and the base with the adapter merged in, both Q8_0, and the adapter as a LoRA.

Reads the source of llama.cpp, a prepared base and an adapter directory; writes base.gguf, merged.gguf and lora.gguf. The converters look for the
tokenizer's original file, which a prepared base need not have, so the pieces are written from tokenizer.json.

    python -m benchmarks.serving.engine.gguf_files LLAMA BASE ADAPTER DIR
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

FILES = ("base.gguf", "merged.gguf", "lora.gguf")
# Types of pieces, as GGUF numbers them.
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def merge(base: Path, adapter: Path, folder: Path) -> None:
    """The base with the adapter in its weights, in the base's own format."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (base / name).exists():
            shutil.copyfile(base / name, folder / name)


def pieces(base: Path) -> tuple[list[bytes], list[float], list[int]]:
    """(piece, score, type) of every id, as a tokenizer of llama.cpp's kind `llama` has them: an earlier id is merged first."""
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    names: dict[int, str] = {i: piece for piece, i in tokenizer["model"]["vocab"].items()}
    added = {t["id"]: t for t in tokenizer["added_tokens"]}
    names |= {i: t["content"] for i, t in added.items()}
    types = []
    for i in range(max(names) + 1):
        piece = names.get(i, "")
        byte = len(piece) == 6 and piece.startswith("<0x")
        types.append(UNKNOWN if piece == "<unk>" else BYTE if byte else CONTROL if i in added and added[i]["special"] else NORMAL)
    return [names.get(i, f"[PAD{i}]").encode() for i in range(len(types))], [-float(i) for i in range(len(types))], types


def convert(llama: Path, model: Path, out: Path) -> None:
    """convert_hf_to_gguf.py on a directory of a Gemma 3 model, with these pieces."""
    sys.path[:0] = [str(llama), str(llama / "gguf-py")]
    script: Any = importlib.import_module("convert_hf_to_gguf")
    gemma: Any = importlib.import_module("conversion.gemma")
    gguf: Any = importlib.import_module("gguf")

    def set_vocab(self: Any) -> None:
        tokens, scores, types = pieces(model)
        self.gguf_writer.add_tokenizer_model("llama")
        self.gguf_writer.add_tokenizer_pre("default")
        self.gguf_writer.add_token_list(tokens)
        self.gguf_writer.add_token_scores(scores)
        self.gguf_writer.add_token_types(types)
        self.gguf_writer.add_add_space_prefix(False)
        gguf.SpecialVocab(model, n_vocab=len(tokens)).add_to_gguf(self.gguf_writer)

    gemma.Gemma3Model.set_vocab = set_vocab
    sys.argv = ["convert_hf_to_gguf.py", str(model), "--outtype", "q8_0", "--outfile", str(out)]
    script.main()


def main() -> int:
    llama, base, adapter, folder = map(Path, sys.argv[1:5])
    if sys.argv[5:]:
        convert(llama, Path(sys.argv[5]), Path(sys.argv[6]))
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    merged = folder / "merged"
    merge(base, adapter, merged)
    for model, name in ((base, "base.gguf"), (merged, "merged.gguf")):
        # In a process of its own each: the converter keeps state in its module.
        command = [sys.executable, "-m", "benchmarks.serving.engine.gguf_files", *sys.argv[1:5], str(model), str(folder / name)]
        subprocess.run(command, check=True)
    shutil.rmtree(merged)
    lora = [str(llama / "convert_lora_to_gguf.py"), "--base", str(base), "--outtype", "f16", "--outfile", str(folder / "lora.gguf"), str(adapter)]
    subprocess.run([sys.executable, *lora], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
