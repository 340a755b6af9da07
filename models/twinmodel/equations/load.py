"""Reading a model file: YAML with places, so that every error names its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from twinmodel.equations.families import complete
from twinmodel.equations.parse import Source, nearest
from twinmodel.equations.schema import Spec
from twinmodel.errors import ConfigError

FILE_MAX: Final = 256 * 1024
_NODES_MAX: Final = 20_000
# How a package begins.
_PACKAGE: Final = b"TWINPKG"


@dataclass(frozen=True, slots=True)
class Document:
    """A model file that has the right shape, and where its parts stand.

    Attributes:
        spec: the content, with what its family adds by itself.
        path: file, for errors.
        tree: YAML with line numbers.
    """

    spec: Spec
    path: str
    tree: CommentedMap

    def source(self, text: str, *keys: str) -> Source:
        """Place of an expression, by its keys from the root."""
        line, column = _place(self.tree, keys)
        return Source(text, keys[-1] if keys[-1] != "value" else keys[-2], self.path, line, column)

    def fail(self, reason: str, message: str, *keys: str) -> ConfigError:
        """An error at the place of `keys`."""
        line, column = _place(self.tree, keys)
        return ConfigError(reason, f"{'.'.join(keys)}: {message}", path=self.path, line=line, column=column)


def load(path: Path) -> Document:
    """Reads a model file.

    Raises:
        ConfigError: FILE_MISSING, YAML_INVALID, UNKNOWN_KEY or VALUE_INVALID, with path, line and column.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ConfigError("FILE_MISSING", f"cannot read it: {error.strerror}", path=str(path)) from error
    if len(raw) > FILE_MAX:
        raise ConfigError("YAML_INVALID", f"the file is larger than {FILE_MAX} bytes", path=str(path))
    if raw.startswith(_PACKAGE):
        hint = "give the model file (YAML) that it was built from"
        raise ConfigError("YAML_INVALID", "the file is a model package", path=str(path), hint=hint)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError("YAML_INVALID", "the file is not UTF-8", path=str(path)) from error
    return read(text, str(path))


def read(text: str, path: str = "<text>") -> Document:
    """Reads the text of a model file; see `load`."""
    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        message = str(error.problem or error.context or "cannot be read")
        raise ConfigError("YAML_INVALID", message, path=path, line=line, column=column) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError("YAML_INVALID", f"cannot be read: {error}".splitlines()[0], path=path) from error
    if not isinstance(tree, CommentedMap):
        raise ConfigError("YAML_INVALID", "the file must hold a mapping", path=path, line=1)
    try:
        spec = Spec.model_validate(_plain(tree, [0], path))
    except ValidationError as error:
        raise _first(error, tree, path) from error
    try:
        spec = complete(spec)
    except ValueError as error:
        line, column = _place(tree, _keys(str(error).partition(": ")[0]))
        raise ConfigError("VALUE_INVALID", str(error), path=path, line=line, column=column) from error
    return Document(spec, path, tree)


def _plain(node: object, count: list[int], path: str) -> object:
    """Plain lists, dicts and scalars of a YAML tree; bounded, because aliases can multiply."""
    count[0] += 1
    if count[0] > _NODES_MAX:
        raise ConfigError("YAML_INVALID", f"the file has more than {_NODES_MAX} values", path=path)
    if isinstance(node, Mapping):
        return {str(k): _plain(v, count, path) for k, v in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_plain(v, count, path) for v in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return str(node)


def _place(tree: CommentedMap, keys: Sequence[str | int]) -> tuple[int, int]:
    """Line and column, counted from 1, of the value under `keys`, or of the deepest part that exists."""
    node: Any = tree
    line, column = 0, 0
    for key in keys:
        if isinstance(node, CommentedMap) and key in node:
            line, column = node.lc.value(key)
        elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
            line, column = node.lc.item(key)
        else:
            break
        node = node[key]
    return line + 1, column + 1


def _keys(named: str) -> list[str]:
    return named.split(".")


def _first(error: ValidationError, tree: CommentedMap, path: str) -> ConfigError:
    # A key that is misspelt explains the one that is missing.
    fault = min(error.errors(include_url=False), key=lambda f: f["type"] != "extra_forbidden")
    keys: tuple[str | int, ...] = tuple(k for k in fault["loc"] if k != "[key]")
    message = fault["msg"].removeprefix("Value error, ")
    # What is wrong with the whole names its place itself: `noise.process.h: no such name`.
    named = message.partition(": ")[0]
    line, column = _place(tree, keys if keys or " " in named else _keys(named))
    where = ".".join(map(str, keys))
    if fault["type"] == "extra_forbidden":
        known = {f.alias or n for n, f in Spec.model_fields.items()} if len(keys) == 1 else set()
        message = f"unknown key {where!r}{nearest(str(keys[-1]), known)}"
        return ConfigError("UNKNOWN_KEY", message, path=path, line=line, column=column)
    message = f"{where}: {message}" if where else message
    return ConfigError("VALUE_INVALID", message, path=path, line=line, column=column)
