"""What was issued and what was revoked, in one small file that the service and the command line share.

The service holds the database alone; tokens made and certificates revoked by the command line still reach it while it
runs, because it reads this file again whenever it has changed. A token enters the store when it is first used.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from twincloud.identity.files import make_directory
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, MissingError, StorageError
from twinmodel.files import OWNER_ONLY, write_durably

FILE = "ledger.json"
LOCK = "ledger.lock"
ENTRIES_MAX = 100_000
REVOKED_KEPT_NS = 366 * 86_400 * SECOND_NS
"""An expired certificate may be renewed for up to a year (`renew_grace_days`): a revoked one must be known as long."""


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """One API token; `expires_ns` 0 means never, `revoked_ns` 0 means valid."""

    name: str
    tenant: str
    role: str
    sha256: str
    created_ns: int
    expires_ns: int = 0
    revoked_ns: int = 0


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """One certificate of a gateway; the serial is in lower-case hex."""

    serial: str
    uri: str
    issued_ns: int
    until_ns: int
    revoked_ns: int = 0


@dataclass(frozen=True, slots=True)
class Content:
    """The file, indexed: tokens by SHA-256, certificates by serial."""

    tokens: Mapping[str, TokenEntry] = field(default_factory=dict)
    certificates: Mapping[str, CertificateEntry] = field(default_factory=dict)


def normal_serial(serial: str | int) -> str:
    """A serial as the ledger writes it: hex, lower case, no colons, no leading zeros."""
    text = f"{serial:x}" if isinstance(serial, int) else serial.replace(":", "").lower().removeprefix("0x")
    return text.lstrip("0") or "0"


class Ledger:
    """The file in `state_dir/identity`; thread-safe, and safe between processes by a lock beside it."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "identity"
        self._path = self._directory / FILE
        self._name = str(self._path)
        self._guard = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._content = Content()

    def content(self) -> Content:
        """What the file says now; a missing file is empty.

        Raises:
            StorageError: STORE_CORRUPT; a ledger that cannot be read must not let revoked ones in.
        """
        with self._guard:
            try:
                found = os.stat(self._name)  # noqa: PTH116 - each request asks, and a Path takes ten times as long
            except FileNotFoundError:
                self._seen, self._content = None, Content()
                return self._content
            seen = (found.st_mtime_ns, found.st_ino, found.st_size)
            if seen != self._seen:
                self._content = self._read()
                self._seen = seen
            return self._content

    def token(self, token_hash: bytes) -> TokenEntry | None:
        """The entry of a token, revoked or not."""
        return self.content().tokens.get(token_hash.hex())

    def is_token_revoked(self, token_hash: bytes) -> bool:
        """Whether a token was revoked."""
        entry = self.token(token_hash)
        return entry is not None and entry.revoked_ns > 0

    def is_revoked(self, serial: str | int) -> bool:
        """Whether a certificate was revoked, by its serial."""
        entry = self.content().certificates.get(normal_serial(serial))
        return entry is not None and entry.revoked_ns > 0

    def refresh(self) -> Content:
        """Looks for what others have changed; what may take a while, for a thread."""
        return self.content()

    def add_token(self, entry: TokenEntry) -> None:
        """Keeps a token; raises ALREADY_EXISTS when a valid one has its name."""

        def add(content: Content) -> Content:
            if _valid_of(content, entry.name, entry.created_ns) is not None:
                raise ConflictError("ALREADY_EXISTS", f"a token named {entry.name!r} exists", hint="revoke it first")
            return replace(content, tokens={**content.tokens, entry.sha256: entry})

        self._change(add)

    def revoke_token(self, name: str, now_ns: int) -> TokenEntry:
        """Revokes the valid token of a name; raises NOT_FOUND."""
        revoked: list[TokenEntry] = []

        def revoke(content: Content) -> Content:
            entry = _valid_of(content, name, now_ns)
            if entry is None:
                raise MissingError("NOT_FOUND", f"no valid token is named {name!r}", hint="see `twincloud token list`")
            revoked.append(replace(entry, revoked_ns=now_ns))
            return replace(content, tokens={**content.tokens, entry.sha256: revoked[-1]})

        self._change(revoke)
        return revoked[-1]

    def add_certificate(self, entry: CertificateEntry) -> None:
        """Keeps an issued certificate; those whose time is over are dropped, revoked ones a year later."""

        def add(content: Content) -> Content:
            kept = {s: c for s, c in content.certificates.items() if _kept_until_ns(c) > entry.issued_ns}
            return replace(content, certificates={**kept, entry.serial: entry})

        self._change(add)

    def revoke_certificate(self, serial: str, now_ns: int) -> CertificateEntry:
        """Revokes a certificate; raises NOT_FOUND. Twice is no error, the first time counts."""
        key = normal_serial(serial)

        def revoke(content: Content) -> Content:
            entry = content.certificates.get(key)
            if entry is None:
                raise MissingError("NOT_FOUND", f"no certificate has the serial {key}", hint="see `twincloud ca show`")
            entry = entry if entry.revoked_ns else replace(entry, revoked_ns=now_ns)
            return replace(content, certificates={**content.certificates, key: entry})

        self._change(revoke)
        return self.content().certificates[key]

    def _read(self) -> Content:
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            raise StorageError("STORE_CORRUPT", f"{self._path}: {error.strerror}") from error
        return unpack_content(raw, str(self._path))

    def _change(self, change: Callable[[Content], Content]) -> None:
        make_directory(self._directory)
        handle = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            before = self.content()
            after = change(before)
            if after != before:
                write_durably(self._path, pack_content(after))
        finally:
            os.close(handle)


def pack_content(content: Content) -> bytes:
    """The ledger as it is kept; raises LIMIT_EXCEEDED."""
    if len(content.tokens) + len(content.certificates) > ENTRIES_MAX:
        raise StorageError("LIMIT_EXCEEDED", f"the ledger holds {ENTRIES_MAX} entries already")
    body = {
        "tokens": [asdict(t) for t in content.tokens.values()],
        "certificates": [asdict(c) for c in content.certificates.values()],
    }
    return json.dumps(body, indent=1).encode()


def unpack_content(raw: bytes, place: str) -> Content:
    """The ledger as it was kept; raises STORE_CORRUPT."""
    try:
        body = json.loads(raw)
        return Content(
            {t["sha256"]: TokenEntry(**t) for t in body["tokens"]},
            {c["serial"]: CertificateEntry(**c) for c in body["certificates"]},
        )
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError("STORE_CORRUPT", f"{place}: it is no ledger: {error}") from error


def _kept_until_ns(entry: CertificateEntry) -> int:
    return entry.until_ns + (REVOKED_KEPT_NS if entry.revoked_ns else 0)


def _valid_of(content: Content, name: str, now_ns: int) -> TokenEntry | None:
    """The one token of a name that is neither revoked nor expired."""
    return next(
        (
            token
            for token in content.tokens.values()
            if token.name == name and not token.revoked_ns and not 0 < token.expires_ns <= now_ns
        ),
        None,
    )
