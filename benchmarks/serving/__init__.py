"""Measurements of the running service and of batch runs."""
