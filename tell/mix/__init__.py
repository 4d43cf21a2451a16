"""Mixes anchored task data with general data (TELL, arXiv 2404.00914)."""
