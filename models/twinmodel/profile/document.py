"""A YAML file read with the place of every key, so that each complaint names file, line and column.

Only the plain core of YAML is read: no aliases, no tags, no duplicate keys, one document, bounded size and depth.
A configuration file needs nothing else, and the rest is how such files become bombs or surprises.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from twinmodel.errors import ConfigError
from twinmodel.profile.parsing import KeyPath, Place, parse_carefully, parse_quickly

SIZE_MAX = 1 << 20
ERRORS_SHOWN_MAX = 20

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one file and where each part of it stands.

    Attributes:
        path: the file.
        content: dicts, lists and scalars.
        keys: path of keys -> place of the last key.
        values: path of keys -> place of the value.
        named: what errors call it, where that is not `path`: a draft is read as if it lay in its place.
    """

    path: Path
    content: object
    keys: Mapping[KeyPath, Place] = field(default_factory=dict)
    values: Mapping[KeyPath, Place] = field(default_factory=dict)
    named: Path | None = None

    def place(self, keys: Sequence[str | int], *, key: bool = False) -> Place:
        """Where a value (or its key) stands; the nearest enclosing place when the path does not exist."""
        table = self.keys if key else self.values
        for length in range(len(keys), -1, -1):
            found = table.get(tuple(keys[:length])) or self.values.get(tuple(keys[:length]))
            if found is not None:
                return found
        return Place(1, 1)

    def error(
        self,
        reason: str,
        keys: Sequence[str | int],
        message: str,
        *,
        hint: str | None = None,
        key: bool = False,
        **facts: object,
    ) -> ConfigError:
        """A ConfigError at the place of `keys`, ready to be raised."""
        place = self.place(keys, key=key)
        dotted = ".".join(str(k) for k in keys)
        text = f"{dotted}: {message}" if dotted else message
        return ConfigError(
            reason,
            text,
            hint=hint,
            path=str(self.named or self.path),
            line=place.line,
            column=place.column,
            key=dotted,
            **facts,
        )

    def read(self, keys: Sequence[str | int], parse: Callable[[A], T], text: A) -> T:
        """Reads one small language; its ValueError becomes VALUE_INVALID at the place of `keys`."""
        try:
            return parse(text)
        except ValueError as wrong:
            raise self.error("VALUE_INVALID", keys, str(wrong)) from None

    def validate(self, model: type[M]) -> M:
        """Fits the content to a pydantic model; raises one ConfigError that lists everything wrong."""
        fitted = self.fit(model)
        if isinstance(fitted, list):
            raise joined(fitted)
        return fitted

    def fit(self, model: type[M]) -> M | list[ConfigError]:
        """Fits the content to a pydantic model, or lists everything wrong in the order of its place."""
        try:
            return model.model_validate(self.content)
        except ValidationError as invalid:
            return _errors(self, model, invalid)


def read_document(path: Path | str) -> Document:
    """Reads one YAML file.

    Raises:
        ConfigError: FILE_MISSING, LIMIT_EXCEEDED, or YAML_INVALID with the place.
    """
    path = Path(path)
    return parse_document(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of one bounded file; raises ConfigError FILE_MISSING, LIMIT_EXCEEDED, or YAML_INVALID for no UTF-8."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(SIZE_MAX + 1)
    except OSError as lost:
        raise ConfigError("FILE_MISSING", f"cannot read {path}: {lost.strerror}", path=str(path)) from lost
    if len(raw) > SIZE_MAX:
        hint = "is it the right file? devices of one kind may be written as a range"
        raise ConfigError("LIMIT_EXCEEDED", f"the file is larger than {SIZE_MAX} bytes", hint=hint, path=str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = raw[: wrong.start].count(b"\n") + 1
        hint = "is it the right file? save it as text, encoded in UTF-8"
        raise ConfigError("YAML_INVALID", "the file is not UTF-8", hint=hint, path=str(path), line=line) from None


def parse_document(text: str, path: Path, named: Path | None = None) -> Document:
    """Parses YAML text.

    Args:
        text: of the file.
        path: where it lies, or would lie.
        named: what errors call it, `path` without it.

    Raises:
        ConfigError: YAML_INVALID, LIMIT_EXCEEDED.
    """
    parsed = parse_quickly(text, named or path) or parse_carefully(text, named or path)
    return Document(path, parsed.content, parsed.keys, parsed.values, named)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, for hints; None when none is like it."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def joined(errors: Sequence[ConfigError]) -> ConfigError:
    """One error of several: the first one's place, and the text of all. `errors` has at least one."""
    first = errors[0]
    if len(errors) == 1:
        return first
    shown = [f"{_where(e, first)}{_with_hint(e)}" for e in errors[1:ERRORS_SHOWN_MAX]]
    message = f"{first.message}; and {len(errors) - 1} more: " + "; ".join(shown)
    return ConfigError(first.reason, message, hint=first.hint, errors=len(errors), **first.facts)


def _where(error: ConfigError, first: ConfigError) -> str:
    """The line of a further error, and its file where that is another one."""
    path, line = error.facts.get("path"), error.facts.get("line")
    file = "" if path == first.facts.get("path") else f"{path} "
    return f"{file}line {line}: " if line is not None else file


def _with_hint(error: ConfigError) -> str:
    return error.message if not error.hint or error.hint in error.message else f"{error.message} ({error.hint})"


def in_order(errors: Iterable[ConfigError]) -> list[ConfigError]:
    """Errors of one file in the order of their places."""
    return sorted(errors, key=lambda e: (e.facts.get("line", 0), e.facts.get("column", 0)))


def _errors(document: Document, model: type[BaseModel], invalid: ValidationError) -> list[ConfigError]:
    """All findings of pydantic; those of one place are one, and a key that is only misspelt is not missing."""
    found: dict[tuple[KeyPath, bool], list[tuple[str, str | None]]] = {}
    findings = invalid.errors(include_url=False, include_context=False, include_input=False)
    unknown_keys = [finding["loc"] for finding in findings if finding["type"] == "extra_forbidden"]
    meant = {(*loc[:-1], nearest(str(loc[-1]), _keys_of(model, loc[:-1]))) for loc in unknown_keys}
    for finding in findings:
        if finding["type"] == "missing" and finding["loc"] in meant:
            continue
        keys, message, hint, unknown = _finding(document, model, finding["type"], finding["loc"], finding["msg"])
        texts = found.setdefault((keys, unknown), [])
        if message not in (text for text, _ in texts):
            texts.append((message, hint))
    errors = []
    for (keys, unknown), texts in found.items():
        text = " or ".join(message for message, _ in texts)
        hint = next((h for _, h in texts if h), None)
        reason = "UNKNOWN_KEY" if unknown else "VALUE_INVALID"
        errors.append(document.error(reason, keys, text, hint=hint, key=unknown))
    return in_order(errors)


def _finding(
    document: Document, model: type[BaseModel], kind: str, loc: tuple[int | str, ...], message: str
) -> tuple[KeyPath, str, str | None, bool]:
    """Path in the file, text, hint and whether the key itself is unknown, for one finding of pydantic."""
    message = message.removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind == "extra_forbidden":
        known = _keys_of(model, loc[:-1])
        guess = nearest(str(loc[-1]), known)
        hint = f"did you mean `{guess}`?" if guess else f"valid keys: {', '.join(sorted(known))}"
        return loc, f"unknown key; {hint}", hint, True
    if kind == "missing":
        return loc, "is missing", f"add the key `{loc[-1]}`", False
    if kind in _SHAPES:
        message = _SHAPES[kind]
    keys = loc
    while keys and keys not in document.values:
        keys = keys[:-1]
    return keys, message, None, "[key]" in loc


_SHAPES: Mapping[str, str] = {
    **dict.fromkeys(("model_type", "dict_type", "model_attributes_type"), "here belong keys with values, `key: value`"),
    "list_type": "here belongs a list, `[one, two]`",
}


def _keys_of(annotation: Any, loc: Sequence[int | str]) -> list[str]:
    """Valid keys of the model that `loc` leads to."""
    if get_origin(annotation) in {Union, types.UnionType}:
        return [key for option in get_args(annotation) for key in _keys_of(option, loc)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        names = {info.alias or name: info.annotation for name, info in annotation.model_fields.items()}
        return _keys_of(names.get(str(loc[0])), loc[1:]) if loc else list(names)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {dict, list, tuple} and loc and arguments:
        return _keys_of(arguments[-1] if origin is dict else arguments[0], loc[1:])
    return _keys_of(arguments[0], loc) if arguments and hasattr(annotation, "__metadata__") else []
