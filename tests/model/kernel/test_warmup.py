"""The cache of compiled kernels: only a private folder will do, and a warm one spares the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from twinmodel.errors import StorageError
from twinmodel.kernel import machine, warmup


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


def test_a_second_process_loads_what_the_first_has_compiled_and_needs_no_numba(kernel_cache, compiled):
    code = (
        "import sys; from pathlib import Path; from twinmodel.kernel import warmup\n"
        "warmup._Compiler.compile = None\n"
        "print(*warmup.warm(Path(sys.argv[1])), 'numba' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(kernel_cache)], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.split() == [*warmup.FAMILIES, "False"]


@pytest.mark.parametrize("damage", [b"", b"torn", lambda blob: blob[:-1], lambda blob: blob[:-9] + b"x" + blob[-8:]])
def test_a_torn_file_is_compiled_once_more(tmp_path, monkeypatch, damage):
    path = tmp_path / machine.file_name("linear")
    machine.write(path, "symbol", b"code")
    blob = path.read_bytes()
    path.write_bytes(damage(blob) if callable(damage) else damage)
    made = []
    monkeypatch.setattr(warmup._Compiler, "compile", lambda self, family, path: made.append(path) or path.touch())
    monkeypatch.setattr(warmup.machine, "Machine", lambda symbol, code: (symbol, code))
    with pytest.raises(StorageError, match="no complete kernel"):
        warmup._Compiler().obtain("linear", tmp_path)
    assert made == [path]


def test_the_compiler_writes_for_its_owner_alone_and_as_one_step(tmp_path):
    path = tmp_path / "k.kernel"
    machine.write(path, "symbol", b"code")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["k.kernel"]


def test_processes_that_start_together_compile_once(tmp_path, monkeypatch):
    made = []

    def compile_slowly(self, family, path):
        made.append(family)
        machine.write(path, "symbol", b"code")

    monkeypatch.setattr(warmup._Compiler, "compile", compile_slowly)
    monkeypatch.setattr(machine, "Machine", lambda symbol, code: (symbol, code))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: warmup._Compiler().obtain("ode", tmp_path), range(6)))
    assert made == ["ode"]
    assert found == [("symbol", b"code")] * 6


def test_a_compiler_that_fails_leaves_the_kernel_unready_and_says_so_once(tmp_path, monkeypatch):
    monkeypatch.setattr(warmup.sys, "executable", "/bin/false")
    with capture_logs() as logs:
        compiler = warmup._Compiler()
        for _ in range(3):
            compiler.request("ode", tmp_path)
            compiler.wait(10)
    assert compiler.ready("ode") is None
    assert [entry["event"] for entry in logs] == ["kernel_not_compiled"]
    assert "ended with 1" in logs[0]["error"]


def test_an_array_the_code_could_not_read_is_refused_before_it_runs(compiled):
    good = np.zeros(8)
    for wrong in (np.zeros(8, np.float32), np.zeros((8, 2))[:, 0]):
        with pytest.raises(TypeError, match="contiguous float64"):
            compiled["linear"](np.zeros(8, np.int32), good, np.zeros(1, np.int32), wrong, good, good, good, 1)


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
