"""What `twinedge probe opcua` prints for people."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from twinedge.probe.profiles import matches_text
from twinedge.probe.tables import pairs, table
from twinedge.probe.trust import described_text

Json = dict[str, Any]
CLOCK_WARN_S = 2.0


def opcua_text(document: Json) -> str:
    """The report: endpoints, certificate, session, server, profiles."""
    tried = document["tried"]
    rows = [
        (
            "*" if (o["policy"], o["mode"]) == (tried["policy"], tried["mode"]) else "",
            o["policy"] + ("" if o["spoken"] else " (outdated, not spoken)"),
            o["mode"],
            ", ".join(o["users"]),
            o["url"],
        )
        for o in document["endpoints"]
    ]
    parts = [f"{document['url']} offers\n{table(('', 'POLICY', 'MODE', 'USERS', 'URL'), rows, indent='  ')}"]
    parts += [_certificate(c) for c in document["certificates"]]
    if "own" in document:
        own = document["own"]
        made = ", made now" if own["made_now"] else ""
        parts.append(f"our certificate{made}\n  thumbprint  {own['thumbprint']}\n  path        {own['path']}")
    state = "stands" if document["connected"] else "was refused"
    parts.append(f"a session with {tried['policy']}/{tried['mode']} as {tried['user']} {state}{_note(tried)}")
    if document["connected"]:
        parts += _server(document)
    return "\n\n".join(parts)


def _note(tried: Json) -> str:
    return f": {tried['note']}" if "note" in tried else ""


def _certificate(certificate: Json) -> str:
    state = "trusted here" if certificate["trusted"] else "not trusted here yet"
    lines = [f"the server's certificate, {state}"]
    lines += [f"  {line}" for line in described_text(certificate).splitlines()]
    lines += [f"  ! {note}" for note in certificate["notes"]]
    return "\n".join(lines)


def _server(document: Json) -> list[str]:
    parts = [f"the server\n{pairs(document['server'], indent='  ')}"]
    if document["limits"]:
        parts.append(f"its limits\n{pairs(document['limits'], indent='  ')}")
    names = "\n".join(f"  {number}  {uri}" for number, uri in enumerate(document["namespaces"]))
    parts.append(f"namespaces\n{names}")
    offset_s = document["clock_offset_s"]
    if offset_s is not None:
        direction = "ahead of" if offset_s >= 0 else "behind"
        bad = (
            "; set one of the two right, or samples get the time of their arrival"
            if abs(offset_s) > CLOCK_WARN_S
            else ""
        )
        parts.append(f"its clock is {abs(offset_s):.3f} s {direction} ours{bad}")
    if document["profiles"]:
        parts.append(f"profiles that fit\n{matches_text(document['profiles'], indent='  ')}")
    else:
        state = quote(str(Path(document["state"]).absolute()))
        parts.append(
            "no profile here fits; draft one with "
            f"`twinedge browse opcua {document['url']} --as-profile profile.yaml --state {state}`"
        )
    return parts
