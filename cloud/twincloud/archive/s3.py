"""Archived files in a bucket of any S3 server, by boto3.

    small ─▶ PutObject, If-None-Match: *                                              ┐ appears whole,
    large ─▶ CreateMultipartUpload ─▶ UploadPart ... ─▶ Complete, If-None-Match: *    ┘ replaces nothing

The server is asked which parts of an upload it holds, so that one which broke goes on where it was, whoever carries
it on. Each part travels with its MD5, which the server checks.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twincloud.archive.objects import Head, Place, check_key
from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError, StorageError, UnreachableError

PART_BYTES = 8 << 20
PARTS_MAX = 9_000
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
TRIES = 3

_DENIED = {
    "InvalidAccessKeyId": "the server does not know this access key; check AWS_ACCESS_KEY_ID or `credentials=`",
    "SignatureDoesNotMatch": "the secret is not the one of this access key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the session token has ended; get a new one",
    "AccessDenied": "the policy of this key must allow Put, Get, List and Delete under the prefix",
    "NoSuchBucket": "make the bucket, or correct its name in `archive:`",
    "AuthorizationHeaderMalformed": "give the bucket's region: `?region=...`",
    "PermanentRedirect": "give the bucket's region or endpoint: `?region=...`",
}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_EXISTS = {"PreconditionFailed", "412", "ConditionalRequestConflict"}
_NO_UPLOAD = {"NoSuchUpload", "InvalidPart", "InvalidPartOrder"}


class S3Objects:
    """A bucket, or what lies under a prefix of it; see `ObjectStore`.

    Args:
        place: bucket, prefix and server; credentials come from the environment, ~/.aws, the machine's role, or a file.
        part_bytes: length of a part; files of at most one part go in one request.
    """

    def __init__(self, place: Place, *, part_bytes: int = PART_BYTES) -> None:
        self._bucket = place.bucket
        self._prefix = f"{place.prefix}/" if place.prefix else ""
        self._part_bytes = part_bytes
        self._client = _client(place)
        host = urlsplit(place.endpoint).netloc.rpartition("@")[2] if place.endpoint else ""
        self._name = f"s3://{place.bucket}/{place.prefix}" + (f" at {host}" if host else "")

    @property
    def name(self) -> str:
        """See `ObjectStore.name`."""
        return self._name

    def put(
        self, key: str, path: Path, sha256: str, *, upload: str = "", remember: Callable[[str], None]
    ) -> Iterator[None]:
        """See `ObjectStore.put`."""
        full, size = self._full(key), path.stat().st_size
        head = self.head(key)
        if head is not None:
            self._compare(head, size, sha256)
            return
        try:
            with self._telling(key):
                if size <= self._part_bytes:
                    content = path.read_bytes()
                    self._client.put_object(
                        Bucket=self._bucket, Key=full, Body=content, IfNoneMatch="*", ContentMD5=_md5(content)[1],
                        Metadata={"sha256": sha256},
                    )  # fmt: skip
                else:
                    yield from self._put_parts(full, path, size, sha256, upload, remember)
        except ConflictError:
            head = self.head(key)
            if head is None:
                raise
            self._compare(head, size, sha256)

    def _put_parts(
        self, full: str, path: Path, size: int, sha256: str, upload: str, remember: Callable[[str], None]
    ) -> Iterator[None]:
        step = max(self._part_bytes, -(-size // PARTS_MAX))
        try:
            held = self._parts(full, upload) if upload else {}
        except MissingError:
            upload, held = "", {}
        if not upload:
            made = self._client.create_multipart_upload(Bucket=self._bucket, Key=full, Metadata={"sha256": sha256})
            upload = str(made["UploadId"])
            remember(upload)
        parts = []
        with path.open("rb") as file:
            for number in range(1, -(-size // step) + 1):
                content = file.read(step)
                digest, encoded = _md5(content)
                tag = held.get(number, ("", 0))
                # Another tag than MD5, as of encrypted buckets, only means that the part goes once more.
                if tag != (digest, len(content)):
                    sent = self._client.upload_part(
                        Bucket=self._bucket, Key=full, UploadId=upload, PartNumber=number, Body=content,
                        ContentMD5=encoded,
                    )  # fmt: skip
                    tag = (str(sent["ETag"]).strip('"'), len(content))
                parts.append({"PartNumber": number, "ETag": f'"{tag[0]}"'})
                yield
        self._client.complete_multipart_upload(
            Bucket=self._bucket, Key=full, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
        )

    def _parts(self, full: str, upload: str) -> dict[int, tuple[str, int]]:
        """Number -> (tag, length) of the parts the server holds; raises NOT_FOUND."""
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=full, UploadId=upload)
        with self._telling(full):
            return {
                int(part["PartNumber"]): (str(part["ETag"]).strip('"'), int(part["Size"]))
                for page in pages
                for part in page.get("Parts", ())
            }

    def _compare(self, head: Head, size: int, sha256: str) -> None:
        if (head.size, head.sha256) != (size, sha256):
            raise ConflictError("ALREADY_EXISTS", f"{head.key} at {self.name} holds something else", key=head.key)

    def get(self, key: str, offset: int, length: int) -> bytes:
        """See `ObjectStore.get`."""
        with self._telling(key):
            span = f"bytes={offset}-{offset + length - 1}"
            answer = self._client.get_object(Bucket=self._bucket, Key=self._full(key), Range=span)
            content = bytes(answer["Body"].read())
        if len(content) != length:
            raise StorageError("ARCHIVE_DAMAGED", f"{key} at {self.name} is shorter than it was", key=key)
        return content

    def head(self, key: str) -> Head | None:
        """See `ObjectStore.head`."""
        try:
            with self._telling(key):
                answer = self._client.head_object(Bucket=self._bucket, Key=self._full(key))
        except MissingError:
            return None
        return Head(key, int(answer["ContentLength"]), str(answer.get("Metadata", {}).get("sha256", "")))

    def list(self, prefix: str = "") -> Iterator[Head]:
        """See `ObjectStore.list`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with self._telling(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Head(str(found["Key"]).removeprefix(self._prefix), int(found["Size"]))

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with self._telling(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._full(key))

    def tidy(self, keep: Collection[str]) -> int:
        """See `ObjectStore.tidy`; the names are those of uploads."""
        count = 0
        with self._telling(""):
            answer = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix)
            for found in answer.get("Uploads", ()):
                if found["UploadId"] not in keep:
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=found["Key"], UploadId=found["UploadId"]
                    )
                    count += 1
        return count

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    @contextmanager
    def _telling(self, key: str) -> Iterator[None]:
        """Turns what boto3 raises into our errors; none of them carries a key or a signature."""
        from botocore import exceptions as boto  # noqa: PLC0415 heavy

        try:
            yield
        except boto.ClientError as error:
            raise self._refused(error.response, key) from None
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError):
            raise DeniedError(
                "ARCHIVE_DENIED",
                f"no credentials for {self.name}",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give ?credentials=FILE",
            ) from None
        except (boto.BotoCoreError, OSError) as error:
            raise UnreachableError("ARCHIVE_UNREACHABLE", f"{self.name}: {type(error).__name__}") from None

    def _refused(self, answer: Any, key: str) -> Exception:
        code = str(answer.get("Error", {}).get("Code", ""))
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _MISSING or code in _NO_UPLOAD:
            return MissingError("NOT_FOUND", f"{self.name} holds no {key}", key=key)
        if code in _EXISTS:
            return ConflictError("ALREADY_EXISTS", f"{key} at {self.name} holds something else", key=key)
        if code in _DENIED or status in {401, 403}:
            said = code or f"HTTP {status}"
            return DeniedError(
                "ARCHIVE_DENIED", f"{self.name} refuses: {said}", hint=_DENIED.get(code), code=said
            )  # fmt: skip
        if code == "InvalidRange":
            return StorageError("ARCHIVE_DAMAGED", f"{key} at {self.name} is shorter than it was", key=key)
        return UnreachableError("ARCHIVE_UNREACHABLE", f"{self.name}: {code or 'error'}, HTTP {status}")


def _client(place: Place) -> Any:
    try:
        import boto3  # noqa: PLC0415 50 MB, 200 ms
        import botocore.session  # noqa: PLC0415 with it
        from botocore.config import Config  # noqa: PLC0415 with it
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 with it
    except ImportError as error:
        raise ConflictError("EXTRA_MISSING", "boto3 is missing", hint="pip install 'hybridtwin[cloud]'") from error
    session = botocore.session.Session(profile=place.profile or None)
    if place.credentials:
        session.set_config_variable("credentials_file", place.credentials)
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": TRIES, "mode": "standard"},
        signature_version="s3v4",
        # Newer checksums are unknown to many servers; MD5 of each body goes with it, SHA-256 is compared afterwards.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if place.endpoint else "auto"},
    )
    try:
        return boto3.Session(botocore_session=session, region_name=place.region or None).client(
            "s3", endpoint_url=place.endpoint or None, config=config
        )
    except (BotoCoreError, ValueError) as error:
        raise InputError("VALUE_INVALID", f"archive: {type(error).__name__}: {error}") from None


def _md5(content: bytes) -> tuple[str, str]:
    """Digest of a body, as tags show it and as requests carry it; a checksum, not a signature."""
    digest = hashlib.md5(content, usedforsecurity=False)
    return digest.hexdigest(), base64.b64encode(digest.digest()).decode()
