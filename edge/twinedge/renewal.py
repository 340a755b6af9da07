"""Renews the gateway's certificate long before its end, and after it for as long as the coordinator allows.

    half of its life + a share of a tenth ─▶ new key, POST /renew ─▶ new identity folder ─▶ the next session uses it

A fleet that joined on one day does not come back in one minute: the share is chance. What fails is tried again after
one minute to six hours, and once more at the moment the certificate ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NoReturn

import structlog

from twinedge.enrol import Identity, load_identity, renew
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import TwinError
from twinsync.backoff import Backoff

_log = structlog.get_logger(__name__)

LOOK_NS = 60 * SECOND_NS
RETRY_BASE_NS = 120 * SECOND_NS
"""A retry keeps at least half of it: one minute."""
RETRY_CAP_NS = 6 * 3_600 * SECOND_NS


def due_ns(not_before_ns: int, not_after_ns: int, share: float) -> int:
    """Wall time at which a certificate is to be renewed: after half of its life, at most a tenth later.

    Args:
        not_before_ns: begin of its life.
        not_after_ns: end of its life.
        share: chance in [0, 1), the same for one certificate.
    """
    life_ns = not_after_ns - not_before_ns
    return not_before_ns + life_ns // 2 + int(share * life_ns / 10)


class Renewal:
    """Keeps the identity of a state directory alive.

    Args:
        state_dir: the agent's state directory.
        clock: wall clock for the certificate's life, boot clock for retries.
        random: spreads a fleet.
        on_renewed: called in the event loop when there is a new certificate.
    """

    def __init__(self, state_dir: Path, clock: Clock, random: Random, on_renewed: Callable[[], None]) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._random = random
        self._on_renewed = on_renewed
        self._backoff = Backoff(random, base_ns=RETRY_BASE_NS, cap_ns=RETRY_CAP_NS)
        self._share = self._random.random()
        self._retry_ns = 0
        self._tried_expired = False
        self._told = ""

    async def run(self) -> NoReturn:
        """Looks once a minute until cancelled."""
        while True:
            wait_ns = await self.look()
            await asyncio.sleep(wait_ns / SECOND_NS)

    async def look(self) -> int:
        """Renews the certificate when it is due; returns after how many ns to look again."""
        try:
            identity = await asyncio.to_thread(load_identity, self._state_dir, self._clock, expired_too=True)
            wait_ns = self._wait_ns(identity)
            if wait_ns == 0:
                await self._renew(identity)
        except TwinError as error:
            self._tell(error.reason, error.message, error.hint)
            return LOOK_NS
        return min(wait_ns or LOOK_NS, LOOK_NS)

    def _wait_ns(self, identity: Identity) -> int:
        """How long nothing is to be done; 0 when the certificate is to be renewed now."""
        wall_ns = self._clock.wall_ns()
        ahead_ns = due_ns(identity.not_before_ns, identity.not_after_ns, self._share) - wall_ns
        if ahead_ns > 0:
            self._succeeded()
            return ahead_ns
        if not identity.enrol_url:
            self._tell(
                "CERT_EXPIRED",
                f"the identity in {self._state_dir} does not know where its certificate can be renewed",
                "run `twinedge join` with a new invitation before the certificate ends",
            )
            return LOOK_NS
        if wall_ns >= identity.not_after_ns and not self._tried_expired:
            self._tried_expired = True
            return 0
        until_end_ns = identity.not_after_ns - wall_ns
        wait_ns = max(self._retry_ns - self._clock.boot_ns(), 0)
        return min(wait_ns, until_end_ns) if until_end_ns > 0 else wait_ns

    async def _renew(self, identity: Identity) -> None:
        # Noted before the try: a defect must not make it a loop without a wait.
        self._retry_ns = self._backoff.failed(self._clock.boot_ns())
        await asyncio.to_thread(renew, self._state_dir, identity.enrol_url, self._clock)
        self._succeeded()
        self._share = self._random.random()
        _log.info("certificate renewed", gateway=f"{identity.site}/{identity.gateway}", old_serial=identity.serial)
        self._on_renewed()

    def _succeeded(self) -> None:
        self._backoff.progressed()
        self._retry_ns, self._tried_expired, self._told = 0, False, ""

    def _tell(self, reason: str, detail: str, hint: str) -> None:
        """One line when it begins to fail, one more when it fails for another reason."""
        if self._told != reason:
            _log.warning("certificate is not renewed, trying on", reason=reason, detail=detail, hint=hint)
        self._told = reason
