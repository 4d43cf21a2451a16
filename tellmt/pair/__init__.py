"""A language pair from a small corpus: what `tellmt pair` keeps of it, plans for it, and runs."""
