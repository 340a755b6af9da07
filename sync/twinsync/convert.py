"""Between the dataclasses of the project and the messages of the wire; protobuf stops here.

`*_from_proto` takes what a stranger sent: whatever is malformed raises InputError PROTOCOL_VIOLATION that names
the field. A block's payload is not looked into: a damaged one is a dead letter, not a violation.
"""

from __future__ import annotations

from typing import NoReturn

from twinmodel.clock import ClockQuality
from twinmodel.errors import InputError, TwinError
from twinmodel.signal import SIGNALS_MAX, Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import limits
from twinsync.item import Block, Boot, Content, Gap, Item, Mark, NotAcquired, Outage, Range
from twinsync.v1 import types_pb2 as pb

# Enums of the wire are shifted by one: 0 is "unspecified" there.
_ENUM_SHIFT = 1


def item_to_proto(item: Item) -> pb.Item:
    """The message of an item."""
    message = pb.Item(
        boot=item.boot, stream=_stream_to_proto(item.stream), first_seq=item.first_seq, last_seq=item.last_seq
    )
    content = item.content
    if isinstance(content, Block):
        message.block.schema = content.schema
        message.block.crc32c = content.crc32c
        message.block.payload = content.payload
        message.block.t_min_ns = content.t_min_ns
        message.block.t_max_ns = content.t_max_ns
        message.block.kept = content.kept
    elif isinstance(content, Gap):
        gap = pb.Gap(reason=content.reason, count=content.count, from_ns=content.from_ns, to_ns=content.to_ns)
        message.gap.CopyFrom(gap)
    elif isinstance(content, Outage):
        outage = pb.Outage(previous_boot=content.previous_boot, from_ns=content.from_ns, to_ns=content.to_ns)
        message.outage.CopyFrom(outage)
    else:
        message.not_acquired.CopyFrom(
            pb.NotAcquired(device=content.device, reason=content.reason, from_ns=content.from_ns, to_ns=content.to_ns)
        )
    return message


def item_from_proto(message: pb.Item) -> Item:
    """The item of a message; raises InputError PROTOCOL_VIOLATION."""
    _check_boot("item.boot", message.boot)
    stream = _stream_from_proto("item.stream", message.stream)
    if message.last_seq > limits.SEQ_MAX:
        _refuse("item.last_seq", f"{message.last_seq} is beyond {limits.SEQ_MAX}")
    if message.first_seq > message.last_seq:
        _refuse("item.first_seq", f"{message.first_seq} is behind last_seq {message.last_seq}")
    count = message.last_seq - message.first_seq + 1
    return Item(message.boot, stream, message.first_seq, message.last_seq, _content_from_proto(message, count))


def mark_to_proto(mark: Mark) -> pb.Mark:
    """The message of a mark."""
    return pb.Mark(boot=mark.boot, stream=_stream_to_proto(mark.stream), next_seq=mark.next_seq)


def mark_from_proto(message: pb.Mark) -> Mark:
    """The mark of a message; raises InputError PROTOCOL_VIOLATION."""
    _check_boot("mark.boot", message.boot)
    _check_next("mark.next_seq", message.next_seq)
    return Mark(message.boot, _stream_from_proto("mark.stream", message.stream), message.next_seq)


def range_to_proto(held: Range) -> pb.Range:
    """The message of a range."""
    return pb.Range(
        boot=held.boot,
        stream=_stream_to_proto(held.stream),
        first_unacked=held.first_unacked,
        next_seq=held.next_seq,
    )


def range_from_proto(message: pb.Range) -> Range:
    """The range of a message; raises InputError PROTOCOL_VIOLATION."""
    _check_boot("range.boot", message.boot)
    _check_next("range.next_seq", message.next_seq)
    if message.first_unacked > message.next_seq:
        _refuse("range.first_unacked", f"{message.first_unacked} is behind next_seq {message.next_seq}")
    stream = _stream_from_proto("range.stream", message.stream)
    return Range(message.boot, stream, message.first_unacked, message.next_seq)


def boot_to_proto(boot: Boot) -> pb.Boot:
    """The message of a boot."""
    return pb.Boot(
        id=boot.id,
        previous=boot.previous,
        counter=boot.counter,
        started_ns=boot.started_ns,
        clock=clock_to_proto(boot.clock),
    )


def boot_from_proto(message: pb.Boot) -> Boot:
    """The boot of a message; raises InputError PROTOCOL_VIOLATION."""
    _check_boot("boot.id", message.id)
    if message.previous:
        _check_boot("boot.previous", message.previous)
    if message.counter > limits.SEQ_MAX:
        _refuse("boot.counter", f"{message.counter} is beyond {limits.SEQ_MAX}")
    clock = clock_from_proto("boot.clock", message.clock)
    return Boot(message.id, message.previous, message.counter, message.started_ns, clock)


def clock_to_proto(clock: ClockQuality) -> pb.ClockQuality.ValueType:
    """The wire's number of a clock quality."""
    return pb.ClockQuality.ValueType(int(clock) + _ENUM_SHIFT)


def clock_from_proto(name: str, number: int) -> ClockQuality:
    """The clock quality of the wire's number in the field `name`; raises InputError PROTOCOL_VIOLATION."""
    try:
        return ClockQuality(number - _ENUM_SHIFT)
    except ValueError:
        _refuse(name, f"{number} is no clock quality")


def catalogue_to_proto(catalogue: Catalogue) -> pb.Catalogue:
    """The message of a catalogue, digest included."""
    return pb.Catalogue(
        digest=catalogue.digest,
        time_step_ns=catalogue.time_step_ns,
        signals=[
            pb.Signal(
                name=signal.name,
                kind=pb.Kind.ValueType(int(signal.kind)),
                unit=signal.unit,
                stream=_stream_to_proto(signal.stream),
                exponent=signal.exponent,
                step=signal.step,
                period_ns=signal.period_ns,
            )
            for signal in catalogue.signals
        ],
        twins=[
            pb.TwinBinding(
                twin=twin.twin,
                definition=twin.definition,
                model=twin.model,
                properties=twin.properties,
                outputs=twin.outputs,
                units=twin.units,
            )
            for twin in catalogue.twins
        ],
    )


def catalogue_from_proto(message: pb.Catalogue) -> Catalogue:
    """The catalogue of a message, once its content has the digest it claims; raises InputError PROTOCOL_VIOLATION."""
    if not 1 <= message.time_step_ns <= limits.TIME_NS_MAX:
        _refuse("catalogue.time_step_ns", f"{message.time_step_ns} is not in [1, {limits.TIME_NS_MAX}]")
    if len(message.signals) > SIGNALS_MAX:
        _refuse("catalogue.signals", f"{len(message.signals)} signals, at most {SIGNALS_MAX}")
    if len(message.twins) > limits.CATALOGUE_TWINS_MAX:
        _refuse("catalogue.twins", f"{len(message.twins)} twins, at most {limits.CATALOGUE_TWINS_MAX}")
    signals = tuple(_signal_from_proto(position, signal) for position, signal in enumerate(message.signals))
    twins = tuple(_twin_from_proto(position, twin) for position, twin in enumerate(message.twins))
    try:
        catalogue = Catalogue(signals, twins, message.time_step_ns)
    except TwinError as error:
        raise InputError("PROTOCOL_VIOLATION", f"catalogue.signals: {error.message}", field="catalogue") from error
    if catalogue.digest != message.digest:
        _refuse("catalogue.digest", f"claims {message.digest.hex() or 'none'}, content has {catalogue.digest.hex()}")
    return catalogue


def _content_from_proto(message: pb.Item, count: int) -> Content:
    kind = message.WhichOneof("content")
    if kind == "block":
        return _block_from_proto(message.block, count)
    if kind == "gap":
        gap = message.gap
        if gap.count != count:
            _refuse("gap.count", f"{gap.count}, but the item spans {count} numbers")
        _check_reason("gap.reason", gap.reason)
        return Gap(gap.reason, gap.count, gap.from_ns, gap.to_ns)
    if kind is None:
        _refuse("item.content", "is empty")
    if count != 1:
        _refuse("item.last_seq", f"{kind} occupies one number, not {count}")
    if kind == "outage":
        _check_boot("outage.previous_boot", message.outage.previous_boot)
        return Outage(message.outage.previous_boot, message.outage.from_ns, message.outage.to_ns)
    record = message.not_acquired
    _check_name("not_acquired.device", record.device)
    _check_reason("not_acquired.reason", record.reason)
    return NotAcquired(record.device, record.reason, record.from_ns, record.to_ns)


def _block_from_proto(block: pb.Block, count: int) -> Block:
    if count > limits.BLOCK_SAMPLES_MAX:
        _refuse("item.last_seq", f"a block of {count} samples, at most {limits.BLOCK_SAMPLES_MAX}")
    if len(block.schema) != limits.DIGEST_BYTES:
        _refuse("block.schema", f"{len(block.schema)} bytes, not {limits.DIGEST_BYTES}")
    if not 0 < len(block.payload) <= limits.BLOCK_BYTES_MAX:
        _refuse("block.payload", f"{len(block.payload)} bytes, not in [1, {limits.BLOCK_BYTES_MAX}]")
    if block.t_min_ns > block.t_max_ns:
        _refuse("block.t_min_ns", f"{block.t_min_ns} is later than t_max_ns {block.t_max_ns}")
    if len(block.kept) > limits.KEPT_BYTES_MAX:
        _refuse("block.kept", f"{len(block.kept)} bytes, at most {limits.KEPT_BYTES_MAX}")
    return Block(block.schema, block.crc32c, block.payload, block.t_min_ns, block.t_max_ns, block.kept)


def _signal_from_proto(position: int, signal: pb.Signal) -> Signal:
    name = f"catalogue.signals[{position}]"
    _check_name(f"{name}.name", signal.name)
    if len(signal.unit) > limits.NAME_CHARS_MAX:
        _refuse(f"{name}.unit", f"{len(signal.unit)} characters, at most {limits.NAME_CHARS_MAX}")
    try:
        kind = Kind(signal.kind)
    except ValueError:
        _refuse(f"{name}.kind", f"{signal.kind} is no kind")
    if signal.step < 1:
        _refuse(f"{name}.step", "is 0")
    if signal.period_ns > limits.TIME_NS_MAX:
        _refuse(f"{name}.period_ns", f"{signal.period_ns} is beyond {limits.TIME_NS_MAX}")
    stream = _stream_from_proto(f"{name}.stream", signal.stream)
    return Signal(position, signal.name, kind, signal.unit, stream, signal.exponent, signal.step, signal.period_ns)


def _twin_from_proto(position: int, twin: pb.TwinBinding) -> TwinBinding:
    name = f"catalogue.twins[{position}]"
    _check_name(f"{name}.twin", twin.twin)
    for field, text in (("definition", twin.definition), ("model", twin.model)):
        if len(text) > limits.NAME_CHARS_MAX:
            _refuse(f"{name}.{field}", f"{len(text)} characters, at most {limits.NAME_CHARS_MAX}")
    return TwinBinding(
        twin.twin, twin.definition, twin.model, dict(twin.properties), tuple(twin.outputs), dict(twin.units)
    )


def _stream_to_proto(stream: Stream) -> pb.Stream.ValueType:
    return pb.Stream.ValueType(int(stream) + _ENUM_SHIFT)


def _stream_from_proto(name: str, number: int) -> Stream:
    try:
        return Stream(number - _ENUM_SHIFT)
    except ValueError:
        _refuse(name, f"{number} is no stream")


def _check_boot(name: str, boot: bytes) -> None:
    if len(boot) != limits.BOOT_BYTES:
        _refuse(name, f"{len(boot)} bytes, not {limits.BOOT_BYTES}")


def _check_next(name: str, next_seq: int) -> None:
    if next_seq > limits.SEQ_MAX + 1:
        _refuse(name, f"{next_seq} is beyond {limits.SEQ_MAX}")


def _check_name(name: str, text: str) -> None:
    if not 0 < len(text) <= limits.NAME_CHARS_MAX:
        _refuse(name, f"{len(text)} characters, not in [1, {limits.NAME_CHARS_MAX}]")


def _check_reason(name: str, text: str) -> None:
    if not 0 < len(text) <= limits.REASON_CHARS_MAX:
        _refuse(name, f"{len(text)} characters, not in [1, {limits.REASON_CHARS_MAX}]")


def _refuse(name: str, why: str) -> NoReturn:
    raise InputError("PROTOCOL_VIOLATION", f"{name}: {why}", field=name)
