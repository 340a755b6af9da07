"""The filter language of listings and fleets: text to a checked tree, and that to SQL or to a test of one record.

    text ─▶ tokens ─▶ grammar ─▶ tree ─┬─▶ sql      expressions with bound parameters over named columns
                         │             └─▶ memory   a predicate over a nested mapping
                       fields: what may be named, and of which kind

`site = "mill" and tags.line = "3" and (estimated.flow.value > 12 or drifting)`; the grammar is in docs/api.md.
Nothing has a value of `null`, and every test of nothing is false but `= null`: the logic has two values, in SQL too.
"""

from twincloud.filters.fields import Field, Fields, Kind
from twincloud.filters.filter import Filter, parse

__all__ = ["Field", "Fields", "Filter", "Kind", "parse"]
