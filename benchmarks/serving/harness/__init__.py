"""What the serving benchmarks share: a service as a process, load, the raw engine beside it, ratios."""
