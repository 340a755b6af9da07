"""Looks at everything, one thing after the other; what a look meets itself is a finding, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from twinedge.doctor import gateway, machine
from twinedge.doctor.finding import Finding, Place, Verdict, bad
from twinmodel.errors import TwinError

Look = Callable[[Place], Iterator[Finding]]

LOOKS: Sequence[Look] = (
    machine.look_at_folder,
    gateway.look_at_configuration,
    gateway.look_at_identity,
    machine.look_at_clock,
    machine.look_at_disk,
    gateway.look_at_spool,
    machine.look_at_kernels,
    gateway.look_at_models,
    machine.look_at_limits,
    machine.look_at_service,
    gateway.look_at_agent,
)


def examine(place: Place, looks: Sequence[Look] = LOOKS) -> list[Finding]:
    """All findings, in order."""
    found: list[Finding] = []
    for look in looks:
        try:
            found += look(place)
        except (TwinError, OSError, ValueError, KeyError) as error:
            # A gateway that is that broken is what a doctor is called for.
            name = look.__name__.removeprefix("look_at_")
            found.append(bad(name, f"could not be looked at: {type(error).__name__}: {error}"))
    return found


def sound(found: Sequence[Finding]) -> bool:
    """Whether nothing is BAD."""
    return all(one.verdict is not Verdict.BAD for one in found)
