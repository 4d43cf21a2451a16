"""Bilingual lexicons: learned from a corpus by word alignment, joined with dictionaries, and looked up for hints on the words of a text."""
