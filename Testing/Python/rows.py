"""Rows of the experiment's table for the tests."""

from dataclasses import fields

from MedInpaintLib.evaluation.measures.row import Row


def row(**given):
    """A row of ones, but for what is given."""
    numbers = {field.name: 1 if field.type == "int" else 1.0 for field in fields(Row) if field.type != "str"}
    words = {"group": "g", "scan": "s", "kind": "k", "shape": "", "fill": "f"}
    return Row(**{**numbers, **words, "changed_outside": 0, **given})
