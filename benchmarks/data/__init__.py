"""Measurements of corpora, mixes and selection."""
