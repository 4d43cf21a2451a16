"""Versions of adapters in a running service: followed, loaded, checked, evicted."""
