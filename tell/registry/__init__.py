"""Published adapters and their aliases, in a directory or an object store."""
