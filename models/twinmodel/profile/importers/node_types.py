"""Data types of OPC UA as types of points: built-in ones, and what a node set derives from them."""

from __future__ import annotations

from collections.abc import Mapping

from twinmodel.errors import InputError
from twinmodel.profile.importers.intake import clean, whole, words
from twinmodel.profile.importers.xml_tree import Element

BUILT_IN: Mapping[int, str] = {
    1: "bit", 2: "int16", 3: "uint16", 4: "int16", 5: "uint16", 6: "int32", 7: "uint32", 8: "int64", 9: "uint64",
    10: "float32", 11: "float64", 12: "string", 13: "int64", 21: "string", 26: "float64", 27: "int64", 28: "uint64",
    29: "int32", 288: "uint32", 289: "uint32", 290: "float64", 291: "string", 294: "int64", 295: "string",
}  # fmt: skip
NAMES = {
    "Boolean": 1, "SByte": 2, "Byte": 3, "Int16": 4, "UInt16": 5, "Int32": 6, "UInt32": 7, "Int64": 8, "UInt64": 9,
    "Float": 10, "Double": 11, "String": 12, "DateTime": 13, "LocalizedText": 21, "Number": 26, "Integer": 27,
    "UInteger": 28, "Enumeration": 29, "IntegerId": 288, "Counter": 289, "Duration": 290, "NumericRange": 291,
    "UtcTime": 294, "LocaleId": 295,
}  # fmt: skip
TIMES = {13, 294}
DERIVED_MAX = 16
_SUBTYPE = {"i=45", "HasSubtype"}


class Types:
    """The data types of a node set.

    Args:
        elements: node id -> element, of all nodes.
        aliases: name -> node id.
    """

    def __init__(self, elements: Mapping[str, Element], aliases: Mapping[str, str]) -> None:
        self._elements = elements
        self._aliases = aliases

    def of(self, name: str) -> tuple[str, Element | None]:
        """Our type, and the enumeration of the node set it is, if any. Raises InputError POINT_TYPE_UNKNOWN."""
        built_in, enumeration = self._built_in(name)
        if built_in is None or built_in not in BUILT_IN:
            raise InputError("POINT_TYPE_UNKNOWN", f"the data type {clean(name)[:60]} is none of profiles")
        return BUILT_IN[built_in], enumeration

    def is_time(self, name: str) -> bool:
        """Whether values are points in time."""
        return self._built_in(name)[0] in TIMES

    def _built_in(self, name: str) -> tuple[int | None, Element | None]:
        """The type of OPC UA itself that a type is or comes from, and the first type of the file on the way there."""
        first: Element | None = None
        found = self._aliases.get(name, name).strip()
        for _ in range(DERIVED_MAX):
            if found in NAMES:
                return NAMES[found], first
            if found.startswith("i="):
                return (int(found[2:]) if found[2:].isdecimal() and len(found) < 12 else None), first
            element = self._elements.get(found)
            if element is None or element.tag != "UADataType":
                break
            first = first or element
            found = self._parent(element)
        return None, None

    def _parent(self, element: Element) -> str:
        references = element.first("References")
        for reference in references.each("Reference") if references is not None else ():
            backward = reference.attributes.get("IsForward", "true").strip().lower() in {"false", "0"}
            if reference.attributes.get("ReferenceType", "").strip() in _SUBTYPE and backward:
                return self._aliases.get(reference.text.strip(), reference.text.strip())
        return ""


def states_of_enumeration(element: Element) -> dict[int, str]:
    """Names of the values of an enumeration. Raises InputError VALUE_INVALID."""
    definition = element.first("Definition")
    fields = definition.each("Field") if definition is not None else ()
    return {
        whole(f.attributes.get("Value", "0"), "Value", -(1 << 31), (1 << 31) - 1): words(
            f.attributes.get("Name", ""), "Name"
        )
        for f in fields
    }
