"""Measurements of translation quality and of what watches over it."""
