"""The cache of compiled kernels: only a private folder will do, and a warm one spares the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from twinmodel.errors import StorageError
from twinmodel.kernel import warmup


def test_a_missing_folder_is_created_for_its_owner_alone(tmp_path):
    folder = tmp_path / "a" / "kernels"
    assert warmup.cache_folder(folder, {}) == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_others_may_write_to_is_refused(tmp_path):
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(0o770)
    assert warmup.cache_folder(folder, {}) is None
    folder.chmod(0o700)
    assert warmup.cache_folder(folder, {}) == folder
    tmp_path.chmod(0o777)
    try:
        assert warmup.cache_folder(folder, {}) is None
    finally:
        tmp_path.chmod(0o700)


def test_a_link_or_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch(0o600)
    assert warmup.cache_folder(tmp_path / "link", {}) is None
    assert warmup.cache_folder(tmp_path / "file", {}) is None


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "kernels"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert warmup.cache_folder(folder, {}) is None


def test_the_folder_comes_from_the_environment_in_order(tmp_path):
    for given in ({"NUMBA_CACHE_DIR": str(tmp_path / "n")}, {"XDG_CACHE_HOME": str(tmp_path)}, {"HOME": str(tmp_path)}):
        found = warmup.cache_folder(None, given | {"HOME": str(tmp_path)})
        assert found is not None
        assert found.is_relative_to(tmp_path)
    assert warmup.cache_folder(None, {"HOME": "/proc/none"}) is None
    assert warmup.cache_folder(None, {}) is None


def test_compiling_without_a_private_folder_is_refused_where_it_was_demanded():
    code = (
        "from pathlib import Path\n"
        "from twinmodel.kernel import warmup\n"
        "from twinmodel.errors import StorageError\n"
        "try: warmup.warm(Path('/proc/none'))\n"
        "except StorageError as e: print(e.reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "STATE_INVALID"
    assert StorageError("STATE_INVALID", "").outcome.exit == 3


def test_a_second_process_loads_what_the_first_has_compiled(kernel_cache, compiled):
    code = (
        "import sys, time; from pathlib import Path; from twinmodel.kernel import warmup\n"
        "import numba.core.dispatcher as d\n"
        "names = warmup.warm(Path(sys.argv[1]))\n"
        "print(*[sum(warmup.compiled(n).stats.cache_misses.values()) for n in names])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(kernel_cache)], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.split() == ["0", "0"]


def test_a_torn_cache_file_is_dropped_and_the_kernel_loaded_once_more(tmp_path, monkeypatch):
    torn = tmp_path / "kernel_x" / "linear.step.nbi"
    torn.parent.mkdir()
    torn.write_bytes(b"torn")

    def load(family, folder):
        if torn.exists():
            raise EOFError("Ran out of input")
        return family

    monkeypatch.setattr(warmup, "_load", load)
    assert warmup._Compiler().compile("linear", tmp_path) == "linear"
    assert not torn.exists()


def test_a_compiler_that_fails_leaves_the_kernel_unready_and_says_so_once(tmp_path, monkeypatch):
    calls = []

    def load(family, folder):
        calls.append(family)
        raise RuntimeError("no LLVM here")

    monkeypatch.setattr(warmup, "_load", load)
    with capture_logs() as logs:
        compiler = warmup._Compiler()
        for _ in range(3):
            compiler.request("ode", tmp_path)
            compiler.wait(10)
    assert compiler.ready("ode") is None
    assert [entry["event"] for entry in logs] == ["kernel_not_compiled"]
    assert calls == ["ode", "ode"]


@pytest.mark.parametrize("family", warmup.FAMILIES)
def test_a_request_makes_the_kernel_ready_beside_the_caller(family, kernel_cache, compiled):
    warmup.request(family, Path(kernel_cache))
    warmup.wait(60)
    assert warmup.compiled(family) is compiled[family]


def test_without_numba_nothing_is_requested_and_nothing_logged(tmp_path, monkeypatch):
    monkeypatch.setattr(warmup.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(warmup, "_compiler", warmup._Compiler())
    with capture_logs() as logs:
        warmup.request("ode", tmp_path)
        warmup.wait(10)
    assert warmup.compiled("ode") is None
    assert logs == []
