"""Base model, tokenizer, anchor and the protocol of engines: what turns a segment into a prompt and an output into a translation."""
