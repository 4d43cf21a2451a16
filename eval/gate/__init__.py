"""Whether an adapter goes live, and how it decodes."""
