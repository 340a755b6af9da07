"""A YAML file read with the place of every key, so that each complaint names file, line and column.

Only the plain core of YAML is read: no aliases, no tags, no duplicate keys, one document, bounded size and depth.
A configuration file needs nothing else, and the rest is how such files become bombs or surprises.

    text ─▶ libyaml ─┬─▶ content and places
                     └─ refuses, or would read YAML 1.1 ─▶ ruamel: reads it as YAML 1.2, or says what is wrong

libyaml takes a twentieth of the time, which counts while a plant of hundreds of devices is changed; ruamel alone
decides what is YAML and what people are told.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml import events as ruamel
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from twinmodel.errors import ConfigError

SIZE_MAX = 1 << 20
DEPTH_MAX = 32
ERRORS_SHOWN_MAX = 20

KeyPath = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
A = TypeVar("A")

_ALIAS = (yaml.AliasEvent, ruamel.AliasEvent)
_BEGIN = (yaml.DocumentStartEvent, ruamel.DocumentStartEvent)
_SCALAR = (yaml.ScalarEvent, ruamel.ScalarEvent)
_MAPPING = (yaml.MappingStartEvent, ruamel.MappingStartEvent)
_OPEN = (*_MAPPING, yaml.SequenceStartEvent, ruamel.SequenceStartEvent)
_CLOSE = (yaml.MappingEndEvent, yaml.SequenceEndEvent, ruamel.MappingEndEvent, ruamel.SequenceEndEvent)

_OTHERWISE = re.compile(r"[\t\x85\u2028\u2029\ufeff]|^%|^\?|[\s,\[{-]\?|[|>][-+0-9]{0,2} *(#.*)?\r?$", re.MULTILINE)
"""What the two read differently: tabs, breaks of lines beyond ASCII, directives, keys with a `?`, texts in blocks."""
_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column of a key or value, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one file and where each part of it stands.

    Attributes:
        path: the file.
        content: dicts, lists and scalars.
        keys: path of keys -> place of the last key.
        values: path of keys -> place of the value.
    """

    path: Path
    content: object
    keys: Mapping[KeyPath, Place] = field(default_factory=dict)
    values: Mapping[KeyPath, Place] = field(default_factory=dict)

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
            reason, text, hint=hint, path=str(self.path), line=place.line, column=place.column, key=dotted, **facts
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
        raise ConfigError("LIMIT_EXCEEDED", f"the file is larger than {SIZE_MAX} bytes", path=str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = raw[: wrong.start].count(b"\n") + 1
        raise ConfigError("YAML_INVALID", "the file is not UTF-8", path=str(path), line=line) from None


def parse_document(text: str, path: Path) -> Document:
    """Parses YAML text; `path` is only told in errors. Raises ConfigError YAML_INVALID."""
    return parse_quickly(text, path) or parse_carefully(text, path)


def parse_quickly(text: str, path: Path) -> Document | None:
    """By libyaml; None for whatever it refuses or might read otherwise, and where it was not built in."""
    if not yaml.__with_libyaml__ or _OTHERWISE.search(text):
        return None
    builder = _Builder(path)
    try:
        builder.read(_without_anchors(yaml.parse(text, Loader=yaml.CSafeLoader)))
    except (ConfigError, yaml.YAMLError, UnicodeError):
        return None
    return Document(path, builder.root, builder.keys, builder.values)


def _without_anchors(events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
    """What an anchor's name ends with is another thing they read differently."""
    for event in events:
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise yaml.YAMLError("an anchor")
        yield event


def parse_carefully(text: str, path: Path) -> Document:
    """By ruamel, in Python; raises ConfigError YAML_INVALID."""
    builder = _Builder(path)
    try:
        builder.read(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        raise builder.error(place, str(wrong.problem or wrong.context)) from None
    except YAMLError as wrong:
        raise builder.error(Place(1, 1), " ".join(str(wrong).split())) from None
    return Document(path, builder.root, builder.keys, builder.values)


class _Builder:
    """Builds the content from parser events; nothing is resolved that could grow or run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root: object = None
        self.keys: dict[KeyPath, Place] = {}
        self.values: dict[KeyPath, Place] = {}
        self._stack: list[dict[Any, Any] | list[Any]] = []
        self._paths: list[KeyPath] = [()]
        self._key: str | None = None
        self._documents = 0

    def error(self, place: Place, message: str, reason: str = "YAML_INVALID") -> ConfigError:
        return ConfigError(reason, message, path=str(self.path), line=place.line, column=place.column)

    def read(self, events: Iterable[Any]) -> None:
        """Takes the events of either parser: they have the same names and attributes."""
        for event in events:
            mark = event.start_mark
            place = Place(mark.line + 1, mark.column + 1)
            if isinstance(event, _SCALAR):
                self._scalar(event, place)
            elif isinstance(event, _OPEN):
                self._open(event, place)
            elif isinstance(event, _CLOSE):
                self._stack.pop()
                self._paths.pop()
            elif isinstance(event, _ALIAS):
                raise self.error(place, "aliases (*name) are not allowed; write the value out")
            elif isinstance(event, _BEGIN):
                self._documents += 1
                if self._documents > 1:
                    raise self.error(place, "only one document per file")

    def _open(self, event: Any, place: Place) -> None:
        if event.tag is not None and not event.implicit:
            raise self.error(place, f"tags are not allowed: {event.tag}")
        if len(self._stack) >= DEPTH_MAX:
            raise self.error(place, f"nested deeper than {DEPTH_MAX} levels", "LIMIT_EXCEEDED")
        if self._stack and isinstance(self._stack[-1], dict) and self._key is None:
            raise self.error(place, "a key must be plain text")
        value: dict[Any, Any] | list[Any] = {} if isinstance(event, _MAPPING) else []
        path = self._put(value, place)
        self._stack.append(value)
        self._paths.append(path)

    def _scalar(self, event: Any, place: Place) -> None:
        if event.tag is not None and not any(event.implicit):
            raise self.error(place, f"tags are not allowed: {event.tag}")
        if self._stack and isinstance(self._stack[-1], dict) and self._key is None:
            path = (*self._paths[-1], event.value)
            if event.value in self._stack[-1]:
                first = self.keys[path].line
                raise self.error(place, f"key {event.value!r} stands twice, first in line {first}", "YAML_INVALID")
            self.keys[path] = place
            self._key = event.value
            return
        absent = not event.value and event.start_mark.index == event.end_mark.index
        self._put(event.value if event.style else _plain(event.value), self._here() if absent else place)

    def _here(self) -> Place:
        """Place of a value that is not there: its key's, or that of the list it is missing from."""
        path = self._paths[-1]
        if self._key is not None:
            return self.keys[(*path, self._key)]
        return self.values[path] if self._stack else Place(1, 1)

    def _put(self, value: object, place: Place) -> KeyPath:
        path: KeyPath = ()
        if not self._stack:
            self.root = value
        elif isinstance(top := self._stack[-1], list):
            path = (*self._paths[-1], len(top))
            top.append(value)
        else:
            path = (*self._paths[-1], self._key or "")
            top[self._key] = value
            self._key = None
        self.values[path] = place
        return path


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) < 64:
        return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, for hints; None when none is like it."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def joined(errors: Sequence[ConfigError]) -> ConfigError:
    """One error of several: the first one's place, and the text of all. `errors` has at least one."""
    first = errors[0]
    if len(errors) == 1:
        return first
    shown = [f"{_where(e, first)}{e.message} ({e.hint})" for e in errors[1:ERRORS_SHOWN_MAX]]
    message = f"{first.message}; and {len(errors) - 1} more: " + "; ".join(shown)
    return ConfigError(first.reason, message, hint=first.hint, errors=len(errors), **first.facts)


def _where(error: ConfigError, first: ConfigError) -> str:
    """The line of a further error, and its file where that is another one."""
    path, line = error.facts.get("path"), error.facts.get("line")
    file = "" if path == first.facts.get("path") else f"{path} "
    return f"{file}line {line}: " if line is not None else file


def in_order(errors: Iterable[ConfigError]) -> list[ConfigError]:
    """Errors of one file in the order of their places."""
    return sorted(errors, key=lambda e: (e.facts.get("line", 0), e.facts.get("column", 0)))


def _errors(document: Document, model: type[BaseModel], invalid: ValidationError) -> list[ConfigError]:
    """All findings of pydantic; those of one place are one."""
    found: dict[tuple[KeyPath, bool], list[tuple[str, str | None]]] = {}
    for finding in invalid.errors(include_url=False, include_context=False, include_input=False):
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
    keys = loc
    while keys and keys not in document.values:
        keys = keys[:-1]
    return keys, message, None, "[key]" in loc


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
