"""A gateway whose devices do what they are told and write it down, and the catalogue that says what may be told."""

from __future__ import annotations

from dataclasses import replace

from tests.cloud.ingest.memory import CATALOGUE, CLOCK, SilentDownlink
from twinedge.uplink.sender import Uplink
from twinmodel.signal import ALARMS_SIGNAL, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync.command import Command, CommandConfirmed, CommandState, CommandStep


def catalogue(number: int = 0) -> Catalogue:
    """One twin `press-NUMBER`, one signal of it that may be written, and alarms."""
    signals = (*CATALOGUE.signals, Signal(2, ALARMS_SIGNAL, Kind.STRING, "", Stream.ALARM))
    twin = TwinBinding(f"press-{number}", "press", "", {"level": "press.level"}, (), {"level": ""})
    return replace(CATALOGUE, signals=signals, twins=(twin,))


class Plant:
    """The devices; what they did is told again in each session until the coordinator confirms it.

    Attributes:
        ordered: ids of commands, as often as each came.
        untold: ends the coordinator has not confirmed.
        uplink: to be set before the first command.
        busy: while it is, commands are begun and not ended.
    """

    def __init__(self, *, busy: bool = False) -> None:
        self.ordered: list[str] = []
        self.untold: dict[str, CommandState] = {}
        self.downlink = SilentDownlink()
        self.uplink: Uplink | None = None
        self.busy = busy

    def order(self, command: Command) -> None:
        self.ordered.append(command.id)
        if not self.busy:
            self.end(command.id, command.arguments)

    def end(self, command: str, read_back) -> None:
        """The device has done it."""
        done = CommandState(command, CommandStep.SUCCEEDED, "", "", read_back, CLOCK.wall_ns())
        self.untold[command] = done
        self.uplink.report(done)

    def confirmed(self, told: CommandConfirmed) -> None:
        self.untold.pop(told.id, None)

    def states(self):
        return tuple(self.untold.values())

    def commandables(self) -> None:
        """It says nothing of what may be told."""

    def session_ended(self) -> None: ...
