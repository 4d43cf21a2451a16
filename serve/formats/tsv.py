"""Columns of TSV: as CSV, but cells are divided by tabs and have no quotes, so a quote is a character like any other."""

from __future__ import annotations

from typing import IO

from serve.formats.csv import convert_rows
from serve.formats.units import Options, UnitVisitor


def convert(source: IO[bytes], out: IO[bytes], visitor: UnitVisitor, options: Options) -> None:
    convert_rows(source, out, visitor, options, "\t")
