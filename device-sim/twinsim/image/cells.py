"""The cells of a Modbus device that exist, and how requests name and refuse them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from twinmodel.profile.address import Table
from twinsim.image.codec import Patch

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, FAILURE, BUSY = 1, 2, 3, 4, 6
TABLES: Mapping[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
BIT_TABLES = ("coil", "discrete")
BITS_READ_MAX = 2000


class RefusedError(Exception):
    """A request the device answers with an exception code."""

    def __init__(self, code: int, why: str = "") -> None:
        self.code, self.why = code, why
        super().__init__(why or f"exception {code}")


class Cells:
    """The cells of one table that exist, as runs of bytes: `width` bytes a cell."""

    def __init__(self, width: int, numbers: set[int], bridge: int) -> None:
        self.width = width
        self._starts: list[int] = []
        self._runs: list[bytearray] = []
        run: list[int] = []
        for number in sorted(numbers):
            if run and number > run[1] + bridge:
                self._add(run)
                run = []
            run = [run[0] if run else number, number + 1]
        if run:
            self._add(run)

    def _add(self, run: Sequence[int]) -> None:
        self._starts.append(run[0])
        self._runs.append(bytearray((run[1] - run[0]) * self.width))

    def find(self, start: int, count: int) -> tuple[bytearray, int]:
        """The run that holds cells `start` on, and the offset in it. Raises RefusedError where one does not exist."""
        place = bisect_right(self._starts, start) - 1
        if place >= 0:
            run, offset = self._runs[place], (start - self._starts[place]) * self.width
            if offset + count * self.width <= len(run):
                return run, offset
        raise RefusedError(ILLEGAL_ADDRESS)

    def read(self, start: int, count: int) -> bytes:
        """Their bytes; raises as `find`."""
        run, offset = self.find(start, count)
        return bytes(run[offset : offset + count * self.width])

    def apply(self, patch: Patch) -> None:
        """Puts a patch into cells that exist."""
        run, at = self.find(patch.start, len(patch.cells) // self.width)
        if not patch.mask:
            run[at : at + len(patch.cells)] = patch.cells
            return
        for i, (cell, mask) in enumerate(zip(patch.cells, patch.mask, strict=True)):
            run[at + i] = run[at + i] & ~mask | cell & mask


def pack_bits(cells: bytes) -> bytes:
    """Eight cells a byte, the first in the least significant bit."""
    number = sum(1 << i for i, cell in enumerate(cells) if cell)
    return number.to_bytes((len(cells) + 7) // 8, "little")


def unpack_bits(packed: bytes, count: int) -> bytes:
    """The contrary of `pack_bits`."""
    number = int.from_bytes(packed, "little")
    return bytes(number >> i & 1 for i in range(count))
