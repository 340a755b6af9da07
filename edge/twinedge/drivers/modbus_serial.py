"""A serial line as an asyncio transport, opened with the terminal interface of the system: no library is needed."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import termios

from twinedge.config.address import ModbusAddress

BITS_PER_BYTE = 11
"""Start, eight data bits, parity or a second stop bit, stop."""
SILENCE_BYTES = 3.5
SILENCE_LEAST_S = 0.00175
READ_MAX = 1024


def silence_s(address: ModbusAddress) -> float:
    """The pause that ends a frame: 3.5 characters, above 19200 baud 1.75 ms (Modbus over serial line 2.5.1.1)."""
    return max(SILENCE_BYTES * BITS_PER_BYTE / address.baud, SILENCE_LEAST_S)


def transmission_s(address: ModbusAddress, size: int) -> float:
    """Time that bytes take on the line."""
    return size * BITS_PER_BYTE / address.baud if address.framing == "rtu" else 0.0


def open_serial(address: ModbusAddress, protocol: asyncio.Protocol) -> SerialTransport:
    """Opens and sets a line, and reads it from now on.

    Raises:
        OSError: there is no such device, another process has it, or it refuses the settings.
    """
    fd = os.open(address.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(fd, termios.TIOCEXCL)
        _configure(fd, address)
        termios.tcflush(fd, termios.TCIOFLUSH)
        return SerialTransport(fd, protocol)
    except termios.error as wrong:
        os.close(fd)
        raise OSError(wrong.args[0], f"{address.path}: {wrong.args[1]}") from wrong
    except OSError as wrong:
        os.close(fd)
        if wrong.errno in {errno.EAGAIN, errno.EWOULDBLOCK}:
            raise OSError(errno.EBUSY, f"another process has {address.path}") from wrong
        raise


def _configure(fd: int, address: ModbusAddress) -> None:
    """Raw bytes, no flow control, the modem lines ignored."""
    speed = getattr(termios, f"B{address.baud}")
    control = termios.CS8 | termios.CREAD | termios.CLOCAL
    inputs = 0
    if address.parity != "N":
        control |= termios.PARENB | (termios.PARODD if address.parity == "O" else 0)
        inputs |= termios.INPCK
    if address.stop == 2:
        control |= termios.CSTOPB
    characters = termios.tcgetattr(fd)[6]
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSANOW, [inputs, 0, control, 0, speed, speed, characters])


class SerialTransport(asyncio.Transport):
    """The bytes of a serial line; an error of the device closes it."""

    def __init__(self, fd: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._fd: int | None = fd
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unsent = b""
        self._loop.add_reader(fd, self._readable)
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes; what the line does not take at once follows as soon as it does."""
        self._unsent += bytes(data)
        self._flush()

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._fd is None

    def close(self) -> None:
        """Closes it and tells the protocol."""
        self._close(None)

    def abort(self) -> None:
        """As `close`: nothing is waited for."""
        self._close(None)

    def _readable(self) -> None:
        if self._fd is None:
            return
        try:
            found = os.read(self._fd, READ_MAX)
        except BlockingIOError:
            return
        except OSError as lost:
            self._close(lost)
            return
        if found:
            self._protocol.data_received(found)
        else:
            self._close(OSError(errno.ENODEV, "the serial line is gone"))

    def _flush(self) -> None:
        if self._fd is None or not self._unsent:
            return
        try:
            sent = os.write(self._fd, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as lost:
            self._close(lost)
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._fd, self._flush)
        else:
            self._loop.remove_writer(self._fd)

    def _close(self, error: Exception | None) -> None:
        if self._fd is None:
            return
        fd, self._fd, self._unsent = self._fd, None, b""
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        os.close(fd)
        self._loop.call_soon(self._protocol.connection_lost, error)
