"""The ladder of tiers, and the library of kernels that needs neither numba nor LLVM."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from twinmodel.errors import ConflictError, StorageError
from twinmodel.kernel import aot, machine, proof, warmup
from twinmodel.kernel.arena import Plan
from twinmodel.kernel.reference import KERNELS
from twinmodel.kernel.tiers import Ladder


@pytest.fixture
def ready(monkeypatch):
    """Kernels that are ready, by their names, and what was asked for."""
    kernels, asked = {}, []
    monkeypatch.setattr(warmup, "compiled", kernels.get)
    monkeypatch.setattr(warmup, "request", lambda family, folder, plan=None: asked.append((family, plan is not None)))
    return kernels, asked


@pytest.fixture
def plan(make_linear):
    return make_linear(np.random.default_rng(1), 1, 0, 1)


def test_the_ladder_is_climbed_rung_by_rung_between_ticks(ready, plan, kernel_cache):
    kernels, asked = ready
    proven = []
    ladder = Ladder(plan, lambda step: proven.append(step) or True, "m", cache_dir=kernel_cache)
    assert (ladder.tier, ladder.step, ladder.waiting) == ("interpreted", KERNELS["linear"], True)
    assert asked == [("linear", False), ("linear", True)]
    assert not ladder.climb()
    kernels["linear"] = "generic"
    assert ladder.climb()
    assert (ladder.tier, ladder.step, ladder.waiting) == ("vm", "generic", True)
    kernels[warmup.key("linear", plan)] = "its own"
    assert ladder.climb()
    assert (ladder.tier, ladder.step, ladder.waiting) == ("jit", "its own", False)
    assert proven == ["generic", "its own"]


def test_a_kernel_with_other_bits_is_skipped_and_the_next_best_taken(ready, plan, kernel_cache):
    kernels, _ = ready
    kernels |= {"linear": "generic", warmup.key("linear", plan): "wrong"}
    ladder = Ladder(plan, lambda step: step != "wrong", "m", cache_dir=kernel_cache)
    assert (ladder.tier, ladder.waiting) == ("vm", False)


def test_a_better_kernel_that_is_there_makes_the_lesser_needless(ready, plan, kernel_cache):
    kernels, asked = ready
    kernels[warmup.key("linear", plan)] = "its own"
    assert Ladder(plan, lambda _: True, "m", cache_dir=kernel_cache).tier == "jit"
    assert asked == []


def test_a_demanded_tier_is_waited_for_and_a_large_model_gets_the_generic_one(monkeypatch, plan):
    def compile_now(family, cache_dir, given: Plan | None = None):
        if given is not None:
            raise ConflictError("KERNEL_TOO_LARGE", "too large")
        return f"generic {family}"

    monkeypatch.setattr(warmup, "compile_now", compile_now)
    ladder = Ladder(plan, lambda _: True, "m", tier="jit")
    assert (ladder.tier, ladder.step) == ("vm", "generic linear")
    assert Ladder(plan, lambda _: True, "m", tier="vm").tier == "vm"


def test_generic_kernels_are_compiled_before_generated_ones_and_one_at_a_time(monkeypatch, plan, tmp_path):
    order, running = [], []

    def compile_one(self, family, path, plan=None):
        assert not running
        running.append(family)
        order.append((family, plan is not None))
        machine.write(path, "symbol", b"code")
        running.clear()

    monkeypatch.setattr(warmup._Compiler, "compile", compile_one)
    monkeypatch.setattr(machine, "Machine", lambda symbol, code: (symbol, code))
    monkeypatch.setattr(warmup.threading.Thread, "start", lambda self: None)
    compiler = warmup._Compiler()
    compiler.request("linear", tmp_path, plan)
    compiler.request("ode", tmp_path)
    compiler.request("ode", tmp_path)
    compiler._work()
    assert order == [("ode", False), ("linear", True)]
    assert compiler.ready("linear", plan) == ("symbol", b"code")
    assert compiler.ready("linear") is None


def test_the_folder_stays_within_its_bounds_and_keeps_what_was_used_last(monkeypatch, tmp_path):
    monkeypatch.setattr(warmup, "FILES_MAX", 3)
    for k in range(5):
        path = tmp_path / f"{k}.kernel"
        path.write_bytes(b"x")
        warmup.os.utime(path, (k, k))
    warmup._sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2.kernel", "3.kernel", "4.kernel"]
    monkeypatch.setattr(warmup, "FOLDER_BYTES_MAX", 2)
    warmup._sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3.kernel", "4.kernel"]


@pytest.fixture(scope="module")
def library(compiled, kernel_cache, tmp_path_factory):
    """A folder with nothing but the linked library."""
    folder = tmp_path_factory.mktemp("aot")
    folder.chmod(0o700)
    files = {family: kernel_cache / machine.file_name(family) for family in warmup.FAMILIES}
    return aot.build(folder, files)


def test_the_library_gives_the_bits_of_the_reference_without_numba_or_llvm(library):
    code = (
        "import sys; from pathlib import Path\n"
        "from twinmodel.kernel import proof, warmup\n"
        "steps = {f: warmup.compile_now(f, Path(sys.argv[1])) for f in warmup.FAMILIES}\n"
        "plan = proof._linear()\n"
        "assert proof._run(plan, steps['linear'], 8) == proof._run(plan, proof.KERNELS['linear'], 8)\n"
        "warmup.request('linear', Path(sys.argv[1]), plan); warmup.wait(1)\n"
        "loaded = [m in sys.modules for m in ('numba', 'llvmlite')]\n"
        "print(type(steps['ode']).__name__, warmup.compiled('linear', plan), *loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(library.parent)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["Compiled", "None", "False", "False"]


def test_a_library_that_is_torn_or_unsealed_is_not_loaded(library, tmp_path):
    copy = aot.path(tmp_path)
    copy.write_bytes(library.read_bytes())
    assert aot.load(tmp_path, "linear") is None
    copy.with_suffix(".sha256").write_text(library.with_suffix(".sha256").read_text())
    assert isinstance(aot.load(tmp_path, "linear"), machine.Compiled)
    copy.write_bytes(library.read_bytes()[:-1])
    assert aot.load(tmp_path, "linear") is None


def test_a_seal_of_other_bytes_is_no_seal(library, tmp_path):
    aot.path(tmp_path).write_bytes(library.read_bytes())
    aot.path(tmp_path).with_suffix(".sha256").write_bytes(bytes(range(128, 192)))
    assert aot.load(tmp_path, "linear") is None


def test_a_folder_that_a_killed_linker_left_behind_hinders_nobody(compiled, kernel_cache, tmp_path):
    (tmp_path / "aot-killed").mkdir()
    (tmp_path / "aot-old.so").touch()
    built = aot.build(tmp_path, {"linear": kernel_cache / machine.file_name("linear")})
    assert built.exists()
    assert not (tmp_path / "aot-old.so").exists()


def test_without_a_linker_nothing_is_lost_and_the_reason_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(aot.shutil, "which", lambda name: None)
    with pytest.raises(ConflictError, match="no C compiler") as caught:
        aot.build(tmp_path, {})
    assert (caught.value.reason, caught.value.outcome.exit) == ("LINKER_MISSING", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_linker_that_fails_leaves_no_library(compiled, kernel_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(aot.shutil, "which", lambda name: "/bin/false")
    with pytest.raises(StorageError, match="ended with 1"):
        aot.build(tmp_path, {"linear": kernel_cache / machine.file_name("linear")})
    assert list(tmp_path.iterdir()) == []


def test_a_library_gives_what_its_proof_demands(library):
    proof.prove("linear", aot.open_library(library, "linear"))
