"""A server whose variables all change once a second: `python -m bench.drivers.opcua_server VARIABLES`.

Sessions, subscriptions and monitored items are those of asyncua; the notifications are written as bytes, once a
second for all items of a subscription, so that the server costs a fraction of what its clients do. Of ten variables
seven are Double, one Float, one Int32, one Boolean, in groups as devices have them. Prints the port.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from typing import Any

import asyncua.ua
from asyncua.server import subscription_service
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.server import Server

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

URI = "urn:hybridtwin:bench"
FOLDER = 100
PERIOD_S = 1.0
FIRST_ID = 1_000_000
TICKS_TO_1970 = 116_444_736_000_000_000
KINDS = (*(["d"] * 7), "f", "i", "b")
_HEAD, _STAMPS = struct.Struct("<IBB"), struct.Struct("<qq")
_VALUES = {"d": (11, struct.Struct("<d")), "f": (10, struct.Struct("<f")), "i": (6, struct.Struct("<i"))}
_VALUES["b"] = (1, struct.Struct("<?"))
_INITIAL = {"d": (0.0, ua.VariantType.Double), "f": (0.0, ua.VariantType.Float)}
_INITIAL |= {"i": (0, ua.VariantType.Int32), "b": (False, ua.VariantType.Boolean)}


def kind_of(number: int) -> str:
    """Type of a variable: groups of ten of one type within a folder."""
    return KINDS[number % FOLDER // (FOLDER // len(KINDS))]


class Steady(InternalSubscription):
    """A subscription that notifies of all its items once a period."""

    _due_s = 0.0
    _round = 0

    def has_published_results(self) -> bool:
        """See the library."""
        now_s = time.monotonic()
        if self.monitored_item_srv._monitored_items and now_s >= self._due_s:  # noqa: SLF001  # no public way
            return True
        self._triggered_datachanges = {}
        return bool(super().has_published_results())

    def _pop_triggered_datachanges(self, result: Any) -> None:
        self._triggered_datachanges = {}
        items: dict[int, Any] = self.monitored_item_srv._monitored_items  # noqa: SLF001  # no public way
        now_s = time.monotonic()
        if not items or now_s < self._due_s:
            return
        self._due_s = max(self._due_s + PERIOD_S, now_s)
        self._round += 1
        now = time.time_ns() // 100 + TICKS_TO_1970
        stamps = _STAMPS.pack(now, now)
        parts = [struct.pack("<i", len(items))]
        for item in items.values():
            kind = kind_of(int(item.read_value_id.NodeId.Identifier) - FIRST_ID)
            number, value = _VALUES[kind]
            head = _HEAD.pack(item.client_handle, 0x0D, number)
            parts += (head, value.pack(self._round % 2 if kind == "b" else self._round), stamps)
        body = b"".join((*parts, struct.pack("<i", 0)))
        encoding = ua.NodeId(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary)
        result.NotificationMessage.NotificationData.append(ua.ExtensionObject(TypeId=encoding, Body=body))


async def main(variables: int) -> None:
    """Serves until killed."""
    service: Any = subscription_service
    service.InternalSubscription = Steady
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(URI)
    folder = server.nodes.objects
    for number in range(variables):
        if number % FOLDER == 0:
            folder = await server.nodes.objects.add_object(index, f"F{number // FOLDER}")
        node, name = ua.NodeId(FIRST_ID + number, index), ua.QualifiedName(f"V{number}", index)
        await folder.add_variable(node, name, *_INITIAL[kind_of(number)])
    async with server:
        listening: Any = server.bserver
        print(listening.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
