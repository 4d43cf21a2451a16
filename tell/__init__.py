"""The TELL method and the contracts every stage shares. Importable without torch."""

__version__ = "0.1.0"
