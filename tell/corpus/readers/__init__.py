"""Parallel files as people have them, each format read into segments; `tell.readers` chooses which."""
