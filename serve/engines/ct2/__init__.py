"""The ctranslate2 engine: merged weights, converted and cached."""
