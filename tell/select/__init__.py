"""The part of a pool that is worth training on (LTD, arXiv 2305.09246)."""
