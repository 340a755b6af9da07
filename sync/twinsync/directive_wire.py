"""Between directives, their outcomes and what runs, and the wire; what is malformed is refused by its field's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from twinmodel.errors import InputError
from twinsync import limits
from twinsync.directive import Directive, DirectiveKind, DirectiveState, Outcome, Running
from twinsync.v1 import directives_pb2

DETAIL_CHARS_MAX = 1024
RUNNING_MAX = 4096


def directive_to_proto(directive: Directive) -> directives_pb2.Directive:
    """The wire's form of a directive."""
    return directives_pb2.Directive(
        id=directive.id,
        kind=directives_pb2.DirectiveKind.ValueType(int(directive.kind)),
        target=directive.target,
        version=directive.version,
        digest=directive.digest,
        size=directive.size,
        name=directive.name,
        deadline_ns=directive.deadline_ns,
        content=directive.content,
    )


def directive_from_proto(directive: directives_pb2.Directive) -> Directive:
    """A directive; one of a kind this build does not know stays readable, so that it can be refused by name."""
    for name in ("id", "target"):
        check_name(f"directive.{name}", getattr(directive, name), chars_min=1)
    check_name("directive.name", directive.name)
    if directive.version > limits.SEQ_MAX:
        refuse("directive.version", f"{directive.version} is beyond {limits.SEQ_MAX}")
    if len(directive.content) > limits.CONTENT_BYTES_MAX:
        refuse("directive.content", f"{len(directive.content)} bytes, at most {limits.CONTENT_BYTES_MAX}")
    known = directive.kind in DirectiveKind._value2member_map_
    kind = DirectiveKind(directive.kind) if known else DirectiveKind.UNSPECIFIED
    return Directive(
        directive.id,
        kind,
        directive.target,
        directive.version,
        directive.digest,
        directive.size,
        directive.name,
        directive.deadline_ns,
        directive.content,
    )


def state_to_proto(state: DirectiveState) -> directives_pb2.DirectiveState:
    """The wire's form of an outcome; its detail is cut to `DETAIL_CHARS_MAX`."""
    return directives_pb2.DirectiveState(
        id=state.id,
        outcome=directives_pb2.DirectiveOutcome.ValueType(int(state.outcome)),
        reason=state.reason,
        detail=state.detail[:DETAIL_CHARS_MAX],
        running_digest=state.running_digest,
        at_ns=state.at_ns,
    )


def state_from_proto(state: directives_pb2.DirectiveState) -> DirectiveState:
    """The outcome of a directive."""
    check_name("directive_state.id", state.id, chars_min=1)
    if state.outcome not in Outcome._value2member_map_:
        refuse("directive_state.outcome", f"{state.outcome} is no outcome")
    digest = digest_from_proto("directive_state.running_digest", state.running_digest) if state.running_digest else b""
    reason = reason_from_proto("directive_state.reason", state.reason)
    return DirectiveState(
        state.id, Outcome(state.outcome), reason, state.detail[:DETAIL_CHARS_MAX], digest, state.at_ns
    )


def running_to_proto(running: Running) -> directives_pb2.Running:
    """The wire's form of what a twin runs."""
    return directives_pb2.Running(
        twin=running.twin,
        digest=running.digest,
        name=running.name,
        tier=running.tier,
        isolation=running.isolation,
    )


def all_running_from_proto(name: str, messages: Sequence[directives_pb2.Running]) -> tuple[Running, ...]:
    """What the twins of a gateway run; `name` is the field that is told when something is wrong."""
    if len(messages) > RUNNING_MAX:
        refuse(name, f"{len(messages)}, at most {RUNNING_MAX}")
    found = []
    for running in messages:
        check_name(f"{name}.twin", running.twin, chars_min=1)
        check_name(f"{name}.name", running.name)
        check_name(f"{name}.tier", running.tier)
        check_name(f"{name}.isolation", running.isolation)
        digest = digest_from_proto(f"{name}.digest", running.digest)
        found.append(Running(running.twin, digest, running.name, running.tier, running.isolation))
    return tuple(found)


def digest_from_proto(name: str, digest: bytes) -> bytes:
    """A digest of the right length."""
    if len(digest) != limits.DIGEST_BYTES:
        refuse(name, f"{len(digest)} bytes, not {limits.DIGEST_BYTES}")
    return digest


def check_name(name: str, text: str, *, chars_min: int = 0) -> None:
    """Refuses a name that is too long or too short."""
    if not chars_min <= len(text) <= limits.NAME_CHARS_MAX:
        refuse(name, f"{len(text)} characters, not in [{chars_min}, {limits.NAME_CHARS_MAX}]")


def reason_from_proto(name: str, text: str) -> str:
    """A reason within its bound."""
    if len(text) > limits.REASON_CHARS_MAX:
        refuse(name, f"{len(text)} characters, at most {limits.REASON_CHARS_MAX}")
    return text


def refuse(name: str, why: str) -> NoReturn:
    """Raises InputError PROTOCOL_VIOLATION for the field `name`."""
    raise InputError("PROTOCOL_VIOLATION", f"{name}: {why}", field=name)
