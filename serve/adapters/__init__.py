"""Versions of adapters in a running service: followed, proved, loaded, unloaded."""
