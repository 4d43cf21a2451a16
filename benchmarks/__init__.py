"""How fast and how good tellmt is, measured: each module is run as `python -m benchmarks.GROUP.NAME`."""
