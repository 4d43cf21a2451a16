"""Adapter directories: card, weights, golden sentences, archives, and those that come with tellmt."""
