"""What an outbox row says has changed, as the views that event streams send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from twincloud.events.bus import Change
from twincloud.storage.contract import Event, GatewayKey
from twincloud.storage.records_alarms import TARGET, alarm_id


def changes_of(event: Event) -> tuple[Change, ...]:
    """What an outbox row says has changed; nothing for rows that no view shows."""
    known = _CHANGES.get(event.kind)
    return known(event) if known is not None else ()


def _of_commit(event: Event) -> tuple[Change, ...]:
    """The twins it touched; its gateway's own counts come with the sweep."""
    return _twins(event)


def _of_alarm(event: Event) -> tuple[Change, ...]:
    # Twins show how many they have; a commit names them too, what the coordinator does by itself only here.
    return (Change(event.tenant, "alarm", event.site, event.subject), *_twins(event))


def _of_directive(event: Event) -> tuple[Change, ...]:
    asked = Change(event.tenant, "directive", event.site, f"{event.subject}@{event.body.get('version', '')}")
    if event.subject.startswith(TARGET):
        gateway = GatewayKey(event.tenant, event.site, str(event.body.get("gateway", "")))
        alarm = alarm_id(gateway, event.subject.removeprefix(TARGET))
        return Change(event.tenant, "alarm", event.site, alarm), asked
    return asked, Change(event.tenant, "twin", event.site, event.subject)


def _of_command(event: Event) -> tuple[Change, ...]:
    return (Change(event.tenant, "command", event.site, f"{event.subject}/{event.body.get('command', '')}"),)


def _of_twin(event: Event) -> tuple[Change, ...]:
    return _twins(event) if "twins" in event.body else _itself(event)


def _itself(event: Event) -> tuple[Change, ...]:
    return (Change(event.tenant, event.kind, event.site, event.subject),)


def _twins(event: Event) -> tuple[Change, ...]:
    listed = event.body.get("twins", ())
    names: Iterable[object] = listed if isinstance(listed, list | tuple) else ()
    return tuple(Change(event.tenant, "twin", event.site, str(name)) for name in names)


_CHANGES: Mapping[str, Callable[[Event], tuple[Change, ...]]] = {
    "alarm": _of_alarm,
    "command": _of_command,
    "commit": _of_commit,
    "directive": _of_directive,
    "gateway": _itself,
    "twin": _of_twin,
}
