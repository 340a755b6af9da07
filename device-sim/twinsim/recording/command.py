"""`twinsim record` and `twinsim replay`: what runs behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from twinmodel.clock import Clock
from twinmodel.errors import InputError
from twinsim.background import background
from twinsim.recording.file import Recorder, Recording, read_recording

Tell = Callable[[str], None]


async def record(
    protocol: str,
    origin: str,
    out: Path,
    clock: Clock,
    stop: asyncio.Event,
    tell: Tell,
    *,
    port: int = 0,
    topics: tuple[str, ...] = ("#",),
    root: str = "",
) -> Recorder:
    """Records until `stop` and returns the recorder, closed.

    Args:
        protocol: `modbus`, `opcua` or `mqtt`.
        origin: address of what to record from.
        out: file to make.
        clock: where times come from.
        stop: ends it.
        tell: is told where clients are to connect, once.
        port: modbus: where the proxy listens, 0 for any.
        topics: mqtt: filters to subscribe to.
        root: opcua: browse path to record below.

    Raises:
        TwinError: for an address that is none or does not answer, and a file that cannot be made.
    """
    recorder = Recorder(out, protocol, origin, clock)
    try:
        if protocol == "modbus":
            from twinsim.recording.modbus import recording_proxy  # noqa: PLC0415  # one protocol at a time

            async with background() as tasks, recording_proxy(recorder, _place(origin), tasks, port=port) as found:
                tell(f"recording {origin} at tcp://127.0.0.1:{found}")
                await stop.wait()
                tasks.cancel()
                await asyncio.sleep(0)
        elif protocol == "mqtt":
            from twinsim.recording.mqtt import record_messages  # noqa: PLC0415  # one protocol at a time

            tell(f"recording {origin}")
            await record_messages(recorder, origin, topics, stop)
        else:
            from twinsim.recording.opcua import record_nodes  # noqa: PLC0415  # one protocol at a time

            tell(f"recording {origin}")
            await record_nodes(recorder, origin, root, stop)
    finally:
        recorder.close()
    return recorder


def _place(origin: str) -> tuple[str, int]:
    place = urlsplit(origin if "://" in origin else f"tcp://{origin}")
    try:
        port = place.port or 502
    except ValueError:
        port = 0
    if place.scheme != "tcp" or not place.hostname or not port:
        raise InputError("VALUE_INVALID", f"{origin!r} is no Modbus TCP device", hint="write tcp://HOST:PORT")
    return place.hostname, port


async def replay(
    file: Path,
    clock: Clock,
    stop: asyncio.Event,
    tell: Tell,
    *,
    state: Path,
    speed: float = 1.0,
    port: int = 0,
    broker: str | None = None,
) -> Recording:
    """Serves a recording until `stop`; messages of MQTT are published once, then it ends.

    Raises:
        TwinError: as `read_recording`; for a port in use and a broker that does not answer.
    """
    recording = read_recording(file)
    if recording.protocol == "mqtt":
        if broker is None:
            raise InputError("VALUE_INVALID", "messages need a broker to go to", hint="add --broker mqtt://HOST:PORT")
        tell(f"replaying {len(recording.events)} messages to {broker}")
        async with background() as tasks:
            playing = tasks.start(_publish(recording, broker, speed), "replay")
            stopping = tasks.start(_wait(stop), "stop")
            await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return recording
    async with background() as tasks:
        if recording.protocol == "modbus":
            from twinsim.recording.modbus import replaying_server  # noqa: PLC0415  # one protocol at a time

            async with replaying_server(recording, clock, tasks, speed=speed, port=port) as found:
                tell(f"replaying {len(recording.events)} requests at tcp://127.0.0.1:{found}")
                await stop.wait()
                tasks.cancel()
        else:
            from twinsim.recording.opcua import replaying_nodes  # noqa: PLC0415  # one protocol at a time

            async with replaying_nodes(recording, clock, tasks, state=state, speed=speed, port=port) as found:
                tell(f"replaying {len(recording.events)} changes at opc.tcp://127.0.0.1:{found}/twinsim")
                await stop.wait()
                tasks.cancel()
    return recording


async def _publish(recording: Recording, broker: str, speed: float) -> None:
    from twinsim.recording.mqtt import replay_messages  # noqa: PLC0415  # one protocol at a time

    await replay_messages(recording, broker, speed=speed)


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()
