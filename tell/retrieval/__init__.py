"""Retrieval: the training pairs that are nearest to a text, written into its prompt."""
