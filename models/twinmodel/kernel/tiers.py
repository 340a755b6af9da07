"""Which kernel a model runs on: interpreted at once, generic machine code when it is ready, then its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from twinmodel.errors import ConflictError
from twinmodel.kernel import warmup
from twinmodel.kernel.arena import Plan, Step
from twinmodel.kernel.reference import KERNELS

TIERS: Final = ("auto", "jit", "vm", "interpreted")
_log = structlog.get_logger(__name__)


class Ladder:
    """The tiers of one plan, climbed between ticks.

    Args:
        plan: the model.
        proven: whether a kernel gives the right bits on the model's parity run.
        name: of the model, for the log.
        tier: `auto`, or the one to wait for; `jit` is `vm` for a model that is too large to be generated.
        cache_dir: folder of compiled kernels; see `warmup.cache_folder`.

    Raises:
        StorageError: STATE_INVALID when a compiled tier is demanded and there is no private folder.
        ConflictError: EXTRA_MISSING when it is demanded and there is no compiler.
    """

    def __init__(
        self,
        plan: Plan,
        proven: Callable[[Step], bool],
        name: str,
        *,
        tier: str = "auto",
        cache_dir: Path | None = None,
    ) -> None:
        if tier not in TIERS:
            raise ValueError(f"tier {tier!r} is none of {TIERS}")
        self.tier = "interpreted"
        self.step: Step = KERNELS[plan.family]
        self._proven, self._name = proven, name
        # Better tiers, the best first, with their names in `warmup`.
        self._higher: list[tuple[str, str]] = []
        if tier == "auto":
            self._higher = [("jit", warmup.key(plan.family, plan)), ("vm", plan.family)]
            self.climb()
            self._ask(plan, cache_dir)
        elif tier != "interpreted":
            self.tier, self.step = _demanded(plan, tier, cache_dir)

    @property
    def waiting(self) -> bool:
        """Whether a better tier may still come."""
        return bool(self._higher)

    def climb(self) -> bool:
        """Takes the best tier that is ready; between two ticks. Whether it has changed."""
        for at, (tier, key) in enumerate(self._higher):
            ready = warmup.compiled(key)
            if ready is None:
                continue
            if self._proven(ready):
                self.tier, self.step = tier, ready
                self._higher = self._higher[:at]
                return True
            self._higher = [rung for rung in self._higher if rung[0] != tier]
            _log.warning("compiled_kernel_refused", model=self._name, tier=tier, reason="PARITY_FAILED")
            return self.climb()
        return False

    def _ask(self, plan: Plan, cache_dir: Path | None) -> None:
        folder = warmup.cache_folder(cache_dir) if self._higher else None
        if folder is None:
            self._higher = []
            return
        for tier, _ in reversed(self._higher):
            warmup.request(plan.family, folder, plan if tier == "jit" else None)


def _demanded(plan: Plan, tier: str, cache_dir: Path | None) -> tuple[str, Step]:
    if tier == "jit":
        try:
            return tier, warmup.compile_now(plan.family, cache_dir, plan)
        except ConflictError as error:
            if error.reason != "KERNEL_TOO_LARGE":
                raise
    return "vm", warmup.compile_now(plan.family, cache_dir)
