"""Between commands, their steps, and the wire; what is malformed is refused by its field's name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgpack

from twinmodel.clock import MILLISECOND_NS
from twinsync import limits
from twinsync.command import Arguments, Command, Commandable, CommandConfirmed, CommandKind, CommandState, CommandStep
from twinsync.directive_wire import DETAIL_CHARS_MAX, check_name, reason_from_proto, refuse
from twinsync.v1 import commands_pb2


def command_to_proto(command: Command) -> commands_pb2.Command:
    """The wire's form of a command; what is left is rounded down."""
    return commands_pb2.Command(
        id=command.id,
        session=command.session,
        kind=commands_pb2.CommandKind.ValueType(int(command.kind)),
        target=command.target,
        arguments=_pack(command.arguments),
        left_ms=max(command.left_ns, 0) // MILLISECOND_NS,
        issued_ns=command.issued_ns,
        by=command.by,
        approved_by=command.approved_by,
    )


def command_from_proto(command: commands_pb2.Command) -> Command:
    """A command; one of a kind this build does not know stays readable, so that it can be refused by name."""
    for name in ("id", "target"):
        check_name(f"command.{name}", getattr(command, name), chars_min=1)
    check_name("command.by", command.by)
    if len(command.approved_by) > limits.APPROVALS_MAX:
        refuse("command.approved_by", f"{len(command.approved_by)}, at most {limits.APPROVALS_MAX}")
    for who in command.approved_by:
        check_name("command.approved_by", who)
    if command.left_ms > limits.COMMAND_MS_MAX:
        refuse("command.left_ms", f"{command.left_ms}, at most {limits.COMMAND_MS_MAX}")
    if command.session > limits.SEQ_MAX:
        refuse("command.session", f"{command.session} is beyond {limits.SEQ_MAX}")
    known = command.kind in CommandKind._value2member_map_
    return Command(
        command.id,
        command.session,
        CommandKind(command.kind) if known else CommandKind.UNSPECIFIED,
        command.target,
        _unpack("command.arguments", command.arguments),
        command.left_ms * MILLISECOND_NS,
        command.issued_ns,
        command.by,
        tuple(command.approved_by),
    )


def step_to_proto(state: CommandState) -> commands_pb2.CommandState:
    """The wire's form of a step; its detail is cut to `DETAIL_CHARS_MAX`."""
    return commands_pb2.CommandState(
        id=state.id,
        step=commands_pb2.CommandStep.ValueType(int(state.step)),
        reason=state.reason,
        detail=state.detail[:DETAIL_CHARS_MAX],
        read_back=_pack(state.read_back),
        at_ns=state.at_ns,
    )


def step_from_proto(state: commands_pb2.CommandState) -> CommandState:
    """A step of a command."""
    check_name("command_state.id", state.id, chars_min=1)
    if state.step not in CommandStep._value2member_map_:
        refuse("command_state.step", f"{state.step} is no step")
    return CommandState(
        state.id,
        CommandStep(state.step),
        reason_from_proto("command_state.reason", state.reason),
        state.detail[:DETAIL_CHARS_MAX],
        _unpack("command_state.read_back", state.read_back),
        state.at_ns,
    )


def confirmed_from_proto(confirmed: commands_pb2.CommandConfirmed) -> CommandConfirmed:
    """That the end of a command is held."""
    check_name("command_confirmed.id", confirmed.id, chars_min=1)
    return CommandConfirmed(confirmed.id)


def commandables_to_proto(commandables: Sequence[Commandable] | None) -> commands_pb2.Commandables | None:
    """The wire's form of what may be commanded; None where nothing is told of it."""
    if commandables is None:
        return None
    return commands_pb2.Commandables(
        targets=[
            commands_pb2.Commandable(
                target=one.target, two_persons=one.two_persons, unit=one.unit, low=one.low, high=one.high
            )
            for one in commandables
        ]
    )


def commandables_from_proto(message: commands_pb2.Commandables) -> tuple[Commandable, ...]:
    """What may be commanded of a gateway."""
    name = "heartbeat.commandables"
    if len(message.targets) > limits.COMMANDABLES_MAX:
        refuse(name, f"{len(message.targets)}, at most {limits.COMMANDABLES_MAX}")
    found = []
    for one in message.targets:
        check_name(f"{name}.target", one.target, chars_min=1)
        check_name(f"{name}.unit", one.unit)
        low = one.low if one.HasField("low") else None
        high = one.high if one.HasField("high") else None
        if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
            refuse(f"{name}.{one.target}", f"its range is {low} .. {high}")
        found.append(Commandable(one.target, one.two_persons, one.unit, low, high))
    return tuple(found)


def _pack(arguments: Arguments) -> bytes:
    packed: bytes = msgpack.packb(arguments)
    return packed


def _unpack(name: str, packed: bytes) -> Arguments:
    """Values alone, and one list of them at most: a program has nothing else to say to a device."""
    if len(packed) > limits.ARGUMENTS_BYTES_MAX:
        refuse(name, f"{len(packed)} bytes, at most {limits.ARGUMENTS_BYTES_MAX}")
    if not packed:
        return None
    try:
        found = msgpack.unpackb(packed, use_list=False, strict_map_key=True)
    except (ValueError, TypeError, msgpack.UnpackException) as wrong:
        refuse(name, f"is no MessagePack: {wrong}")
    for value in found if isinstance(found, tuple) else (found,):
        if not isinstance(value, bool | int | float | str | None):
            refuse(name, f"holds a {type(value).__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            refuse(name, f"holds {value}")
    arguments: Arguments = found
    return arguments
