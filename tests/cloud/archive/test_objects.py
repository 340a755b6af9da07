"""Places of archived files: one contract over a folder and a real S3 server, then what each has of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud.archive.conftest import BUCKET, PART
from twincloud.archive.directory import DirectoryObjects
from twincloud.archive.objects import Place, day_key, open_objects, place_of, verify, whole
from twincloud.archive.s3 import S3Objects
from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError, StorageError, UnreachableError

ONE, TWO = day_key("acme", "mill", "gw-1", "2026-03-01", 1), day_key("acme", "mill", "gw-1", "2026-03-01", 2)


def put(objects, key, path, sha256, **more):
    remembered = []
    whole(objects.put(key, path, sha256, remember=remembered.append, **more))
    return remembered


def test_what_was_put_is_read_by_range_listed_and_verified(objects, file):
    (small, small_sha), (large, large_sha) = file(1_000), file(2 * PART + 17)
    put(objects, ONE, small, small_sha)
    put(objects, TWO, large, large_sha)
    assert objects.get(TWO, PART - 5, 10) == large.read_bytes()[PART - 5 : PART + 5]
    assert [(head.key, head.size) for head in objects.list()] == [(TWO, 2 * PART + 17), (ONE, 1_000)]
    assert [head.key for head in objects.list("tenant=other")] == []
    whole(verify(objects, ONE, 1_000, small_sha))
    whole(verify(objects, TWO, 2 * PART + 17, large_sha))
    for key, size, sha256 in ((ONE, 1_000, large_sha), (ONE, 999, small_sha), (ONE, 2_000, small_sha)):
        with pytest.raises(StorageError, match="ARCHIVE_DAMAGED"):
            whole(verify(objects, key, size, sha256))


def test_an_object_is_never_replaced_and_the_same_twice_is_no_error(objects, file):
    (path, sha256), (other, other_sha), (large, large_sha) = file(1_000), file(1_000, 2), file(PART + 1)
    put(objects, ONE, path, sha256)
    put(objects, ONE, path, sha256)
    for wrong, wrong_sha in ((other, other_sha), (large, large_sha)):
        with pytest.raises(ConflictError, match="ALREADY_EXISTS"):
            put(objects, ONE, wrong, wrong_sha)
    assert objects.get(ONE, 0, 1_000) == path.read_bytes()
    assert objects.tidy(()) == 0


def test_what_is_not_there_is_said_and_deleting_it_is_no_error(objects, file):
    assert objects.head(ONE) is None
    with pytest.raises(MissingError):
        objects.get(ONE, 0, 10)
    with pytest.raises(MissingError):
        whole(verify(objects, ONE, 10, "00"))
    objects.delete(ONE)
    path, sha256 = file(10)
    put(objects, ONE, path, sha256)
    with pytest.raises(StorageError, match="shorter"):
        objects.get(ONE, 5, 10)
    objects.delete(ONE)
    assert objects.head(ONE) is None


def test_an_upload_that_broke_off_shows_nothing_goes_on_and_leaves_nothing(objects, file):
    path, sha256 = file(2 * PART + 17)
    remembered = []
    steps = objects.put(ONE, path, sha256, remember=remembered.append)
    next(steps)
    steps.close()
    assert objects.head(ONE) is None
    assert list(objects.list()) == []
    assert objects.tidy(remembered) == 0
    put(objects, ONE, path, sha256, upload=remembered[0])
    whole(verify(objects, ONE, 2 * PART + 17, sha256))
    next(objects.put(TWO, path, sha256, remember=remembered.append))
    assert objects.tidy(()) == 1
    put(objects, TWO, path, sha256, upload=remembered[-1])
    assert objects.tidy(()) == 0


def test_a_key_that_leaves_the_place_is_refused(objects):
    for key in ("", "../x", "/x", "a//b", "a/../../b", ".hidden", "a" * 1_000):
        with pytest.raises(InputError):
            objects.head(key)


def test_a_server_that_restarts_in_mid_upload_gets_the_rest_alone(server, file):
    path, sha256 = file(2 * PART + 17, 5)
    remembered, sent = [], []
    first = server.objects("restart", part_bytes=PART)
    steps = first.put(ONE, path, sha256, remember=remembered.append)
    next(steps)
    server.stop()
    with pytest.raises(UnreachableError) as caught:
        whole(steps)
    assert caught.value.reason == "ARCHIVE_UNREACHABLE"
    server.start()
    again = server.objects("restart", part_bytes=PART)
    assert server.answered(lambda: again.head(ONE)) is None
    assert list(again.list()) == []
    again._client.meta.events.register("before-call.s3.UploadPart", lambda params, **_: sent.append(params["url"]))
    server.answered(lambda: put(again, ONE, path, sha256, upload=remembered[0]))
    assert {url.partition("partNumber=")[2][:1] for url in sent} == {"2", "3"}
    whole(verify(again, ONE, 2 * PART + 17, sha256))
    assert again.tidy(()) == 0


@pytest.mark.parametrize(
    ("key", "secret", "code"),
    [("archive-key", "wrong-secret", "SignatureDoesNotMatch"), ("wrong-key", "x", "InvalidAccessKeyId")],
)
def test_a_wrong_key_is_told_with_what_to_do_and_no_secret(server, tmp_path, monkeypatch, file, key, secret, code):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    objects = S3Objects(
        Place(bucket=BUCKET, endpoint=server.endpoint, region="us-east-1", credentials=str(credentials))
    )
    with pytest.raises(DeniedError) as caught:
        list(objects.list())
    assert caught.value.reason == "ARCHIVE_DENIED"
    assert code in caught.value.message
    assert "check AWS_" in caught.value.hint
    assert secret not in f"{caught.value!r} {caught.value.hint} {caught.value.facts} {objects.name}"
    with pytest.raises(DeniedError):
        put(objects, ONE, *file(10))


def test_no_credentials_no_bucket_and_no_server_each_have_a_reason(server, monkeypatch):
    nowhere = S3Objects(Place(bucket="none", endpoint=server.endpoint, region="us-east-1"))
    with pytest.raises(DeniedError, match="NoSuchBucket"):
        list(nowhere.list())
    gone = S3Objects(Place(bucket=BUCKET, endpoint="http://127.0.0.1:1", region="us-east-1"))
    with pytest.raises(UnreachableError) as caught:
        gone.head(ONE)
    assert (caught.value.reason, "127.0.0.1:1" in caught.value.message) == ("ARCHIVE_UNREACHABLE", True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DeniedError, match="no credentials"):
        server.objects().head(ONE)


def test_a_folder_that_is_not_mounted_is_unreachable_and_not_made(tmp_path, file):
    objects = DirectoryObjects(tmp_path / "mount")
    for call in (lambda: put(objects, ONE, *file(10)), lambda: objects.head(ONE), lambda: list(objects.list())):
        with pytest.raises(UnreachableError, match="ARCHIVE_UNREACHABLE"):
            call()
    assert not (tmp_path / "mount").exists()


def test_a_file_system_without_links_replaces_nothing_either(tmp_path, monkeypatch, file):
    import errno
    import os

    def refuse(*_paths):
        raise OSError(errno.ENOTSUP, "no links")

    monkeypatch.setattr(os, "link", refuse)
    objects = DirectoryObjects(tmp_path / "archive", create=True)
    path, sha256 = file(1_000)
    put(objects, ONE, path, sha256)
    assert objects.get(ONE, 0, 1_000) == path.read_bytes()
    with pytest.raises(ConflictError):
        put(objects, ONE, *file(1_000, 2))
    assert [head.key for head in objects.list()] == [ONE]


def test_settings_name_a_folder_or_a_bucket_and_never_a_secret(tmp_path):
    assert place_of("", tmp_path) == Place(folder=tmp_path)
    assert place_of("file:///mnt/the%20archive", tmp_path) == Place(folder=Path("/mnt/the archive"))
    wanted = Place(bucket="plant", prefix="a/b", endpoint="https://s3.example:9000", region="eu-1")
    assert place_of("s3://plant/a/b/?endpoint=https://s3.example:9000&region=eu-1", tmp_path) == wanted
    for wrong in ("s3://", "ftp://x/y", "file://host/x", "/mnt", "s3://b/p?key=x", "s3://id:secret@bucket/x"):
        with pytest.raises(InputError) as caught:
            place_of(wrong, tmp_path)
        assert caught.value.reason == "VALUE_INVALID"
        assert "secret" not in caught.value.message
    assert isinstance(open_objects("", tmp_path / "a"), DirectoryObjects)
