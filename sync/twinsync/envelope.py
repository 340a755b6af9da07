"""Between the messages of a session and the `Up` and `Down` of the wire.

`*_from_proto` takes what a stranger sent: whatever is malformed raises InputError PROTOCOL_VIOLATION that names the
field. A directive of a kind this build does not know stays readable, so that it can be refused by name.
"""

from __future__ import annotations

from dataclasses import replace

from twinmodel.clock import MILLISECOND_NS
from twinmodel.errors import InputError
from twinmodel.signal import Catalogue
from twinsync import limits
from twinsync.command import Command, CommandConfirmed, CommandState
from twinsync.command_wire import (
    command_from_proto,
    command_to_proto,
    commandables_from_proto,
    commandables_to_proto,
    confirmed_from_proto,
    step_from_proto,
    step_to_proto,
)
from twinsync.convert import (
    boot_from_proto,
    boot_to_proto,
    catalogue_from_proto,
    catalogue_to_proto,
    clock_from_proto,
    clock_to_proto,
    item_from_proto,
    item_to_proto,
    mark_from_proto,
    mark_to_proto,
    range_from_proto,
    range_to_proto,
)
from twinsync.directive import Directive, DirectiveState
from twinsync.directive_wire import (
    DETAIL_CHARS_MAX,
    all_running_from_proto,
    digest_from_proto,
    directive_from_proto,
    directive_to_proto,
    reason_from_proto,
    refuse,
    running_to_proto,
    state_from_proto,
    state_to_proto,
)
from twinsync.item import Block, Mark
from twinsync.session.messages import (
    PART_LANES_MAX,
    Coarsen,
    Committed,
    Down,
    Heartbeat,
    Hello,
    Items,
    Nack,
    Part,
    Reject,
    Rejected,
    Up,
    Welcome,
)
from twinsync.v1 import commands_pb2, sync_pb2, types_pb2

PERIOD_MS_MAX = 24 * 3_600_000
_NO_BOOT = bytes(limits.BOOT_BYTES)


def up_to_proto(message: Up) -> sync_pb2.Up:
    """The wire's form of what a gateway says."""
    match message:
        case Hello():
            return sync_pb2.Up(hello=_hello_to_proto(message))
        case Catalogue():
            return sync_pb2.Up(catalogue=catalogue_to_proto(message))
        case Items():
            return sync_pb2.Up(
                items=sync_pb2.Items(session=message.session, items=[item_to_proto(item) for item in message.items])
            )
        case Part():
            return sync_pb2.Up(part=_part_to_proto(message))
        case DirectiveState() | CommandState():
            return _state_to_proto(message)
        case Heartbeat():
            return sync_pb2.Up(heartbeat=_heartbeat_to_proto(message))


def up_from_proto(up: sync_pb2.Up) -> Up:
    """What a gateway said; raises InputError PROTOCOL_VIOLATION."""
    kind, count = up.WhichOneof("body"), len(up.items.items)
    if count > limits.ITEMS_PER_MESSAGE_MAX:
        refuse("items.items", f"{count}, at most {limits.ITEMS_PER_MESSAGE_MAX}")
    if kind == "items":
        return Items(up.items.session, tuple(map(item_from_proto, up.items.items)))
    if kind == "part":
        return _part_from_proto(up.part)
    if kind == "hello":
        return _hello_from_proto(up.hello)
    if kind == "catalogue":
        return catalogue_from_proto(up.catalogue)
    return _told_from_proto(up)


def _told_from_proto(up: sync_pb2.Up) -> Up:
    kind = up.WhichOneof("body")
    if kind == "directive_state":
        return state_from_proto(up.directive_state)
    if kind == "command_state":
        return step_from_proto(up.command_state)
    if kind == "heartbeat":
        return _heartbeat_from_proto(up.heartbeat)
    raise InputError("PROTOCOL_VIOLATION", "up.body: is empty", field="up.body")


def down_to_proto(message: Down) -> sync_pb2.Down:
    """The wire's form of what the coordinator says."""
    match message:
        case Welcome():
            return sync_pb2.Down(welcome=_welcome_to_proto(message))
        case Reject():
            return sync_pb2.Down(
                reject=sync_pb2.Reject(
                    reason=message.reason,
                    detail=message.detail[:DETAIL_CHARS_MAX],
                    retry_after_ms=message.retry_after_ns // MILLISECOND_NS,
                )
            )
        case Committed():
            return sync_pb2.Down(committed=_committed_to_proto(message))
        case Nack():
            mark = mark_to_proto(message.expected)
            return sync_pb2.Down(
                nack=sync_pb2.Nack(boot=mark.boot, stream=mark.stream, expected_seq=message.expected.next_seq)
            )
        case Heartbeat() | Coarsen():
            return _beat_or_wish_to_proto(message)
        case Directive() | Command() | CommandConfirmed():
            return _order_to_proto(message)


def down_from_proto(down: sync_pb2.Down) -> Down:
    """What the coordinator said; raises InputError PROTOCOL_VIOLATION."""
    kind = down.WhichOneof("body")
    if kind == "committed":
        return _committed_from_proto(down.committed)
    if kind == "heartbeat":
        return _heartbeat_from_proto(down.heartbeat)
    if kind == "nack":
        return Nack(_mark("nack", down.nack.boot, down.nack.stream, down.nack.expected_seq))
    if kind == "welcome":
        return _welcome_from_proto(down.welcome)
    return _rare_from_proto(down)


def _rare_from_proto(down: sync_pb2.Down) -> Down:
    kind = down.WhichOneof("body")
    if kind == "reject":
        reason, wait_ns = down.reject.reason, down.reject.retry_after_ms * MILLISECOND_NS
        return Reject(
            reason_from_proto("reject.reason", reason) or "RETRY_AFTER", down.reject.detail[:DETAIL_CHARS_MAX], wait_ns
        )
    if kind == "directive":
        return directive_from_proto(down.directive)
    if kind == "coarsen":
        return _coarsen_from_proto(down.coarsen)
    if kind == "command":
        return command_from_proto(down.command)
    if kind == "command_confirmed":
        return confirmed_from_proto(down.command_confirmed)
    raise InputError("PROTOCOL_VIOLATION", "down.body: is empty", field="down.body")


def _state_to_proto(state: DirectiveState | CommandState) -> sync_pb2.Up:
    if isinstance(state, DirectiveState):
        return sync_pb2.Up(directive_state=state_to_proto(state))
    return sync_pb2.Up(command_state=step_to_proto(state))


def _order_to_proto(order: Directive | Command | CommandConfirmed) -> sync_pb2.Down:
    match order:
        case Directive():
            return sync_pb2.Down(directive=directive_to_proto(order))
        case Command():
            return sync_pb2.Down(command=command_to_proto(order))
        case CommandConfirmed():
            return sync_pb2.Down(command_confirmed=commands_pb2.CommandConfirmed(id=order.id))


def _hello_to_proto(hello: Hello) -> sync_pb2.Hello:
    return sync_pb2.Hello(
        protocol_min=hello.protocol_min,
        protocol_max=hello.protocol_max,
        agent_version=hello.agent_version,
        boots=[boot_to_proto(boot) for boot in hello.boots],
        ranges=[range_to_proto(held) for held in hello.ranges],
        wall_ns=hello.wall_ns,
        boot_ns=hello.boot_ns,
        clock=clock_to_proto(hello.clock),
        running=[running_to_proto(running) for running in hello.running],
        schemas=hello.schemas,
    )


def _hello_from_proto(hello: sync_pb2.Hello) -> Hello:
    if len(hello.agent_version) > limits.NAME_CHARS_MAX:
        refuse("hello.agent_version", f"{len(hello.agent_version)} characters")
    return Hello(
        hello.protocol_min,
        hello.protocol_max,
        hello.agent_version,
        tuple(boot_from_proto(boot) for boot in hello.boots),
        tuple(range_from_proto(held) for held in hello.ranges),
        hello.wall_ns,
        hello.boot_ns,
        clock_from_proto("hello.clock", hello.clock),
        all_running_from_proto("hello.running", hello.running),
        tuple(digest_from_proto("hello.schemas", digest) for digest in hello.schemas),
    )


def _beat_or_wish_to_proto(message: Heartbeat | Coarsen) -> sync_pb2.Down:
    if isinstance(message, Heartbeat):
        return sync_pb2.Down(heartbeat=_heartbeat_to_proto(message))
    wish = sync_pb2.Coarsen(
        period_ms=message.period_ns // MILLISECOND_NS, until_ns=message.until_ns, signal=message.signal
    )
    wish.stream = mark_to_proto(Mark(_NO_BOOT, message.stream, 0)).stream
    return sync_pb2.Down(coarsen=wish)


def _coarsen_from_proto(wish: sync_pb2.Coarsen) -> Coarsen:
    if wish.period_ms > PERIOD_MS_MAX:
        refuse("coarsen.period_ms", f"{wish.period_ms}")
    if len(wish.signal) > limits.NAME_CHARS_MAX:
        refuse("coarsen.signal", f"{len(wish.signal)} characters, at most {limits.NAME_CHARS_MAX}")
    stream = _mark("coarsen.stream", _NO_BOOT, wish.stream, 0).stream
    return Coarsen(stream, wish.period_ms * MILLISECOND_NS, wish.until_ns, wish.signal)


def _part_to_proto(part: Part) -> sync_pb2.Part:
    message = sync_pb2.Part(session=part.session, lane=part.lane, offset=part.offset, total=part.total)
    if part.item is not None:
        # The first piece travels inside its item.
        message.item.CopyFrom(item_to_proto(part.item))
        message.item.block.payload = part.piece
    else:
        message.piece = part.piece
    return message


def _part_from_proto(part: sync_pb2.Part) -> Part:
    if part.lane >= PART_LANES_MAX:
        refuse("part.lane", f"{part.lane}, at most {PART_LANES_MAX - 1}")
    if part.HasField("item") is (part.offset > 0) or part.HasField("item") is bool(part.piece):
        refuse("part.item", "comes with the first piece and with no other")
    item, piece = None, part.piece
    if part.HasField("item"):
        whole = item_from_proto(part.item)
        if not isinstance(whole.content, Block):
            refuse("part.item", "is no block")
        item, piece = replace(whole, content=replace(whole.content, payload=b"")), whole.content.payload
    if part.offset + len(piece) > part.total or part.total > limits.BLOCK_BYTES_MAX:
        refuse("part.total", f"{part.total}, with {len(piece)} bytes at {part.offset}")
    return Part(part.session, part.lane, item, part.offset, part.total, piece)


def _welcome_to_proto(welcome: Welcome) -> sync_pb2.Welcome:
    return sync_pb2.Welcome(
        protocol=welcome.protocol,
        session=welcome.session,
        marks=[mark_to_proto(mark) for mark in welcome.marks],
        credit_bytes=welcome.credit_bytes,
        credit_items=welcome.credit_items,
        server_ns=welcome.server_ns,
        missing_schemas=welcome.missing_schemas,
        message_bytes_max=welcome.message_bytes_max,
        heartbeat_ms=welcome.heartbeat_ns // MILLISECOND_NS,
    )


def _welcome_from_proto(welcome: sync_pb2.Welcome) -> Welcome:
    return Welcome(
        welcome.protocol,
        welcome.session,
        tuple(mark_from_proto(mark) for mark in welcome.marks),
        welcome.credit_bytes,
        welcome.credit_items,
        welcome.server_ns,
        tuple(digest_from_proto("welcome.missing_schemas", digest) for digest in welcome.missing_schemas),
        welcome.message_bytes_max,
        welcome.heartbeat_ms * MILLISECOND_NS,
    )


def _committed_to_proto(committed: Committed) -> sync_pb2.Committed:
    rejected = []
    for letter in committed.rejected:
        mark = mark_to_proto(Mark(letter.boot, letter.stream, letter.first_seq))
        rejected.append(
            sync_pb2.Rejected(boot=mark.boot, stream=mark.stream, first_seq=letter.first_seq, reason=letter.reason)
        )
    return sync_pb2.Committed(
        marks=[mark_to_proto(mark) for mark in committed.marks],
        credit_bytes=committed.credit_bytes,
        credit_items=committed.credit_items,
        rejected=rejected,
        received_bytes=committed.received,
    )


def _committed_from_proto(committed: sync_pb2.Committed) -> Committed:
    rejected = []
    for letter in committed.rejected:
        mark = _mark("committed.rejected", letter.boot, letter.stream, letter.first_seq)
        reason = reason_from_proto("committed.rejected", letter.reason)
        rejected.append(Rejected(mark.boot, mark.stream, mark.next_seq, reason))
    marks = tuple(mark_from_proto(mark) for mark in committed.marks)
    credit = (committed.credit_bytes, committed.credit_items)
    return Committed(marks, *credit, tuple(rejected), committed.received_bytes)


def _heartbeat_to_proto(heartbeat: Heartbeat) -> sync_pb2.Heartbeat:
    return sync_pb2.Heartbeat(
        session=heartbeat.session,
        wall_ns=heartbeat.wall_ns,
        running=[running_to_proto(running) for running in heartbeat.running],
        backlog_bytes=heartbeat.backlog_bytes,
        backlog_samples=heartbeat.backlog_samples,
        oldest_ns=heartbeat.oldest_ns,
        commandables=commandables_to_proto(heartbeat.commandables),
    )


def _heartbeat_from_proto(heartbeat: sync_pb2.Heartbeat) -> Heartbeat:
    if (told := max(heartbeat.backlog_bytes, heartbeat.backlog_samples)) > limits.SEQ_MAX:
        refuse("heartbeat.backlog", f"{told} is beyond {limits.SEQ_MAX}")
    return Heartbeat(
        heartbeat.session,
        heartbeat.wall_ns,
        all_running_from_proto("heartbeat.running", heartbeat.running),
        heartbeat.backlog_bytes,
        heartbeat.backlog_samples,
        heartbeat.oldest_ns,
        commandables_from_proto(heartbeat.commandables) if heartbeat.HasField("commandables") else None,
    )


def _mark(name: str, boot: bytes, stream: types_pb2.Stream.ValueType, seq: int) -> Mark:
    try:
        return mark_from_proto(types_pb2.Mark(boot=boot, stream=stream, next_seq=seq))
    except InputError as error:
        raise InputError("PROTOCOL_VIOLATION", f"{name}: {error.message}", field=name) from error
