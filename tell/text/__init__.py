"""Analyses texts without an engine: placeholders, segments, languages, and flags of translations."""
