"""`tellmt translate`: files translated in batch, here or by a running service."""
