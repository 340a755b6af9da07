"""Console sessions: a random cookie that stands for an API token, so that the token itself never lies in a browser."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from twincloud.identity.tokens import hash_of, new_secret
from twinmodel.clock import SECOND_NS, Clock

COOKIE = "twincloud_session"
COOKIE_PREFIX = "tws_"
LIFETIME_S = 12 * 3_600
SESSIONS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Session:
    """The API token a cookie stands for, and until when."""

    token_hash: bytes
    until_boot_ns: int


class Sessions:
    """All open sessions of this process; a restart ends them. When full, the oldest one ends."""

    def __init__(self, clock: Clock, sessions_max: int = SESSIONS_MAX) -> None:
        self._clock = clock
        self._max = sessions_max
        self._open: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, token_hash: bytes) -> str:
        """A new cookie for a token that was found valid."""
        cookie = new_secret(COOKIE_PREFIX)
        while len(self._open) >= self._max:
            self._open.popitem(last=False)
        self._open[hash_of(cookie)] = Session(token_hash, self._clock.boot_ns() + LIFETIME_S * SECOND_NS)
        return cookie

    def token_hash(self, cookie: str) -> bytes | None:
        """Hash of the token behind a cookie, None when the session is unknown or over."""
        key = hash_of(cookie)
        session = self._open.get(key)
        if session is None:
            return None
        if session.until_boot_ns <= self._clock.boot_ns():
            del self._open[key]
            return None
        return session.token_hash

    def close(self, cookie: str) -> None:
        """Ends a session; an unknown one is no error."""
        self._open.pop(hash_of(cookie), None)
