"""The queue in front of the engine: turns, admission, and the cache of translations."""
