"""A model file with new numbers: comments, order and layout of the text stay, a version is never reused."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from twinmodel.equations.load import Document, read
from twinmodel.errors import InputError

_WIDTH = 120
_KEPT = ("author", "source", "notes")


def next_version(version: str) -> str:
    """The next minor version: a fit keeps the meaning of a model and changes its numbers."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


def rewrite(
    document: Document,
    params: Mapping[str, float],
    *,
    version: str | None = None,
    noise: Mapping[str, Mapping[str, float]] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """The text of the model file with other numbers.

    Args:
        document: the model file; it is not changed.
        params: new values of parameters.
        version: of the new model; the next minor version by default.
        noise: new standard deviations, `process` and `measurement`.
        provenance: where the numbers come from; author, source and notes of the file stay.

    Raises:
        InputError: VALUE_INVALID when the version is the old one.
        ConfigError: when the new file is not valid: nothing is written then.
    """
    tree = copy.deepcopy(document.tree)
    for name, value in params.items():
        _set(tree["params"], name, value)
    target = version or next_version(document.spec.version)
    if target == document.spec.version:
        raise InputError("VALUE_INVALID", f"version {target} is taken by the model that was fitted")
    tree["version"] = target
    for group, values in (noise or {}).items():
        _group(_group(tree, "noise"), group).update(values)
    if provenance:
        # What an older fit said of its own data is not true of this one.
        tree["provenance"] = CommentedMap(
            {**{k: v for k, v in (tree.get("provenance") or {}).items() if k in _KEPT}, **provenance}
        )
    text = dump(tree)
    read(text, document.path)
    return text


def dump(tree: CommentedMap) -> str:
    """YAML text of a tree."""
    yaml = YAML(typ="rt", pure=True)
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def _set(params: CommentedMap, name: str, value: float) -> None:
    """A parameter is a mapping with a value, or the value alone."""
    exact = float(f"{value:.10g}")
    if isinstance(params[name], CommentedMap):
        params[name]["value"] = exact
    else:
        params[name] = exact


def _group(tree: CommentedMap, name: str) -> Any:
    if tree.get(name) is None:
        tree[name] = CommentedMap()
    return tree[name]
