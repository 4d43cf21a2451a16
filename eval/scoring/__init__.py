"""Translates test sets, scores the hypotheses, and tests whether one system is better than another."""
