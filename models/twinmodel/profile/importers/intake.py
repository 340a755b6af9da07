"""Files of other tools, read with bounds: size, encoding, depth; every failure is typed and names its place."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from twinmodel.errors import ConfigError, InputError
from twinmodel.profile.document import parse_document
from twinmodel.profile.importers.found import Source
from twinmodel.profile.yaml_text import visible

SIZE_MAX = 16 << 20
TEXT_SIZE_MAX = 1 << 20
"""YAML and TOML are parsed slowly; real files of these formats are a hundred times smaller."""
DEPTH_MAX = 48
ROWS_MAX = 50_000
COLUMNS_MAX = 256


def read_source(path: Path) -> Source:
    """Reads a file of at most 16 MiB. Raises ConfigError FILE_MISSING or LIMIT_EXCEEDED."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(SIZE_MAX + 1)
    except OSError as lost:
        raise ConfigError("FILE_MISSING", f"cannot read {path}: {lost.strerror}", path=str(path)) from lost
    except ValueError as odd:
        raise ConfigError("FILE_MISSING", f"{str(path)!r} is no path: {odd}", path=str(path)) from None
    if len(raw) > SIZE_MAX:
        hint = "import the part you need from a smaller file"
        raise ConfigError("LIMIT_EXCEEDED", f"larger than {SIZE_MAX >> 20} MiB", hint=hint, path=str(path))
    return Source(path, raw, hashlib.sha256(raw).hexdigest())


def invalid(source: Source, message: str, *, line: int | None = None, hint: str | None = None) -> ConfigError:
    """SOURCE_INVALID of this file, ready to be raised."""
    return ConfigError("SOURCE_INVALID", message, hint=hint, path=str(source.path), line=line)


def text_of(source: Source, limit: int = SIZE_MAX) -> str:
    """The file as UTF-8 text. Raises ConfigError SOURCE_INVALID with the line, or LIMIT_EXCEEDED."""
    if len(source.raw) > limit:
        raise ConfigError("LIMIT_EXCEEDED", f"larger than {limit >> 20} MiB", path=str(source.path))
    try:
        text = source.raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = source.raw[: wrong.start].count(b"\n") + 1
        raise invalid(source, "is not UTF-8", line=line, hint="save it as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise invalid(source, "holds NUL characters: it is no text, or not UTF-8", line=line, hint="save it as UTF-8")
    return text


def json_of(source: Source) -> object:
    """JSON without duplicate keys, NaN and infinity. Raises ConfigError SOURCE_INVALID or LIMIT_EXCEEDED."""
    text = text_of(source)
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as wrong:
        raise invalid(source, f"is no JSON: {wrong.msg} (column {wrong.colno})", line=wrong.lineno) from None
    except RecursionError:
        raise _too_deep(source) from None
    except ValueError as wrong:
        raise invalid(source, f"is no JSON: {_short(str(wrong))}") from None
    return _shallow(source, content)


def toml_of(source: Source) -> object:
    """TOML. Raises ConfigError SOURCE_INVALID or LIMIT_EXCEEDED."""
    text = text_of(source, TEXT_SIZE_MAX)
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(source) from None
    except ValueError as wrong:  # TOMLDecodeError, and dates that are none
        raise invalid(source, f"is no TOML: {_short(str(wrong))}") from None
    return _shallow(source, content)


def yaml_of(source: Source) -> object:
    """YAML without aliases, tags and duplicate keys. Raises ConfigError SOURCE_INVALID or LIMIT_EXCEEDED."""
    text = text_of(source, TEXT_SIZE_MAX)
    try:
        return parse_document(text, source.path).content
    except ConfigError as wrong:
        if wrong.reason == "LIMIT_EXCEEDED":
            raise
        line = wrong.facts.get("line")
        where = line if isinstance(line, int) else None
        raise invalid(source, f"is no plain YAML: {wrong.message}", line=where) from None
    except (RecursionError, ValueError) as wrong:
        raise invalid(source, f"is no plain YAML: {_short(str(wrong))}") from None


def rows_of(source: Source, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV that are not empty, with their lines. Raises ConfigError SOURCE_INVALID or LIMIT_EXCEEDED."""
    reader = csv.reader(io.StringIO(text_of(source), newline=""), delimiter=delimiter, strict=True)
    count = 0
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as wrong:
            raise invalid(source, f"is no CSV: {wrong}", line=line) from None
        count += 1
        if count > ROWS_MAX or len(row) > COLUMNS_MAX:
            message = f"more than {ROWS_MAX} rows or {COLUMNS_MAX} columns"
            raise ConfigError("LIMIT_EXCEEDED", message, path=str(source.path), line=line)
        if any(cell.strip() for cell in row):
            yield line, [cell.strip() for cell in row]


def mapping(value: object, what: str) -> dict[str, object]:
    """`value` as a mapping. Raises InputError VALUE_INVALID."""
    if not isinstance(value, dict):
        raise InputError("VALUE_INVALID", f"{what} is {_shown(value)}, not a mapping")
    return value


def words(value: object, what: str) -> str:
    """`value` as text without blanks around it; numbers as they print. Raises InputError VALUE_INVALID."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError("VALUE_INVALID", f"{what} is {_shown(value)}, not text")
    return clean(str(value)).strip()


def whole(value: object, what: str, low: int, high: int) -> int:
    """`value`, a number or its text, as an integer of `low` to `high`. Raises InputError VALUE_INVALID."""
    found: int | None = None
    if isinstance(value, str) and len(value) <= 20:
        try:
            found = int(value.strip(), 0)
        except ValueError:
            found = int(value) if value.strip().isdecimal() else None
    elif isinstance(value, int) and not isinstance(value, bool):
        found = value
    elif isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        found = int(value)
    if found is None or not low <= found <= high:
        raise InputError("VALUE_INVALID", f"{what} is {_shown(value)}, not a whole number of {low} to {high}")
    return found


def clean(text: str) -> str:
    """`text` without what no file may hold: lone surrogates and control characters; line breaks become blanks."""
    return visible(text.encode("utf-8", "replace").decode(), " ")


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    text = repr(value) if isinstance(value, str | int | float) and len(str(value)) < 60 else f"a {type(value).__name__}"
    return clean(text)


def _short(text: str) -> str:
    return clean(text)[:200]


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # adds
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return made


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _too_deep(source: Source) -> ConfigError:
    return ConfigError("LIMIT_EXCEEDED", f"nested deeper than {DEPTH_MAX} levels", path=str(source.path))


def _shallow(source: Source, content: object) -> object:
    """The content, when it is not nested too deep; walks level by level, for recursion is what is to be avoided."""
    level = [content]
    for _ in range(DEPTH_MAX):
        parts = [part for part in level if isinstance(part, dict | list)]
        level = [inner for part in parts for inner in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return content
    raise _too_deep(source)
