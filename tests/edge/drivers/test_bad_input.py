"""One broker, a device that sends whatever is wrong and a device that is sound: the second does not feel the first."""

from __future__ import annotations

import json
import random
import struct

from tests.edge.drivers.test_mqtt_wire import length, publish, scripted
from twinedge.drivers.mqtt import MqttDriver
from twinedge.drivers.payload import PAYLOAD_MAX
from twinmodel.clock import MILLISECOND_NS
from twinmodel.quality import GOOD, QualityReason, bad, uncertain

DECODE, CLOCK = bad(QualityReason.DECODE), uncertain(QualityReason.CLOCK)
PROFILE = {
    "defaults": {"topic": "{root}/#", "time": "$.t", "unit_at": "$.unit"},
    "points": {"v": {"at": "$.v", "unit": "m"}},
}


def cases(now_ms):
    """Payload, quality of what becomes of it, part of the error."""
    return [
        (b"9" * (10 << 20), DECODE, "LIMIT_EXCEEDED"),
        (b"9" * (PAYLOAD_MAX + 1), DECODE, "LIMIT_EXCEEDED"),
        (b'{"v": "\xff"}', DECODE, "not UTF-8"),
        (b"", DECODE, "not JSON"),
        (b'{"v": ' * 5000, DECODE, "not JSON"),
        (b'{"v": 1' + b"0" * 5000 + b"}", DECODE, "not JSON"),
        (json.dumps({"t": now_ms, "v": "high", "unit": "m"}).encode(), DECODE, "no float"),
        (json.dumps({"t": now_ms, "v": 1.0, "unit": "degC"}).encode(), DECODE, "UNIT_CLASH"),
        (json.dumps({"t": now_ms, "v": 1.0, "unit": "(" * 3000}).encode(), DECODE, "UNIT_UNKNOWN"),
        (json.dumps({"t": 0, "v": 1.0, "unit": "m"}).encode(), CLOCK, ""),
        (json.dumps({"t": 1e300, "v": 1.0, "unit": "m"}).encode(), CLOCK, ""),
    ]


async def test_whatever_one_device_sends_the_other_is_read_and_nothing_is_lost(assign, clock, rng, running, sink):
    now_ms = clock.wall_ns() // MILLISECOND_NS
    wrong, chance = cases(now_ms), random.Random(3)

    def sound(n):
        return publish("sound/a", json.dumps({"t": now_ms + n, "v": float(n), "unit": "m"}).encode(), mid=1000 + n)

    async def serve(writer):
        for n, (payload, _, _) in enumerate(wrong):
            writer.write(publish(f"odd/{n}", payload, mid=n + 1) + sound(n))
            await writer.drain()
        # A topic that is no text; new topics without end; bytes by chance.
        body = struct.pack(">H", 6) + b"odd/\xff\xfe" + struct.pack(">H", 500) + b"\0{}"
        writer.write(b"\x32" + length(len(body)) + body)
        for n in range(5000):
            writer.write(publish(f"odd/flood/{n}", chance.randbytes(20)))
        writer.write(sound(len(wrong)))
        await writer.drain()

    async with scripted(serve) as port:
        address = f"mqtt://127.0.0.1:{port}"
        assignments, _ = assign(
            ("odd", {"mqtt": address, "root": "odd"}, PROFILE), ("sound", {"mqtt": address, "root": "sound"}, PROFILE)
        )
        driver = MqttDriver(assignments, clock=clock, rng=rng, client_id="g", linger_s=0.0)
        async with running(driver, sink):
            await sink.until(lambda: len(sink.samples(1)) == len(wrong) + 1, within_s=40)
            odd, even = driver.health()
            assert odd.connected
            assert even.connected
            assert (even.errors, even.last_error) == (0, "")
            assert odd.errors >= 5000
            assert [row[1:3] for row in sink.samples(1)] == [(float(n), GOOD) for n in range(len(wrong) + 1)]
            told = [row[2] for row in sink.samples(0)]
            assert told[: len(wrong)] == [quality for _, quality, _ in wrong]
            assert set(told[len(wrong) :]) == {DECODE}
            for delivery in sink.deliveries:
                delivery.done()
            assert driver._in_flight.pending == 0


async def test_each_wrong_payload_says_what_is_wrong(assign, clock, rng, running, sink):
    for payload, quality, part in cases(clock.wall_ns() // MILLISECOND_NS):

        async def serve(writer, payload=payload):
            writer.write(publish("odd/a", payload))
            await writer.drain()

        async with scripted(serve) as port:
            assignments, _ = assign(("odd", {"mqtt": f"mqtt://127.0.0.1:{port}", "root": "odd"}, PROFILE))
            driver = MqttDriver(assignments, clock=clock, rng=rng, client_id="g", linger_s=0.0)
            begun = len(sink.items)
            async with running(driver, sink):
                await sink.until(lambda since=begun: sink.samples(0, since))
                assert sink.samples(0, begun)[0][2] == quality
                assert part in driver.health()[0].last_error
