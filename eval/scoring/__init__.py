"""Hypotheses and their scores: translate a test set, score it, compare two systems by chance."""
