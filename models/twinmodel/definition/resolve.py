"""Inheritance: a definition joined with all that it extends.

Parents are joined in the order they are named, then the definition's own parts are laid over them. What is said twice
must agree, so that a twin of a definition is always a twin of each of its parents too:

    property      same kind and unit; limits only narrower; `desired` may be granted, never taken away
    relationship  target the same or, where it was open, named; `min` only larger, `max` only smaller
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from twinmodel.definition.schema import (
    PROPERTIES_MAX,
    RELATIONSHIPS_MAX,
    DefinitionSpec,
    PropertySpec,
    RelationshipSpec,
)
from twinmodel.errors import ConflictError, InputError, MissingError

DEPTH_MAX: Final = 10

Find = Callable[[str], DefinitionSpec | None]
"""The definition of a `name@version`, None when there is none."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A definition with all it inherits.

    Attributes:
        reference: `name@version`.
        chain: itself and every definition above it, nearest first.
        generations: length of the longest line of parents, itself included.
        origins: `properties.NAME` or `relationships.NAME` -> the definition that last said it.
    """

    reference: str
    description: str
    chain: tuple[str, ...]
    properties: Mapping[str, PropertySpec]
    relationships: Mapping[str, RelationshipSpec]
    generations: int = 1
    origins: Mapping[str, str] = field(default_factory=dict)

    def is_a(self, target: str) -> bool:
        """Whether a twin of this definition is one of `target`: a name, a `name@version`, or "" for any."""
        if not target or target in self.chain:
            return True
        return "@" not in target and any(one.partition("@")[0] == target for one in self.chain)


def resolve(spec: DefinitionSpec, find: Find) -> Resolved:
    """Joins a definition with all it extends.

    Raises:
        MissingError: UNKNOWN_DEFINITION, for a parent that `find` does not know.
        ConflictError: DEFINITION_CYCLE, naming the circle; DEFINITION_CONFLICT, naming both places.
        InputError: LIMIT_EXCEEDED, for more than DEPTH_MAX generations or too many parts.
    """
    return _resolve(spec, find, (), {})


def order_of(specs: Sequence[DefinitionSpec]) -> list[DefinitionSpec]:
    """Definitions that are published together, parents before children; raises as `resolve` for circles."""
    given = {spec.reference: spec for spec in specs}
    done: dict[str, DefinitionSpec] = {}

    def visit(spec: DefinitionSpec, above: tuple[str, ...]) -> None:
        if spec.reference in done:
            return
        _check_chain(spec.reference, above)
        for parent in spec.parents:
            if parent in given:
                visit(given[parent], (*above, spec.reference))
        done[spec.reference] = spec

    for spec in specs:
        visit(spec, ())
    return list(done.values())


def _check_chain(reference: str, above: tuple[str, ...]) -> None:
    if reference in above:
        circle = " -> ".join((*above[above.index(reference) :], reference))
        raise ConflictError("DEFINITION_CYCLE", f"definitions extend one another in a circle: {circle}", cycle=circle)
    if len(above) >= DEPTH_MAX:
        raise InputError(
            "LIMIT_EXCEEDED",
            f"{above[0]} extends more than {DEPTH_MAX} generations: {' -> '.join(above)} -> {reference}",
            hint="extend fewer definitions, one above the other",
        )


def _resolve(spec: DefinitionSpec, find: Find, above: tuple[str, ...], known: dict[str, Resolved]) -> Resolved:
    _check_chain(spec.reference, above)
    joined = _Joined(spec.reference)
    for reference in spec.parents:
        if reference in above or reference == spec.reference:
            _check_chain(reference, (*above, spec.reference))
        parent = known.get(reference)
        if parent is None:
            found = find(reference)
            if found is None:
                raise MissingError("UNKNOWN_DEFINITION", f"{spec.reference} extends {reference}, which is not there")
            parent = known[reference] = _resolve(found, find, (*above, spec.reference), known)
        if parent.generations >= DEPTH_MAX:
            text = f"{spec.reference} has more than {DEPTH_MAX} generations above it, by {reference}"
            raise InputError("LIMIT_EXCEEDED", text, hint="extend fewer definitions, one above the other")
        joined.add_parent(parent)
    joined.add_own(spec)
    return joined.resolved(spec.description)


class _Joined:
    """What is said so far of one definition, and by whom."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.chain = [reference]
        self.generations = 1
        self.properties: dict[str, PropertySpec] = {}
        self.relationships: dict[str, RelationshipSpec] = {}
        self.origins: dict[str, str] = {}

    def add_parent(self, parent: Resolved) -> None:
        self.chain += [one for one in parent.chain if one not in self.chain]
        self.generations = max(self.generations, parent.generations + 1)
        for name, spec in parent.properties.items():
            self._put_property(name, spec, parent.origins[f"properties.{name}"])
        for name, relation in parent.relationships.items():
            self._put_relation(name, relation, parent.origins[f"relationships.{name}"])

    def add_own(self, spec: DefinitionSpec) -> None:
        for name, prop in spec.properties.items():
            self._put_property(name, prop, self.reference)
        for name, relation in spec.relationships.items():
            self._put_relation(name, relation, self.reference)

    def resolved(self, description: str) -> Resolved:
        for what, count, most in (
            ("properties", len(self.properties), PROPERTIES_MAX),
            ("relationships", len(self.relationships), RELATIONSHIPS_MAX),
        ):
            if count > most:
                raise InputError("LIMIT_EXCEEDED", f"{self.reference} has {count} {what}, at most {most}")
        return Resolved(
            self.reference, description, tuple(self.chain), self.properties, self.relationships, self.generations,
            self.origins,
        )  # fmt: skip

    def _put_property(self, name: str, new: PropertySpec, origin: str) -> None:
        before = self.properties.get(name)
        place = f"properties.{name}"
        if before is not None and origin != self.origins[place]:
            if origin != self.reference and new != before:
                self._refuse(place, origin, "two parents say different things of it; say which holds")
            wrong = _property_conflict(before, new)
            if wrong:
                self._refuse(place, origin, wrong)
        self.properties[name] = new
        self.origins[place] = origin

    def _put_relation(self, name: str, new: RelationshipSpec, origin: str) -> None:
        before = self.relationships.get(name)
        place = f"relationships.{name}"
        if before is not None and origin != self.origins[place]:
            if origin != self.reference and new != before:
                self._refuse(place, origin, "two parents say different things of it")
            wrong = _relation_conflict(before, new)
            if wrong:
                self._refuse(place, origin, wrong)
        self.relationships[name] = new
        self.origins[place] = origin

    def _refuse(self, place: str, origin: str, why: str) -> NoReturn:
        text = f"{self.reference}: {place} of {origin} conflicts with that of {self.origins[place]}: {why}"
        raise ConflictError("DEFINITION_CONFLICT", text, place=place)


def _property_conflict(old: PropertySpec, new: PropertySpec) -> str:
    """Why a twin whose property is `new` is none whose property is `old`, "" when it is."""
    if new.kind != old.kind:
        return f"the kind {new.kind} is not {old.kind}"
    if new.unit != old.unit:
        return f"the unit {new.unit or 'none'} is not {old.unit or 'none'}"
    if old.desired and not new.desired:
        return "what may be desired above may be so below"
    if old.low is not None and (new.low is None or new.low < old.low):
        return f"its min {new.low} is below {old.low}"
    if old.high is not None and (new.high is None or new.high > old.high):
        return f"its max {new.high} is above {old.high}"
    return ""


def _relation_conflict(old: RelationshipSpec, new: RelationshipSpec) -> str:
    if old.target and new.target != old.target and new.target.partition("@")[0] != old.target:
        return f"the target {new.target or 'any'} is not {old.target}"
    if new.least < old.least:
        return f"its min {new.least} is below {old.least}"
    if old.most is not None and (new.most is None or new.most > old.most):
        return f"its max {'none' if new.most is None else new.most} is above {old.most}"
    for name, spec in old.properties.items():
        if name not in new.properties:
            return f"its property {name} is missing"
        wrong = _property_conflict(spec, new.properties[name])
        if wrong:
            return f"property {name}: {wrong}"
    return ""
