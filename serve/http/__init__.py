"""Bounds around the HTTP server: connections, heads, bodies."""
