"""New versions of a model file: other numbers, the same text around them, comments kept."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from twinmodel.equations.load import Document, read
from twinmodel.equations.parse import nearest
from twinmodel.errors import InputError

_WIDTH: Final = 120
_DIGITS: Final = 10


def with_params(
    document: Document,
    params: Mapping[str, float | Mapping[str, Any]],
    *,
    noise: Mapping[str, Mapping[str, float]] | None = None,
    provenance: Mapping[str, Any] | None = None,
    regime: Mapping[str, Any] | None = None,
    version: str | None = None,
) -> Document:
    """A model with other numbers, checked like any file; the document handed in stays as it is.

    Args:
        document: the model file.
        params: new value by name, or any of `value`, `sigma`, `bounds`, `calibrate`, `unit`.
        noise: new standard deviations by `process`, `measurement` or `inputs`; others stay.
        provenance: new facts by name; others stay, metrics and notes are merged.
        regime: new parts of the regime; others stay.
        version: of the new model.

    Returns:
        A document whose tree carries the comments of the old one; `dump` gives its text.

    Raises:
        InputError: VALUE_INVALID for a name that is no parameter.
        ConfigError: as `load.read`; nothing is changed then.
    """
    tree = copy.deepcopy(document.tree)
    for name, change in params.items():
        if name not in document.spec.params:
            message = f"{name!r} is no parameter of {document.spec.model}{nearest(name, document.spec.params)}"
            raise InputError("VALUE_INVALID", message)
        _edit(tree["params"], name, change if isinstance(change, Mapping) else {"value": change})
    for group, values in (noise or {}).items():
        _merge(_group(_group(tree, "noise"), group), values)
    for part, facts in (("provenance", provenance), ("regime", regime)):
        if facts:
            _merge(_group(tree, part), facts)
    if version is not None:
        tree["version"] = version
    return read(dump(tree), document.path)


def dump(document: Document | Mapping[str, Any]) -> str:
    """The text of a model file, or of a tree of plain values; comments stand where they stood."""
    yaml = YAML(typ="rt", pure=True)
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(document.tree if isinstance(document, Document) else plain(document), stream)
    return stream.getvalue()


def plain(value: Any) -> Any:
    """Lists, mappings, texts and numbers of Python, whatever arrays or tuples were handed in; None stays out."""
    if isinstance(value, CommentedMap):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if v is not None}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    return value


def _edit(params: CommentedMap, name: str, changes: Mapping[str, Any]) -> None:
    """A parameter is a mapping with a value, or the value alone."""
    rounded = {k: _rounded(v) for k, v in plain(changes).items()}
    if isinstance(params[name], CommentedMap):
        params[name].update(rounded)
    elif set(rounded) == {"value"}:
        params[name] = rounded["value"]
    else:
        entry = CommentedMap({"value": params[name]} | rounded)
        entry.fa.set_flow_style()
        params[name] = entry


def _merge(group: CommentedMap, values: Mapping[str, Any]) -> None:
    for name, value in plain(values).items():
        if isinstance(value, dict) and isinstance(group.get(name), CommentedMap):
            _merge(group[name], value)
        else:
            group[name] = _rounded(value)


def _rounded(value: Any) -> Any:
    """Numbers to ten digits: more than any fit knows, and pleasant to read."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def _group(tree: CommentedMap, name: str) -> CommentedMap:
    if tree.get(name) is None:
        tree[name] = CommentedMap()
    group: CommentedMap = tree[name]
    return group
