"""Where the model of one twin runs: the one now, the one before it, and the change from one to the other."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from twinmodel.errors import ConflictError, TwinError
from twinmodel.estimator import Estimator
from twinsync.directive import Running

_log = structlog.get_logger(__name__)

SOAK_TICKS = 120
"""Ticks after a change through which the model before it runs on in the shadow, ready to take over again."""


class Slot:
    """The model of one twin.

    All calls come from the event loop, and the runner takes `current` anew before each tick: a change is therefore
    always between two ticks.

    Args:
        twin: name of the twin.
        soak_ticks: length of the soak of a new model.

    Attributes:
        twin: name of the twin.
        swaps: changes from one model to another since the start.
        isolation: cause of the present drift, "" for none; the runner keeps it up to date.
        fallbacks: how many of them went back, because the new model failed in its soak.
        on_fall_back: told of each, with the model that failed and why; set by whoever reports it.
    """

    def __init__(self, twin: str, soak_ticks: int = SOAK_TICKS) -> None:
        self.twin = twin
        self.swaps = 0
        self.fallbacks = 0
        self.isolation = ""
        self.on_fall_back: Callable[[str, Estimator, str], None] = _told_nobody
        self._soak_ticks = soak_ticks
        self._soak = 0
        self._current: Estimator | None = None
        self._last_good: Estimator | None = None

    def current(self) -> Estimator | None:
        """The model the next tick runs on, None while there is none."""
        return self._current

    @property
    def last_good(self) -> Estimator | None:
        """The model before the present one, stepped on beside it; None when the soak is over."""
        return self._last_good

    @property
    def soaking(self) -> bool:
        """Whether the present model is on trial."""
        return self._last_good is not None

    def offer(self, estimator: Estimator) -> None:
        """Runs this model from the next tick on; it takes over what it can of the present state.

        Raises:
            ConflictError: MODEL_UNFIT when it cannot take over; the present model goes on then.
        """
        previous = self._current
        if previous is None:
            self._current = estimator
            return
        try:
            estimator.adopt(previous)
        except (TwinError, ValueError, ArithmeticError) as error:
            message = f"twin {self.twin}: {estimator.package.name} cannot take over: {error}"
            raise ConflictError("MODEL_UNFIT", message, twin=self.twin) from error
        # A model that is replaced in its own soak has proven nothing: the one before it stays the last good one.
        self._last_good = self._last_good or previous
        self._current, self._soak = estimator, self._soak_ticks
        self.swaps += 1

    def stepped(self) -> None:
        """A tick of the present model is done; in its soak it must not have diverged."""
        if self._last_good is None or self._current is None:
            return
        if self._current.divergences:
            self.fall_back("it diverged in its soak")
            return
        self._soak -= 1
        if self._soak <= 0:
            self._last_good = None

    def failed(self, error: Exception) -> bool:
        """A tick of the present model raised; whether the model before it runs again, for only a soak is a trial."""
        return self.fall_back(f"it failed in its soak: {error}")

    def forget_last_good(self) -> None:
        """The model in the shadow has failed itself: there is nothing to fall back on."""
        self._last_good = None

    def fall_back(self, why: str) -> bool:
        """Runs the model before the present one again, with the state it has by now; whether there was one."""
        failed = self._current
        if self._last_good is None or failed is None:
            return False
        self._current, self._last_good = self._last_good, None
        self.swaps += 1
        self.fallbacks += 1
        _log.error("model failed, the one before it runs again", twin=self.twin, model=failed.package.name, why=why)
        self.on_fall_back(self.twin, failed, why)
        return True

    def running(self) -> Running | None:
        """What runs, as the coordinator is told."""
        estimator = self._current
        if estimator is None:
            return None
        package = estimator.package
        name = f"{package.name}@{package.version}"
        return Running(self.twin, package.digest, name, estimator.tier, self.isolation)


def _told_nobody(_twin: str, _failed: Estimator, _why: str) -> None:
    """Nobody asked."""
