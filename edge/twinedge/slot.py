"""Where the model of one twin runs: the one now, the one before it, and the change from one to the other."""

from __future__ import annotations

from twinmodel.errors import ConflictError, TwinError
from twinmodel.estimator import Estimator
from twinsync.directive import Running


class Slot:
    """The model of one twin.

    All calls come from the event loop, and the runner takes `current` anew before each tick: a change is therefore
    always between two ticks.

    Attributes:
        twin: name of the twin.
        swaps: changes from one model to another since the start.
    """

    def __init__(self, twin: str) -> None:
        self.twin = twin
        self.swaps = 0
        self._current: Estimator | None = None
        self._last_good: Estimator | None = None

    def current(self) -> Estimator | None:
        """The model the next tick runs on, None while there is none."""
        return self._current

    @property
    def last_good(self) -> Estimator | None:
        """The model before the present one, with the state it had at the change."""
        return self._last_good

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
        self._current, self._last_good = estimator, previous
        self.swaps += 1

    def fall_back(self) -> bool:
        """Runs the model before the present one again; tells whether there was one."""
        if self._last_good is None:
            return False
        self._current, self._last_good = self._last_good, None
        self.swaps += 1
        return True

    def running(self) -> Running | None:
        """What runs, as the coordinator is told."""
        estimator = self._current
        if estimator is None:
            return None
        package = estimator.package
        return Running(self.twin, package.digest, f"{package.name}@{package.version}", estimator.tier)
