"""Rows for the tests of the tables."""

from dataclasses import fields

from MedInpaintLib.evaluation.measures.row import Row


def row(**given):
    """A row of ones, except for the given attributes."""
    numbers = {field.name: 1 if field.type == "int" else 1.0 for field in fields(Row) if field.type != "str"}
    words = {"group": "g", "scan": "s", "kind": "k", "shape": "", "fill": "f"}
    return Row(**{**numbers, **words, "changed_outside": 0, **given})
