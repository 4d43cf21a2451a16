"""`tellmt pair`: a language pair from a small corpus, from its workspace and its plan to the commands that are run."""
