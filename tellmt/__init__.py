"""Turn a small parallel corpus into a running translation service."""
