"""The contract of a place for archived files, how a setting names one, and what each file is called.

file:///mnt/archive                                         a folder
s3://bucket/prefix?endpoint=https://s3.plant.example        any S3 server
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from twinmodel.errors import InputError, MissingError, StorageError

READ_BYTES = 8 << 20
KEY_CHARS_MAX = 900
_S3_WORDS = frozenset({"endpoint", "region", "profile", "credentials"})


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an object without reading it; `sha256` is "" where the place does not keep it."""

    key: str
    size: int
    sha256: str = ""


class ObjectStore(Protocol):
    """A place that keeps objects whole or not at all, and never changes one. Safe to use from any thread.

    Every method raises UnreachableError ARCHIVE_UNREACHABLE, DeniedError ARCHIVE_DENIED or StorageError.
    """

    @property
    def name(self) -> str:
        """The place, for people; without secrets."""
        ...

    def put(
        self, key: str, path: Path, sha256: str, *, upload: str = "", remember: Callable[[str], None]
    ) -> Iterator[None]:
        """Keeps a file under a key, piece by piece as it is iterated; the same content twice is no error.

        Args:
            key: its name.
            path: the file.
            sha256: digest of the file, lower-case hexadecimal.
            upload: what `remember` was told in an attempt that did not end; what arrived then is not sent again.
            remember: told the name of the upload before its first byte goes.

        Raises:
            ConflictError: ALREADY_EXISTS when the key holds something else.
        """
        ...

    def get(self, key: str, offset: int, length: int) -> bytes:
        """Bytes of an object; raises MissingError NOT_FOUND, and ARCHIVE_DAMAGED when there are fewer."""
        ...

    def head(self, key: str) -> Head | None:
        """What is known of an object, None when there is none."""
        ...

    def list(self, prefix: str = "") -> Iterator[Head]:
        """Objects in the order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Takes an object away; none is no error."""
        ...

    def tidy(self, keep: Collection[str]) -> int:
        """Ends uploads that nobody remembers, except those of the names in `keep`; how many."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A setting taken apart.

    Attributes:
        folder: of a local place, None for S3.
        bucket, prefix: of S3.
        endpoint, region, profile, credentials: of S3, "" for what the environment says.
    """

    folder: Path | None = None
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    profile: str = ""
    credentials: str = ""


def place_of(setting: str, default: Path) -> Place:
    """What `archive:` says; "" is the default folder.

    Raises:
        InputError: VALUE_INVALID; a key or secret in the text is refused, and never repeated.
    """
    if not setting:
        return Place(folder=default)
    parts = urlsplit(setting)
    hint = "write file:///FOLDER or s3://BUCKET/PREFIX?endpoint=URL"
    if "@" in parts.netloc:
        raise InputError(
            "VALUE_INVALID",
            "archive: a key does not belong here",
            hint="give it by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or ?credentials=FILE",
        )
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc and not parts.query:
        return Place(folder=Path(unquote(parts.path)))
    if parts.scheme != "s3" or not parts.netloc:
        raise InputError("VALUE_INVALID", "archive: neither a folder nor a bucket", hint=hint)
    words = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(words.keys() - _S3_WORDS)
    if unknown:
        known = ", ".join(sorted(_S3_WORDS))
        raise InputError("VALUE_INVALID", f"archive: {unknown[0][:40]!r} is unknown", hint=f"it takes {known}")
    return Place(
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=words.get("endpoint", ""),
        region=words.get("region", ""),
        profile=words.get("profile", ""),
        credentials=words.get("credentials", ""),
    )


def open_objects(setting: str, default: Path) -> ObjectStore:
    """The place a setting names; raises VALUE_INVALID. Nothing is asked of it yet."""
    place = place_of(setting, default)
    if place.folder is not None:
        from twincloud.archive.directory import DirectoryObjects  # noqa: PLC0415 one of two

        return DirectoryObjects(place.folder, create=not setting)
    from twincloud.archive.s3 import S3Objects  # noqa: PLC0415 boto3 takes 50 MB that a folder does not need

    return S3Objects(place)


def day_key(tenant: str, site: str, gateway: str, day: str, generation: int) -> str:
    """The key of a day of a gateway: the words are columns for tools that know such folders."""
    suffix = f".gen{generation}" if generation > 1 else ""
    return f"tenant={tenant}/site={site}/gateway={gateway}/{day}{suffix}.parquet"


def check_key(key: str) -> str:
    """The key, unless it leaves its place; raises VALUE_INVALID."""
    parts = key.split("/")
    if not key or len(key) > KEY_CHARS_MAX or any(part in {"", ".", ".."} or part.startswith(".") for part in parts):
        raise InputError("VALUE_INVALID", f"{key[:80]!r} is no key of an archive")
    return key


def digest_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def verify(objects: ObjectStore, key: str, size: int, sha256: str) -> Iterator[None]:
    """Reads an object back, whole, piece by piece as it is iterated, and compares it at the end.

    Raises:
        MissingError: NOT_FOUND.
        StorageError: ARCHIVE_DAMAGED when it is not what was sent.
    """
    head = objects.head(key)
    if head is None:
        raise MissingError("NOT_FOUND", f"{objects.name} holds no {key}", key=key)
    digest = hashlib.sha256()
    for offset in range(0, size, READ_BYTES):
        digest.update(objects.get(key, offset, min(READ_BYTES, size - offset)))
        yield
    if digest.hexdigest() != sha256 or head.size != size:
        raise StorageError("ARCHIVE_DAMAGED", f"{key} at {objects.name} is not what was sent", key=key)


def whole(steps: Iterable[None]) -> None:
    """Does all steps of `put` or `verify` at once."""
    deque(steps, maxlen=0)
