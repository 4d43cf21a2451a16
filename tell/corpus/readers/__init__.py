"""Parallel files as people have them, each format read into segments; `tell.corpus.readers.dispatch` chooses which."""
