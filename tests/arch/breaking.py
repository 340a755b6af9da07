"""What of a change of the OpenAPI document breaks programs written for the document before.

Requests may not be narrowed: no path, method, parameter, field or value of an enumeration goes, nothing becomes
required, no type or bound tightens. Answers may not be thinned: no field goes, or may be missing that always came, and
no type comes that never did. New paths, optional parameters, fields of answers and values of enumerations are fine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
_LOWER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_HIGHER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")


class Comparison:
    """Two documents, and the breaks between them."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str, bool]] = set()

    def breaks(self) -> list[str]:
        """One line each."""
        return list(self._paths())

    def _paths(self) -> Iterator[str]:
        for path, before in self._old["paths"].items():
            after = self._new["paths"].get(path)
            if after is None:
                yield f"{path}: the path is gone"
                continue
            for method in _METHODS:
                if method in before:
                    place = f"{method.upper()} {path}"
                    if method not in after:
                        yield f"{place}: the method is gone"
                    else:
                        yield from self._operation(place, before[method], after[method])

    def _operation(self, place: str, before: Schema, after: Schema) -> Iterator[str]:
        old = {(p["in"], p["name"].lower()): p for p in before.get("parameters", ())}
        new = {(p["in"], p["name"].lower()): p for p in after.get("parameters", ())}
        for key in old.keys() - new.keys():
            yield f"{place}: the {key[0]} parameter {key[1]!r} is gone"
        for key, one in new.items():
            was = old.get(key)
            if one.get("required") and not (was or {}).get("required"):
                yield f"{place}: the {key[0]} parameter {key[1]!r} is required now"
            if was is not None:
                yield from self._request(f"{place}: {key[1]}", was["schema"], one["schema"])
        yield from self._body(place, before.get("requestBody"), after.get("requestBody"))
        for status, answer in before["responses"].items():
            if not status.startswith("2"):
                continue
            now = after["responses"].get(status)
            if now is None:
                yield f"{place}: it answers {status} no more"
                continue
            for kind, content in answer.get("content", {}).items():
                if kind not in now.get("content", {}):
                    yield f"{place}: it answers {kind} no more"
                elif "schema" in content:
                    yield from self._answer(f"{place}: answer", content["schema"], now["content"][kind]["schema"])

    def _body(self, place: str, body: Schema | None, wanted: Schema | None) -> Iterator[str]:
        if wanted is not None and wanted.get("required") and not (body or {}).get("required"):
            yield f"{place}: a body is required now"
        for kind, content in (body or {}).get("content", {}).items():
            if kind not in (wanted or {}).get("content", {}):
                yield f"{place}: a body of {kind} is accepted no more"
            else:
                yield from self._request(f"{place}: body", content.get("schema", {}), wanted["content"][kind]["schema"])

    def _request(self, place: str, before: Schema, after: Schema) -> Iterator[str]:
        """What was valid must be valid."""
        yield from self._walk(place, before, after, answer=False)

    def _answer(self, place: str, before: Schema, after: Schema) -> Iterator[str]:
        """What comes must be what could come before."""
        yield from self._walk(place, before, after, answer=True)

    def _walk(self, place: str, before: Schema, after: Schema, *, answer: bool) -> Iterator[str]:
        pair = (str(before.get("$ref", "")), str(after.get("$ref", "")), answer)
        if all(pair[:2]):
            if pair in self._seen:
                return
            self._seen.add(pair)
        before, after = _resolved(self._old, before), _resolved(self._new, after)
        olds, news = self._kinds(self._old, before), self._kinds(self._new, after)
        wide, narrow = (olds, news) if answer else (news, olds)
        if wide:
            for kind in sorted(narrow.keys() - wide.keys()):
                if not (kind == "integer" and "number" in wide):
                    yield f"{place}: {'it may be' if answer else 'it may no more be'} {kind}"
        for kind in olds.keys() & news.keys():
            yield from self._kind(place, olds[kind], news[kind], answer=answer)

    def _kinds(self, document: Schema, schema: Schema) -> dict[str, Schema]:
        """Alternatives by type; what says no type may be anything."""
        found: dict[str, Schema] = {}
        for one in schema.get("anyOf", schema.get("oneOf", [schema])):
            alternative = _resolved(document, one)
            named = alternative.get("type", "object" if "properties" in alternative else None)
            values = alternative.get("enum", [alternative["const"]] if "const" in alternative else None)
            if named is None and values is not None:
                named = "string"
            for kind in named if isinstance(named, list) else [named] if named else []:
                found[kind] = alternative
        return found

    def _kind(self, place: str, before: Schema, after: Schema, *, answer: bool) -> Iterator[str]:
        yield from _values(place, before, after, answer=answer)
        if not answer:
            yield from _bounds(place, before, after)
        if "items" in before and "items" in after:
            yield from self._walk(f"{place}[]", before["items"], after["items"], answer=answer)
        olds, news = before.get("properties", {}), after.get("properties", {})
        was, now = set(before.get("required", ())), set(after.get("required", ()))
        for name in sorted(olds.keys() - news.keys()):
            yield f"{place}.{name}: the field is gone"
        for name in sorted((was - now) & news.keys() if answer else now - was):
            yield f"{place}.{name}: {'it may be missing now' if answer else 'it is required now'}"
        for name in sorted(olds.keys() & news.keys()):
            yield from self._walk(f"{place}.{name}", olds[name], news[name], answer=answer)
        mores = [one.get("additionalProperties") for one in (before, after)]
        if all(isinstance(more, Mapping) for more in mores):
            yield from self._walk(f"{place}.*", mores[0], mores[1], answer=answer)


def breaking(old: Schema, new: Schema) -> list[str]:
    """What breaks programs written for `old` when they meet `new`."""
    return Comparison(old, new).breaks()


def _resolved(document: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _values(place: str, before: Schema, after: Schema, *, answer: bool) -> Iterator[str]:
    old, new = ({*s.get("enum", ()), *([s["const"]] if "const" in s else [])} for s in (before, after))
    if new and not old and not answer:
        yield f"{place}: only {sorted(map(str, new))} are accepted now"
    for value in sorted(map(str, old - new)) if new else ():
        yield f"{place}: the value {value!r} is gone"


def _bounds(place: str, before: Schema, after: Schema) -> Iterator[str]:
    for name in _LOWER:
        if name in after and after[name] < before.get(name, float("inf")):
            yield f"{place}: {name} is {after[name]} now, it was {before.get(name, 'none')}"
    for name in _HIGHER:
        if name in after and after[name] > before.get(name, float("-inf")) and (after[name] or name in before):
            yield f"{place}: {name} is {after[name]} now, it was {before.get(name, 'none')}"
    if after.get("pattern", before.get("pattern")) != before.get("pattern"):
        yield f"{place}: the pattern is another one"
