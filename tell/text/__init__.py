"""What can be said of a text without an engine: its placeholders, its segments, its language, and what is odd about its translation."""
