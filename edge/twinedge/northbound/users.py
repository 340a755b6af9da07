"""Who may read over OPC UA: names with passwords, certificates of users, and any trusted application."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from twinedge.certificates import read_certificate, thumbprint
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import UnreachableError

log = structlog.get_logger(__name__)

PREFIX = "scrypt:"
_COST = {"n": 1 << 14, "r": 8, "p": 1, "maxmem": 1 << 26}
FAILURES_MAX = 5
FAILURES_NS = 60 * SECOND_NS
PASSWORD_MAX = 1024


def hashed(password: str, salt: bytes | None = None) -> str:
    """A line for a password file that does not tell the password: `scrypt:SALT:HASH`."""
    salt = secrets.token_bytes(16) if salt is None else salt
    return f"{PREFIX}{salt.hex()}:{hashlib.scrypt(password.encode(), salt=salt, **_COST).hex()}"


class Users(UserManager):
    """Decides who may read; nobody may write. It is asyncua's `UserManager`.

    A password file is read at each login, so that a change needs no restart. After `FAILURES_MAX` wrong passwords a
    minute none is looked at until the minute is over: guessing is slow, and hashing never holds up the agent.

    Args:
        passwords: name -> its password file.
        certificates: folder of certificates of users, None for none.
        anonymous: whether an application without a user may read.
        clock: for the pause after wrong passwords.
    """

    def __init__(
        self, passwords: Mapping[str, Path], certificates: Path | None, *, anonymous: bool, clock: Clock
    ) -> None:
        self._passwords, self._certificates, self._anonymous, self._clock = passwords, certificates, anonymous, clock
        self._failures: list[int] = []
        self._known: dict[str, bytes] = {}
        self._secret = secrets.token_bytes(32)
        self.refused = 0

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        """See asyncua's `UserManager`: None refuses. A user's certificate comes by `by_certificate`."""
        del iserver, certificate  # that of the application, which the secure channel has judged
        if username is None:
            return User(role=UserRole.User, name="anonymous") if self._anonymous else self._refuse("anonymous")
        return self._by_password(username, password or "")

    def by_certificate(self, presented: bytes) -> User | None:
        """The user whose certificate lies in the folder; its signature has been checked."""
        if self._certificates is not None:
            for path in sorted(self._certificates.glob("*.*")):
                try:
                    if hmac.compare_digest(read_certificate(path), presented):
                        return User(role=UserRole.User, name=path.stem)
                except UnreachableError:
                    continue
        return self._refuse(f"certificate {thumbprint(presented)}")

    def _by_password(self, name: str, password: str) -> User | None:
        now_ns = self._clock.boot_ns()
        self._failures = [t for t in self._failures if now_ns - t < FAILURES_NS]
        path = self._passwords.get(name)
        if path is None or len(password) > PASSWORD_MAX or len(self._failures) >= FAILURES_MAX:
            return self._refuse(name, guessed=True)
        try:
            kept = path.read_text().strip()
        except OSError as lost:
            log.warning("password file cannot be read", user=name, path=str(path), error=lost.strerror)
            return None
        if not kept or not self._fits(name, kept, password):
            return self._refuse(name, guessed=True)
        return User(role=UserRole.User, name=name)

    def _fits(self, name: str, kept: str, password: str) -> bool:
        if not kept.startswith(PREFIX):
            return hmac.compare_digest(kept.encode(), password.encode())
        seen = hmac.digest(self._secret, f"{kept}\0{password}".encode(), "sha256")
        if hmac.compare_digest(self._known.get(name, b""), seen):
            return True  # hashing takes 50 ms, and clients log in again and again
        try:
            salt = bytes.fromhex(kept.removeprefix(PREFIX).partition(":")[0])
        except ValueError:
            log.warning("password file holds no line of `hashed`", user=name)
            return False
        if not hmac.compare_digest(hashed(password, salt), kept):
            return False
        self._known[name] = seen
        return True

    def _refuse(self, who: str, *, guessed: bool = False) -> User | None:
        if guessed and len(self._failures) < FAILURES_MAX:
            self._failures.append(self._clock.boot_ns())
        if self.refused == 0:
            log.warning("northbound login refused", user=who[:64])
        self.refused += 1
        return None
