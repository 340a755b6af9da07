"""The plant as an FMU 2.0 for co-simulation, built here and stepped by FMPy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.models import strict_c

FOLDER = Path(__file__).parent
PLANT: Final = (FOLDER / "plant.h").read_text()
GUID = "{hybridtwin-bench}"


class Peer:
    """An FMU that is ready to be stepped.

    Args:
        slave: FMPy's.
    """

    def __init__(self, slave: Any) -> None:
        self._slave = slave
        self._now_s = 0.0

    def stepper(self, speed: float) -> Callable[[], list[float]]:
        """One tick as FMPy's interface has it: set the input, step, get the outputs."""
        slave, inputs, outputs, given = self._slave, [2], [0, 1], [speed]

        def step() -> list[float]:
            slave.setReal(inputs, given)
            slave.doStep(self._now_s, 1.0)
            self._now_s += 1.0
            found: list[float] = slave.getReal(outputs)
            return found

        return step

    def free(self) -> None:
        """Ends the slave."""
        self._slave.terminate()
        self._slave.freeInstance()


def instance(folder: Path, params: Sequence[float], states: Sequence[float]) -> Peer | None:
    """The plant's FMU with these numbers; None when FMPy is not installed."""
    try:
        from fmpy.fmi2 import FMU2Slave  # noqa: PLC0415 - a peer that need not be installed
    except ImportError:
        return None
    binary = folder / "fmu" / "binaries" / "linux64" / "supply.so"
    binary.parent.mkdir(parents=True, exist_ok=True)
    text = (FOLDER / "fmu.c").read_text().replace('#include "plant.h"', PLANT)
    shutil.copy(strict_c.library(folder, "fmu_supply", text), binary)
    slave = FMU2Slave(guid=GUID, unzipDirectory=str(folder / "fmu"), modelIdentifier="supply", instanceName="bench")
    slave.instantiate()
    slave.setupExperiment(startTime=0.0)
    slave.enterInitializationMode()
    slave.setReal([0, 1, *range(3, 3 + len(params))], [*states, *params])
    slave.exitInitializationMode()
    return Peer(slave)
