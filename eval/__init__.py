"""Scores with signatures, the gate, and what decides whether an adapter goes live."""
