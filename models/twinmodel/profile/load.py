"""Firmware profiles from disk: read with places, joined with what they inherit, checked before a device is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from twinmodel.errors import ConfigError
from twinmodel.profile.check import check_profile
from twinmodel.profile.document import Document, in_order, joined, nearest, parse_document, read_document
from twinmodel.profile.find import default_folders, find_profile
from twinmodel.profile.registers import typed
from twinmodel.profile.schema import FirmwareProfile

M = TypeVar("M", bound=BaseModel)

CHAIN_MAX = 8
_OWN = ("profile", "firmware", "inherits")
_JOINED = ("limits", "defaults", "identify", "availability", "methods")


def read_yaml(path: Path | str, model: type[M]) -> M:
    """Reads a YAML file into a pydantic model.

    Raises:
        ConfigError: FILE_MISSING, LIMIT_EXCEEDED, YAML_INVALID, UNKNOWN_KEY or VALUE_INVALID; it names path, line,
            column and key, lists every finding, and hints at the nearest valid key.
    """
    return read_document(path).validate(model)


def load_profile(path: Path | str, folders: Sequence[Path] | None = None) -> FirmwareProfile:
    """Reads one firmware profile, joins what it inherits, and fills in the types a protocol implies.

    Args:
        path: the file.
        folders: where the profiles it inherits lie; the folder it lies in itself comes first, then the usual ones.

    Raises:
        ConfigError: as `read_yaml`, and UNIT_UNKNOWN, PROFILE_MISSING; it lists every finding.
    """
    read = examine(path, folders)
    if read.profile is None or read.errors:
        raise joined(read.errors)
    return read.profile


@dataclass(frozen=True, slots=True)
class Examined:
    """One file and everything wrong with it.

    Attributes:
        profile: what it says, inherited parts joined; None when it cannot be told.
        document: its places.
        errors: in the order of their places; those of a file it inherits name that file.
    """

    profile: FirmwareProfile | None
    document: Document
    errors: list[ConfigError]


def examine(path: Path | str, folders: Sequence[Path] | None = None) -> Examined:
    """Reads one profile and tells everything wrong with it, as far as it can be read; raises nothing."""
    try:
        document = _whole(read_document(path), default_folders() if folders is None else folders, ())
    except ConfigError as wrong:
        return Examined(None, Document(Path(path), None), [wrong])
    return _judged(document)


def examine_text(text: str, path: Path) -> Examined:
    """As `examine`, of text that is in no file yet and inherits nothing; `path` is only told in errors."""
    try:
        return _judged(parse_document(text, path))
    except ConfigError as wrong:
        return Examined(None, Document(path, None), [wrong])


def _judged(document: Document) -> Examined:
    fitted = document.fit(FirmwareProfile)
    if isinstance(fitted, list):
        return Examined(None, document, in_order([*fitted, *_errors_beside(document, fitted)]))
    fitted = _typed(fitted)
    return Examined(fitted, document, in_order(check_profile(fitted, document)))


def _typed(profile: FirmwareProfile) -> FirmwareProfile:
    if profile.protocol != "modbus":
        return profile
    return profile.model_copy(update={"points": {name: typed(point) for name, point in profile.points.items()}})


def _errors_beside(document: Document, misshapen: Sequence[ConfigError]) -> list[ConfigError]:
    """What is wrong with the points beside those that do not fit the schema, as far as they need none of these."""
    content = document.content
    points = content.get("points") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(points, dict):
        return []
    keys = [str(error.facts["key"]) for error in misshapen]
    bad = [name for name in points if any(key == f"points.{name}" or key.startswith(f"points.{name}.") for key in keys)]
    rest = {name: point for name, point in points.items() if name not in bad}
    fitted = replace(document, content=content | {"points": rest}).fit(FirmwareProfile)
    if isinstance(fitted, list):
        return []
    named = tuple(f"no point {name!r} in this profile" for name in bad)
    return [e for e in check_profile(_typed(fitted), document) if not e.message.endswith(named)]


def _whole(document: Document, folders: Sequence[Path], chain: tuple[Path, ...]) -> Document:
    """The document with what it inherits; raises ConfigError when that is not there, is wrong, or leads in a circle."""
    content = document.content
    name = content.get("inherits") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(name, str):
        return document
    chain = (*chain, document.path.resolve())
    if len(chain) > CHAIN_MAX:
        raise document.error("LIMIT_EXCEEDED", ("inherits",), f"more than {CHAIN_MAX} profiles inherit one another")
    if name.count("/") != 2:
        hint = "write vendor/device/version, the one file this one changes"
        raise document.error("VALUE_INVALID", ("inherits",), f"{name!r} names no file of a profile", hint=hint)
    parents = document.path.resolve().parents
    try:
        path = find_profile(name, [*parents[2:3], *folders])
    except ConfigError as missing:
        raise document.error(missing.reason, ("inherits",), missing.message, hint=missing.hint) from None
    if path.resolve() in chain:
        circle = " -> ".join("/".join(p.with_suffix("").parts[-3:]) for p in (*chain, path.resolve()))
        raise document.error("VALUE_INVALID", ("inherits",), f"inherits in a circle: {circle}")
    parent = _whole(read_document(path), folders, chain)
    parent.validate(FirmwareProfile)
    if "firmware" not in content:
        hint = 'add e.g. firmware: ">=2.0, <3"; which versions it is for is never inherited'
        raise document.error(
            "VALUE_INVALID", ("inherits",), "a profile that inherits needs its own `firmware`", hint=hint
        )
    return replace(document, content=_join(document, parent.content, content))


def _join(document: Document, parent: object, child: dict[str, object]) -> dict[str, object]:
    """The keys of the parent, overlaid by those of the child; points one by one, each as a whole."""
    assert isinstance(parent, dict)  # it was validated
    whole = {key: value for key, value in parent.items() if key not in _OWN} | child
    for key in _JOINED:
        below, above = parent.get(key), child.get(key)
        if isinstance(below, dict) and isinstance(above, dict):
            whole[key] = below | above
    inherited, own = parent["points"], child.get("points", {})
    if isinstance(own, dict):
        for name, point in own.items():
            if point is None and name not in inherited:
                guess = nearest(name, inherited)
                hint = f"did you mean `{guess}`?" if guess else "remove the line"
                message = f"{child['inherits']} has no point {name!r} to remove"
                raise document.error("VALUE_INVALID", ("points", name), message, hint=hint)
        joined_points = {name: point for name, point in (inherited | own).items() if point is not None}
        whole["points"] = joined_points
    return whole
