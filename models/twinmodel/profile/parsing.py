"""YAML text parsed with the place of every key and value.

    text ─▶ libyaml ─┬─▶ content and places
                     └─ refuses, or would read YAML 1.1 ─▶ ruamel: reads it as YAML 1.2, or says what is wrong

libyaml takes a twentieth of the time, which counts while a plant of hundreds of devices is changed; ruamel alone
decides what is YAML and what people are told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml import events as ruamel
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from twinmodel.errors import ConfigError

DEPTH_MAX = 32

KeyPath = tuple[str | int, ...]

_ALIAS = (yaml.AliasEvent, ruamel.AliasEvent)
_BEGIN = (yaml.DocumentStartEvent, ruamel.DocumentStartEvent)
_SCALAR = (yaml.ScalarEvent, ruamel.ScalarEvent)
_MAPPING = (yaml.MappingStartEvent, ruamel.MappingStartEvent)
_OPEN = (*_MAPPING, yaml.SequenceStartEvent, ruamel.SequenceStartEvent)
_CLOSE = (yaml.MappingEndEvent, yaml.SequenceEndEvent, ruamel.MappingEndEvent, ruamel.SequenceEndEvent)

_OTHERWISE = re.compile(
    r"[\t\x85\u2028\u2029\ufeff]|\r(?!\n)|^%|^\?|[\s,\[{-]\?|[|>][-+0-9]{0,2} *(#.*)?\r?$", re.MULTILINE
)
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
class Parsed:
    """Content, place of each key, and place of each value, by the path of keys that leads there."""

    content: object
    keys: Mapping[KeyPath, Place]
    values: Mapping[KeyPath, Place]


def parse_quickly(text: str, path: Path) -> Parsed | None:
    """By libyaml; None for whatever it refuses or might read otherwise, and where it was not built in."""
    if not yaml.__with_libyaml__ or _OTHERWISE.search(text):
        return None
    builder = _Builder(path)
    try:
        builder.read(_without_anchors(yaml.parse(text, Loader=yaml.CSafeLoader)))
    except (ConfigError, yaml.YAMLError, UnicodeError):
        return None
    return Parsed(builder.root, builder.keys, builder.values)


def _without_anchors(events: Iterable[yaml.Event]) -> Iterator[yaml.Event]:
    """What an anchor's name ends with is another thing they read differently."""
    for event in events:
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise yaml.YAMLError("an anchor")
        yield event


def parse_carefully(text: str, path: Path) -> Parsed:
    """By ruamel, in Python; raises ConfigError YAML_INVALID."""
    builder = _Builder(path)
    try:
        builder.read(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        raise builder.error(place, _told(wrong)) from None
    except ReaderError as wrong:
        before = text[: wrong.position]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise builder.error(place, f"character #x{wrong.character:04x} is not allowed") from None
    except YAMLError as wrong:
        raise builder.error(Place(1, 1), " ".join(str(wrong).split())) from None
    return Parsed(builder.root, builder.keys, builder.values)


def _told(wrong: MarkedYAMLError) -> str:
    """What ruamel says, for people who do not know how it reads."""
    text, begun = str(wrong.problem or wrong.context), wrong.context_mark
    if "'\\t'" in text:
        return "a tab; YAML is indented by spaces alone"
    if text.startswith("expected <block end>"):
        text += "; is this line indented otherwise than those it belongs to?"
    if begun is not None and wrong.problem_mark is not None and begun.line < wrong.problem_mark.line:
        text += f"; it is read as part of what begins in line {begun.line + 1}"
    return text


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
