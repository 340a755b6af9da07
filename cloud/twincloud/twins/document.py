"""What people say of a twin, and how a merge patch (RFC 7396) changes it.

    {"definition": "pump@1.2.0", "state": "active", "run": "edge", "tags": {"line": "3"},
     "attributes": {"serial": "A-17"}, "desired": {"speed": {"value": 1450, "unit": "1/min"}}}

null removes a part. Who desires what, and since when, is written down here and cannot be patched.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from twincloud.twins.lifecycle import State, check_changeable, check_transition
from twinmodel import units
from twinmodel.definition.resolve import Resolved
from twinmodel.definition.schema import REFERENCE, PropertySpec
from twinmodel.errors import ConflictError, InputError, MissingError
from twinmodel.profile.document import nearest

BYTES_MAX: Final = 32 << 10
DEPTH_MAX: Final = 16
TAGS_MAX: Final = 64
DESIRED_MAX: Final = 500
TEXT_MAX: Final = 4_096
RUNS: Final = ("edge", "cloud")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_TAG_VALUE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,256}")
_REFERENCE = re.compile(REFERENCE)
_INT_MAX = 1 << 63
_EMPTY: Mapping[str, Any] = MappingProxyType({})

Scalar = float | int | bool | str
DefinitionOf = Callable[[str], Resolved]
"""The resolved definition of a `name@version`; raises UNKNOWN_DEFINITION."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What a property should be; `unit` is that of the definition."""

    value: Scalar
    unit: str
    by: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Document:
    """What people say of a twin."""

    definition: str = ""
    state: State = State.ACTIVE
    run: str = "edge"
    tags: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    desired: Mapping[str, Desired] = field(default_factory=dict)


KEYS: Final = ("definition", "state", "run", "tags", "attributes", "desired")


def merged(twin: str, old: Document, patch: object, definition_of: DefinitionOf, *, by: str, now_ns: int) -> Document:
    """The document a merge patch makes of another.

    Args:
        twin: named in errors.
        old: what is there.
        patch: JSON as it came.
        definition_of: finds definitions.
        by: who desires what is desired from now on.
        now_ns: since when.

    Raises:
        InputError: REQUEST_INVALID, VALUE_INVALID, UNIT_CLASH, UNIT_UNKNOWN, LIMIT_EXCEEDED.
        MissingError: UNKNOWN_DEFINITION, UNKNOWN_PROPERTY.
        ConflictError: TRANSITION_FORBIDDEN, TWIN_OUT_OF_SERVICE, NOT_WRITABLE, DEFINITION_CONFLICT.
    """
    given = _mapping(patch, "the patch")
    for key in given:
        if key not in KEYS:
            guess = nearest(str(key), KEYS)
            raise _wrong(str(key)[:64], "is no part of a twin's record", f"did you mean `{guess}`?" if guess else
                         f"parts are {', '.join(KEYS)}")  # fmt: skip
    new = old
    if "state" in given:
        new = replace(new, state=_state(given["state"]))
        check_transition(twin, old.state, new.state)
    if "definition" in given:
        new = replace(new, definition=_definition(given["definition"]))
        if new.definition:
            definition_of(new.definition)
    if "run" in given:
        run = given["run"] if given["run"] is not None else RUNS[0]
        if run not in RUNS:
            raise _wrong("run", f"is none of {', '.join(RUNS)}")
        new = replace(new, run=run)
    if "tags" in given:
        new = replace(new, tags=_tags(old.tags, given["tags"]))
    if "attributes" in given:
        new = replace(new, attributes=_attributes(old.attributes, given["attributes"]))
    if "desired" in given:
        check_changeable(twin, new.state, "desired values")
        new = replace(new, desired=_desired(twin, new, given["desired"], definition_of, by, now_ns))
    if new.definition != old.definition and new.desired:
        _check_desired(twin, new, definition_of)
    return new


def desired_value(place: str, spec: PropertySpec, value: object, unit: object) -> Scalar:
    """A value of a property, in the unit of its definition; raises InputError when the property cannot be that."""
    if spec.kind == "bool":
        if not isinstance(value, bool):
            raise _wrong(place, "is neither true nor false")
        return value
    if spec.kind == "string":
        if not isinstance(value, str) or len(value) > TEXT_MAX or not _is_text(value):
            raise _wrong(place, f"is no text of at most {TEXT_MAX} characters")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _INT_MAX or math.isnan(value):
        raise _wrong(place, "is no number")
    if isinstance(unit, str) and unit != spec.unit:
        value = units.convert(float(value), unit or "1", spec.unit or "1")
    if spec.kind == "int":
        if value != math.floor(value):
            raise _wrong(place, "is no whole number")
        value = int(value)
    else:
        value = float(value)
    for limit, beyond in ((spec.low, spec.low is not None and value < spec.low),
                          (spec.high, spec.high is not None and value > spec.high)):  # fmt: skip
        if beyond:
            unit_text = f" {spec.unit}" if spec.unit else ""
            text = f"{place}: {value:g}{unit_text} is beyond the limit {limit:g}{unit_text}"
            raise InputError("VALUE_INVALID", text, hint="desire a value within the limits of the definition")
    return value


def _desired(
    twin: str, new: Document, patch: object, definition_of: DefinitionOf, by: str, now_ns: int
) -> Mapping[str, Desired]:
    if patch is None:
        return _EMPTY
    wanted = dict(new.desired)
    for name, one in _mapping(patch, "desired").items():
        if one is None:
            wanted.pop(name, None)
            continue
        fields = _mapping(one, f"desired.{str(name)[:64]}")
        extra = next((key for key in fields if key not in ("value", "unit")), None)
        if extra is not None:
            raise _wrong(f"desired.{name[:64]}.{extra[:64]}", "cannot be written", "give `value` and `unit` alone")
        if fields.get("value") is None:
            raise _wrong(
                f"desired.{name[:64]}.value", "is missing", "null in place of the object removes what is desired"
            )
        unit = fields.get("unit")
        if unit is not None and not isinstance(unit, str):
            raise _wrong(f"desired.{name[:64]}.unit", "is no text")
        spec = _property(twin, new.definition, name, definition_of)
        wanted[name] = Desired(
            desired_value(f"desired.{name}.value", spec, fields["value"], unit), spec.unit, by, now_ns
        )
    if len(wanted) > DESIRED_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{len(wanted)} desired values, at most {DESIRED_MAX}")
    return wanted


def _property(twin: str, definition: str, name: str, definition_of: DefinitionOf) -> PropertySpec:
    if not definition:
        raise MissingError(
            "UNKNOWN_PROPERTY",
            f"twin {twin!r} has no definition that names {name[:64]!r}",
            hint="publish one with `twinctl twin define` and name it in `definition`",
        )
    known = definition_of(definition).properties
    spec = known.get(name)
    if spec is None:
        guess = nearest(name, known)
        hint = f"did you mean `{guess}`?" if guess else None
        raise MissingError("UNKNOWN_PROPERTY", f"{definition} has no property {name[:64]!r}", hint=hint)
    if not spec.desired:
        raise ConflictError("NOT_WRITABLE", f"property {name!r} of {definition} is reported, not desired")
    return spec


def _check_desired(twin: str, new: Document, definition_of: DefinitionOf) -> None:
    """What is desired already must be so under the new definition too."""
    for name, one in new.desired.items():
        try:
            spec = _property(twin, new.definition, name, definition_of)
            desired_value(f"desired.{name}.value", spec, one.value, one.unit)
        except (InputError, MissingError, ConflictError) as wrong:
            text = f"desired.{name} does not fit the definition {new.definition or 'none'}: {wrong.message}"
            hint = "remove or mend it in the same patch"
            raise ConflictError("DEFINITION_CONFLICT", text, hint=hint) from None
        if spec.unit != one.unit:
            text = f"desired.{name} is in {one.unit or '1'}, {new.definition} has {spec.unit or '1'}"
            raise ConflictError("DEFINITION_CONFLICT", text, hint="remove or mend it in the same patch")


def _state(value: object) -> State:
    try:
        return State(str(value))
    except ValueError:
        raise _wrong("state", f"is none of {', '.join(State)}") from None


def _definition(value: object) -> str:
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or _REFERENCE.fullmatch(value) is None:
        raise _wrong("definition", "is no `name@version`")
    return value


def _tags(old: Mapping[str, str], patch: object) -> Mapping[str, str]:
    if patch is None:
        return _EMPTY
    tags = dict(old)
    for tag, value in _mapping(patch, "tags").items():
        if value is None:
            tags.pop(tag, None)
            continue
        if _TAG.fullmatch(tag) is None:
            raise _wrong(f"tags.{tag[:64]}", "is no name of a tag", "use letters, digits, - _ and ., at most 63")
        if not isinstance(value, str) or _TAG_VALUE.fullmatch(value) is None:
            raise _wrong(f"tags.{tag}", "is no text of one line of at most 256 characters")
        tags[tag] = value
    if len(tags) > TAGS_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{len(tags)} tags, at most {TAGS_MAX}")
    return tags


def _attributes(old: Mapping[str, Any], patch: object) -> Mapping[str, Any]:
    if patch is None:
        return _EMPTY
    _check_plain(patch, "attributes", 0)
    found = _merge(old, _mapping(patch, "attributes"))
    assert isinstance(found, dict)
    return found


def _merge(target: object, patch: object) -> object:
    """MergePatch of RFC 7396, clause 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge(result.get(name), value)
    return result


def _check_plain(value: object, place: str, depth: int) -> None:
    """Refuses what no database, no JSON or no reader of it could hold."""
    if depth > DEPTH_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{place[:200]}: nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        for name, one in value.items():
            if len(name) > 128 or not _is_text(name):
                raise _wrong(place[:200], "holds a name that is longer than 128 characters or no text")
            _check_plain(one, f"{place}.{name}", depth + 1)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            _check_plain(one, f"{place}.{number}", depth + 1)
    elif isinstance(value, str):
        if not _is_text(value):
            raise _wrong(place[:200], "is no Unicode text")
    elif isinstance(value, float) and not math.isfinite(value):
        raise _wrong(place[:200], "is no finite number")
    elif isinstance(value, int) and not -_INT_MAX <= value < _INT_MAX:
        raise _wrong(place[:200], "is a whole number beyond 64 bits")


def _is_text(text: str) -> bool:
    """Whether every database and every encoder takes it."""
    return "\x00" not in text and (text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text))


def _mapping(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, "is no JSON object")
    return value


def _wrong(place: str, what: str, hint: str | None = None) -> InputError:
    return InputError("REQUEST_INVALID", f"{place}: it {what}", hint=hint, field=place)
