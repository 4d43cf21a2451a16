"""From a text to its translation: segments, prompts, second tries, choice, places."""
