"""Whose turn it is, how much may wait, what is answered from memory."""
