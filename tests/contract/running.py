"""A gateway with something in every table of running an edge: alarms, what was asked of them, commands, directives."""

from __future__ import annotations

from dataclasses import replace

from tests.cloud.plant import alarm
from tests.contract.plant import KEY, NOW, Edge, catalogue
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.records_alarms import AlarmAsk, AlarmChoice, alarm_id
from twincloud.storage.records_commands import Order
from twinmodel.alarms.records import AlarmRecord, encode
from twinmodel.clock import SECOND_NS
from twinmodel.signal import ALARMS_SIGNAL, Catalogue, Kind, Signal, Stream
from twinsync.command import CommandKind, CommandState, CommandStep

TABLES = frozenset({"alarms", "commands", "command_steps", "directives"})
"""What `run_plant` fills."""


def plan() -> Catalogue:
    """The pumps of other tests, and the signal of alarms."""
    plain = catalogue()
    return replace(plain, signals=(*plain.signals, Signal(len(plain), ALARMS_SIGNAL, Kind.STRING, "", Stream.ALARM)))


class Alarming(Edge):
    """A gateway that tells of alarms."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed, plan())

    def tell(self, *records: AlarmRecord | str, t_ns: int = NOW, **where):
        texts = [one if isinstance(one, str) else encode(one) for one in records]
        points = {ALARMS_SIGNAL: [(t_ns + n, text) for n, text in enumerate(texts)]}
        return self.samples(points, stream=Stream.ALARM, **where)


def order(value: float = 1200.0, **more: object) -> Order:
    """A write to the speed of a pump."""
    plain = {"for_ns": 30 * SECOND_NS, "approvals": 0, "why": "test"} | more
    return Order(CommandKind.WRITE, "speed", "", value, "", **plain)


def run_plant(store, key: GatewayKey = KEY, seed: int = 0) -> Alarming:
    """An invited gateway raises an alarm that is acknowledged, carries out one of three commands, is configured."""
    edge = Alarming(seed)
    edge.connect(store, key)
    edge.send(store, [edge.tick(NOW), edge.tell(alarm("high", source="plc0.flow"))], key=key)
    store.ask_alarms(key.tenant, [AlarmAsk(alarm_id(key, "high"), "ack", "ann")], NOW)
    store.open_directive(key, "config", "@config", name="new", content=b"site: {}", by="ann", now_ns=NOW)
    twin = TwinKey(key.tenant, key.site, "pump-0")
    done = store.issue_command(twin, order(), by="ann", now_ns=NOW)
    store.due_commands(key, edge.session, NOW)
    store.settle_command(key, CommandState(done.id, CommandStep.SUCCEEDED, "", "", 1200.0, NOW), NOW)
    store.issue_command(twin, order(900.0), by="ann", now_ns=NOW)
    store.due_commands(key, edge.session, NOW)
    store.issue_command(twin, order(800.0, approvals=1), by="ann", now_ns=NOW)
    return edge


def held(store, key: GatewayKey = KEY) -> tuple[object, ...]:
    """All that people see of it."""
    listed = store.commands_of(key.tenant).items, store.alarms(key.tenant, AlarmChoice()).items
    return (*listed, store.open_directives(key))
