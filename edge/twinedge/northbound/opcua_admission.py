"""Which client applications may open a session: by their certificates, which a person has put into a folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncua.ua
import structlog
from asyncua.common.utils import ServiceError
from cryptography import x509

from twinedge.certificates import PENDING_MAX, TrustStore, first_certificate, in_time, name_of, thumbprint
from twinmodel.clock import BUILD_NS, SECOND_NS, Clock

log = structlog.get_logger(__name__)
ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

_CODES: Final = ua.StatusCodes


class Admission:
    """Which applications may connect: those whose certificate a person has put into a folder, or any without one.

    Args:
        trusted: the folder, None for any application; the user decides then.
        folder: certificates that were refused wait in its `pending` for a person to look at.
        clock: one that was never set cannot say what is valid now; then the dates are not judged.
    """

    def __init__(self, trusted: Path | None, folder: Path, clock: Clock) -> None:
        self._store = None
        if trusted is not None:
            self._store = TrustStore(folder)
            self._store.trusted = trusted
        self._clock = clock
        self._told: set[str] = set()
        self.refused = 0

    def check(self, presented: bytes | None) -> None:
        """Raises ServiceError BadCertificateUntrusted, BadCertificateTimeInvalid or BadCertificateInvalid."""
        if self._store is None:
            return
        try:
            leaf = first_certificate(presented or b"")
            certificate = x509.load_der_x509_certificate(leaf)
        except ValueError:
            raise ServiceError(_CODES.BadCertificateInvalid) from None
        wall_ns = self._clock.wall_ns()
        now = datetime.fromtimestamp(wall_ns // SECOND_NS, UTC) if wall_ns >= BUILD_NS else None
        if not self._store.vouches(certificate, now):
            self._refuse(leaf, name_of(certificate))
            raise ServiceError(_CODES.BadCertificateUntrusted)
        if now is not None and not in_time(certificate, now):
            raise ServiceError(_CODES.BadCertificateTimeInvalid)

    def _refuse(self, leaf: bytes, name: str) -> None:
        self.refused += 1
        print_ = thumbprint(leaf)
        if print_ in self._told or len(self._told) >= PENDING_MAX:
            return
        self._told.add(print_)
        assert self._store is not None, "only a store refuses"
        try:
            kept = str(self._store.keep(leaf))
        except OSError as lost:
            kept = f"not kept: {lost.strerror}"
        step = f"when that is the thumbprint the client shows, move the file to {self._store.trusted}"
        log.warning("client's certificate is not trusted", client=name, thumbprint=print_, file=kept, step=step)
