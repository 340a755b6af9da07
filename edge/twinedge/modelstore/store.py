"""Model packages by the digest of their file, and which of them should run for which twin.

    <folder>/models/<digest>.twin    verified packages, 0600
    <folder>/models/<digest>.part    downloads that go on where they stopped
    <folder>/desired.json            twin -> what should run, and what ran before it

Nothing is handed out that was not verified against the trusted signers in the same call. Methods block for the time
of file operations; call them in a thread.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from twinedge.files import read_json, set_aside, write_json
from twinmodel.errors import MissingError, PackageError, StorageError, TwinError
from twinmodel.files import storage_error, write_durably
from twinmodel.package.archive import ModelPackage, inspect, load
from twinmodel.package.signing import key_id, load_public_key
from twinsync.transfer import ARTIFACT_BYTES_MAX, PartFile

_log = structlog.get_logger(__name__)

SIGNERS_MAX = 64
_VERSION = re.compile(r"\d+(\.\d+)*")


@dataclass(frozen=True, slots=True)
class Desired:
    """What should run for a twin.

    Attributes:
        digest: of the package, hex.
        version: of the directive that said so, growing per twin.
        name: `name@version` of the model.
        previous: digest of what ran well before it, hex, "" for nothing.
    """

    digest: str
    version: int
    name: str
    previous: str = ""


class ModelStore:
    """The models of one gateway.

    Args:
        folder: made when it is missing.
        signers: folder of trusted public keys (`*.pem`), read anew for each package.
        count_max, bytes_max: bounds of the packages kept; what a twin needs is never pruned.
    """

    def __init__(self, folder: Path, signers: Path, *, count_max: int = 32, bytes_max: int = 256 << 20) -> None:
        self._folder = folder
        self._models = folder / "models"
        self._signers = signers
        self._count_max = count_max
        self._bytes_max = bytes_max
        try:
            self._make_folder()
        except StorageError as error:
            # An agent starts on a full disk, too; what has to be kept there asks again.
            _log.warning("no place for models", reason=error.reason, detail=error.message)
        self._desired = self._read_desired()
        self._before: dict[str, Desired | None] = {}

    @property
    def desired(self) -> Mapping[str, Desired]:
        """Twin -> what should run."""
        return self._desired

    def version_of(self, twin: str) -> int:
        """Version of what should run for a twin, -1 for nothing."""
        desired = self._desired.get(twin)
        return -1 if desired is None else desired.version

    def want(self, twin: str, *, digest: bytes, version: int, name: str) -> None:
        """Keeps what should run for a twin, and what did before it; raises StorageError, nothing has changed then."""
        before = self._desired.get(twin)
        previous = "" if before is None else before.previous if before.digest == digest.hex() else before.digest
        self._write({**self._desired, twin: Desired(digest.hex(), version, name, previous)})
        self._before[twin] = before

    def take_back(self, twin: str) -> None:
        """Undoes the last `want` of a twin in this process; raises StorageError."""
        before = self._before.get(twin)
        fresh = {name: entry for name, entry in self._desired.items() if name != twin}
        self._write(fresh if before is None else {**fresh, twin: before})

    def trusted(self) -> dict[str, Ed25519PublicKey]:
        """Key id -> key of every signer that models are taken from; a file that holds no key is passed over."""
        keys: dict[str, Ed25519PublicKey] = {}
        for path in sorted(self._signers.glob("*.pem"))[:SIGNERS_MAX]:
            try:
                key = load_public_key(path)
            except TwinError as error:
                _log.warning("signer passed over", path=str(path), detail=error.message)
                continue
            keys[key_id(key)] = key
        return keys

    def part(self, digest: bytes) -> PartFile:
        """The unfinished download of a package; raises StorageError."""
        self._make_folder()
        return PartFile(self._models, digest)

    def has(self, digest: bytes) -> bool:
        """Whether the package's file is here."""
        return self._path(digest.hex()).is_file()

    def _make_folder(self) -> None:
        try:
            self._models.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise storage_error(error, self._models) from error

    def put(self, blob: bytes) -> ModelPackage:
        """Verifies a package and keeps it; raises PackageError or StorageError, nothing is kept then."""
        package = load(blob, self.trusted())
        path = self._path(package.digest.hex())
        if not path.is_file():
            self._make_folder()
            write_durably(path, blob)
            self.prune(keep=(path.stem,))
        return package

    def take_part(self, digest: bytes) -> ModelPackage:
        """Verifies a complete download and keeps it.

        Raises:
            PackageError: PACKAGE_ALTERED and the like, SIGNER_UNKNOWN, PACKAGE_UNSIGNED; the bytes are thrown away.
            StorageError: the disk refuses.
        """
        path = self._path(digest.hex())
        self.part(digest).finish(path)
        try:
            package = self.load(digest)
        except PackageError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self.prune(keep=(digest.hex(),))
        return package

    def load(self, digest: bytes) -> ModelPackage:
        """A package of the store, verified again.

        Raises:
            MissingError: UNKNOWN_MODEL.
            PackageError: the file is damaged (it is set aside) or its signer is not trusted any more.
        """
        path = self._path(digest.hex())
        try:
            blob = _read(path)
        except FileNotFoundError as error:
            raise MissingError("UNKNOWN_MODEL", f"no package {digest.hex()} here") from error
        except OSError as error:
            raise storage_error(error, path) from error
        if sha256(blob).digest() != digest:
            set_aside(path, "its digest is another one")
            raise PackageError("PACKAGE_ALTERED", f"{path} has another digest than its name")
        return load(blob, self.trusted())

    def find(self, reference: str, folder: Path | None = None) -> ModelPackage:
        """A package by `name@version`; an alias or a bare name takes the highest version that is here.

        Args:
            reference: `two-tanks@1.0.0`, `two-tanks@champion` or `two-tanks`.
            folder: further packages (`*.twin`); what is used from there is copied into the store.

        Raises:
            MissingError: UNKNOWN_MODEL.
            PackageError: it is here, but must not be used.
        """
        name, _, version = reference.partition("@")
        exact = _VERSION.match(version) is not None
        found: list[tuple[tuple[int, ...], Path]] = []
        for path in [*sorted(self._models.glob("*.twin")), *(sorted(folder.glob("*.twin")) if folder else ())]:
            try:
                manifest = inspect(_read(path))
            except (PackageError, OSError) as error:
                _log.warning("package passed over", path=str(path), detail=str(error))
                continue
            if manifest.name == name and (not exact or manifest.version == version):
                found.append((_version_key(manifest.version), path))
        if not found:
            raise MissingError("UNKNOWN_MODEL", f"no package of {reference} here", reference=reference)
        path = max(found)[1]
        try:
            return self.put(_read(path))
        except OSError as error:
            raise storage_error(error, path) from error

    def candidates(self, twin: str, reference: str, folder: Path | None = None) -> Iterator[ModelPackage]:
        """What a twin may start with: what the coordinator wants, else what ran before it, else what site.yaml names.

        Damaged or refused packages are passed over with a log line.
        """
        desired = self._desired.get(twin)
        for digest in (desired.digest, desired.previous) if desired else ():
            if digest:
                try:
                    yield self.load(bytes.fromhex(digest))
                except TwinError as error:
                    _log.error("desired model cannot start", twin=twin, reason=error.reason, detail=error.message)
        if not reference:
            return
        try:
            yield self.find(reference, folder)
        except MissingError:
            _log.info("model of site.yaml is not here yet, the coordinator sends it", twin=twin, model=reference)
        except TwinError as error:
            _log.error("model of site.yaml cannot start", twin=twin, reason=error.reason, detail=error.message)

    def first(self, twin: str, reference: str, folder: Path | None = None) -> ModelPackage | None:
        """The best of `candidates`, None when there is none."""
        return next(self.candidates(twin, reference, folder), None)

    def prune(self, keep: Iterable[str] = ()) -> None:
        """Removes the oldest packages beyond the bounds, never one that a twin needs or that `keep` names."""
        needed = {digest for d in self._desired.values() for digest in (d.digest, d.previous)} | set(keep)
        files = [(path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._models.glob("*.twin")]
        count, size = len(files), sum(entry[1] for entry in files)
        for _, bytes_, path in sorted(files):
            if count <= self._count_max and size <= self._bytes_max:
                return
            if path.stem not in needed:
                path.unlink(missing_ok=True)
                count, size = count - 1, size - bytes_

    def _write(self, desired: dict[str, Desired]) -> None:
        write_json(self._folder / "desired.json", {name: asdict(entry) for name, entry in desired.items()})
        self._desired = desired

    def _path(self, digest: str) -> Path:
        return self._models / f"{digest}.twin"

    def _read_desired(self) -> dict[str, Desired]:
        path = self._folder / "desired.json"
        document = read_json(path)
        if document is None:
            return {}
        names = {field.name for field in fields(Desired)}
        try:
            assert isinstance(document, dict), "no object"
            entries = {}
            for twin, entry in document.items():
                desired = Desired(**{name: entry[name] for name in names})
                assert len(bytes.fromhex(desired.digest)) == sha256().digest_size, twin
                assert isinstance(desired.version, int), twin
                entries[str(twin)] = desired
        except (AssertionError, KeyError, TypeError, ValueError, AttributeError) as error:
            set_aside(path, str(error))
            return {}
        return entries


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        blob = file.read(ARTIFACT_BYTES_MAX + 1)
    if len(blob) > ARTIFACT_BYTES_MAX:
        raise PackageError("PACKAGE_INVALID", f"{path} has more than {ARTIFACT_BYTES_MAX} bytes")
    return blob


def _version_key(version: str) -> tuple[int, ...]:
    found = _VERSION.match(version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
