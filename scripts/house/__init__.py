"""What scripts/measure_house.py counts: names, uses, packages and their imports, read from the source; and the files on a request's way, from a run."""
