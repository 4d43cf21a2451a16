"""Task data, anchored, shuffled through general data (TELL, arXiv 2404.00914)."""
