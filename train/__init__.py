"""Base models and LoRA training. Reads mixed.jsonl, writes adapter directories."""
