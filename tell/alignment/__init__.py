"""A word-aligned lexicon of a pair, from its own training pairs: alignment, counts, and what each pair gave to them."""
