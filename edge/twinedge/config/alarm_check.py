"""Whether the rules of `alarms:` refer to what the site has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from twinedge.config.alarms import (
    COMMUNICATION,
    OF_TWINS,
    AlarmRule,
    Comparison,
    Word,
    listed,
    matching,
    parse_comparison,
)
from twinmodel.profile.document import Document, nearest
from twinmodel.profile.schema import FirmwareProfile, Point, kind_of
from twinmodel.signal import OUTPUT_ROLES, Kind

if TYPE_CHECKING:
    from twinedge.config.load import LoadedSite

Keys = tuple[str | int, ...]


def check_alarms(loaded: LoadedSite) -> None:
    """Looks whether every rule refers to something there is, and can be judged by it.

    Raises:
        ConfigError: UNKNOWN_SIGNAL, UNKNOWN_DEVICE, UNKNOWN_TWIN or VALUE_INVALID, at the line of the rule.
    """
    known = _Known(loaded)
    for name, rule in loaded.site.alarms.items():
        keys = ("alarms", name)
        if name == COMMUNICATION:
            message = "this name is taken by the alarms that every device has; see `alarm_defaults`"
            raise loaded.document.error("VALUE_INVALID", keys, message, key=True)
        several = isinstance(rule.on, list)
        for place, source in enumerate(rule.sources):
            known.check((*keys, "on", place) if several else (*keys, "on"), rule, source)
        for word in ("when", "unless"):
            for text in listed(getattr(rule, word)):
                known.comparison((*keys, word), parse_comparison(text))


class _Known:
    """What rules may refer to."""

    def __init__(self, loaded: LoadedSite) -> None:
        self._document: Document = loaded.document
        self._site = loaded.site
        self._profiles: Mapping[str, FirmwareProfile] = loaded.profiles
        self._points = {
            f"{d}.{p}": point for d, profile in loaded.profiles.items() for p, point in profile.points.items()
        }

    def check(self, keys: Keys, rule: AlarmRule, source: str) -> None:
        if rule.condition == "communication":
            self._named(keys, source, self._site.devices, "UNKNOWN_DEVICE", "device")
        elif rule.condition in OF_TWINS:
            self._named(keys, source, self._site.twins, "UNKNOWN_TWIN", "twin")
        elif rule.condition == "deviation":
            self._output(keys, *source.partition("/")[::2])
        elif "#" in source:
            stem, _, role = source.rpartition("#")
            if role not in OUTPUT_ROLES:
                self._unknown(keys, source, [f"{stem}#{r}" for r in OUTPUT_ROLES])
            self._output(keys, *stem.partition("/")[::2])
        else:
            found = matching(source, self._points)
            if not found:
                self._unknown(keys, source, self._points)
            for name in found:
                self._fits(keys, rule, name, self._points[name])

    def comparison(self, keys: Keys, comparison: Comparison) -> None:
        name = comparison.signal
        if "#" in name:
            self._output(keys, *name.rpartition("#")[0].partition("/")[::2])
            return
        point = self._points.get(name)
        if point is None:
            self._unknown(keys, name, self._points)
            return
        self._value(keys, name, point, comparison.value)

    def _fits(self, keys: Keys, rule: AlarmRule, name: str, point: Point) -> None:
        text = kind_of(point) is Kind.STRING
        if text and rule.condition in {"limits", "rate"}:
            raise self._document.error("VALUE_INVALID", keys, f"{name} is text, it has no limits")
        for value in rule.values:
            self._value(keys, name, point, value)

    def _value(self, keys: Keys, name: str, point: Point, value: Word) -> None:
        if not isinstance(value, str) or kind_of(point) is Kind.STRING:
            return
        labels = list(point.states.values())
        if value not in labels:
            guess = nearest(value, labels)
            hint = f"did you mean `{guess}`?" if guess else f"it has: {', '.join(labels) or 'numbers alone'}"
            raise self._document.error("VALUE_INVALID", keys, f"{name} has no state {value!r}", hint=hint)

    def _output(self, keys: Keys, twin: str, output: str) -> None:
        self._named(keys, twin, self._site.twins, "UNKNOWN_TWIN", "twin")
        known = self._site.twins[twin]
        if not output or (not known.model and output not in known.outputs):
            self._unknown(keys, f"{twin}/{output}", [f"{twin}/{o}" for o in known.outputs])

    def _named(self, keys: Keys, name: str, known: Iterable[str], reason: str, what: str) -> None:
        known = list(known)
        if not matching(name, known):
            guess = nearest(name, known)
            hint = f"did you mean `{guess}`?" if guess else None
            raise self._document.error(reason, keys, f"no {what} {name!r} in this site", hint=hint)

    def _unknown(self, keys: Keys, name: str, known: Iterable[str]) -> None:
        guess = nearest(name, known)
        hint = f"did you mean `{guess}`?" if guess else None
        raise self._document.error("UNKNOWN_SIGNAL", keys, f"no signal {name!r} in this site", hint=hint)
