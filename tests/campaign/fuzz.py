"""Coverage-guided fuzzing of everything that reads foreign bytes: `python -m tests.campaign.fuzz [TARGET ...]`.

    block      payloads of blocks, both versions, columns and frames
    kept       bitmaps of thinned blocks
    envelope   messages of both directions, up to our own records
    profile    firmware profiles
    site       site.yaml

Each target takes bytes and either reads them, refuses them by a typed error, or has a bug, which ends the run; what
was found lies in the folder `--out` and belongs into `tests/data/fuzz/TARGET` once it is mended. Without atheris
(`requirements/fuzz.txt`) inputs are mutated at random, without coverage.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FunctionType

from google.protobuf.message import DecodeError

from tests.sync import fuzzing
from tests.sync.samples import CATALOGUE, steady
from twinedge.config.load import load_site
from twinmodel.errors import InputError, TwinError
from twinmodel.profile.load import load_profile
from twinsync import block
from twinsync.envelope import down_from_proto, down_to_proto, up_from_proto, up_to_proto
from twinsync.kept import pack_kept, unpack_kept
from twinsync.v1 import sync_pb2

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests/data/fuzz"
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))


def one_block(data: bytes) -> None:
    """Payloads of blocks."""
    fuzzing.fuzz_one(data)


def one_kept(data: bytes) -> None:
    """Bitmaps of thinned blocks; the first three bytes say how many numbers."""
    count = int.from_bytes(data[:3], "little") % (block.limits.BLOCK_SAMPLES_MAX + 1)
    try:
        mask = unpack_kept(data[3:], count)
    except InputError:
        return
    assert len(mask) == count
    assert (unpack_kept(pack_kept(mask), count) == mask).all()


def one_envelope(data: bytes) -> None:
    """Messages of both directions; what is taken is told again in the same words."""
    for kind, read, write in (
        (sync_pb2.Up, up_from_proto, up_to_proto),
        (sync_pb2.Down, down_from_proto, down_to_proto),
    ):
        try:
            message = read(kind.FromString(data))
        except (DecodeError, InputError):
            continue
        assert read(write(message)) == message or message != message  # noqa: PLR0124 - NaN


def one_profile(data: bytes) -> None:
    """Firmware profiles."""
    _document(data, "fuzz@1.yaml", load_profile)


def one_site(data: bytes) -> None:
    """site.yaml."""
    _document(data, "site.yaml", load_site)


def _document(data: bytes, name: str, load: Callable[[Path], object]) -> None:
    path = _FOLDER / name
    path.write_bytes(data)
    try:
        load(path)
    except TwinError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "block": one_block,
    "kept": one_kept,
    "envelope": one_envelope,
    "profile": one_profile,
    "site": one_site,
}


OF_TARGET = {
    "block": ("twinsync.block", "twinsync.block_v1", "twinsync.columns", "twinsync.frame", "twinsync.values"),
    "kept": ("twinsync.kept",),
    "envelope": ("twinsync.envelope", "twinsync.convert"),
    "profile": ("twinmodel.profile.load", "twinmodel.profile.document"),
    "site": ("twinedge.config.load", "twinmodel.profile.document"),
}
"""Modules whose branches guide the search."""


def seeds(target: str) -> list[bytes]:
    """Sound inputs to begin with, and what was once a bug."""
    found = [path.read_bytes() for path in sorted((VECTORS / target).glob("*"))]
    if target == "profile":
        found += [path.read_bytes() for path in sorted((ROOT / "firmware-profiles").rglob("*.yaml"))[:20]]
    elif target == "site":
        found += [path.read_bytes() for path in sorted((ROOT / "examples").rglob("*.yaml"))[:20]]
    elif target == "block":
        found += [block.encode([steady(n)], CATALOGUE).payload for n in (1, 5, 60)]
    elif target == "envelope":
        beat = sync_pb2.Heartbeat(session=1, wall_ns=2, backlog_bytes=3)
        wish = sync_pb2.Coarsen(stream=3, period_ms=9, signal="a")
        found += [sync_pb2.Up(heartbeat=beat).SerializeToString(), sync_pb2.Down(coarsen=wish).SerializeToString()]
    return found or [b"\x05\x00\x00\x1f"]


def mutate(data: bytes, rng: Random) -> bytes:
    """A few bytes of an input changed, doubled or cut out."""
    raw = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(4):
            case 0:
                raw[at : at + 1] = rng.randbytes(1)
            case 1:
                raw[at:at] = rng.randbytes(rng.randint(1, 8))
            case 2:
                del raw[at : at + rng.randint(1, 16)]
            case _:
                raw[at : at + 8] = rng.choice((b"\x00" * 8, b"\xff" * 8, b"\x80" + bytes(7)))
    return bytes(raw)


def at_random(target: str, seconds: float, out: Path, seed: int) -> int:
    """Mutates without coverage; returns how many inputs were tried, an input that is a bug lies in `out`."""
    rng, corpus, count = Random(seed), seeds(target), 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        data = mutate(rng.choice(corpus), rng)
        try:
            TARGETS[target](data)
        except BaseException:
            (out / f"{target}-{seed}-{count}").write_bytes(data)
            raise
        count += 1
    return count


def guided(target: str, seconds: int, out: Path) -> None:
    """Runs atheris in this process, which it ends."""
    import atheris

    # What runs inside the package is guided; libraries are not ours to search.
    for target_of in OF_TARGET[target]:
        for name, found in list(vars(sys.modules[target_of]).items()):
            if isinstance(found, FunctionType) and found.__module__ == target_of:
                setattr(sys.modules[target_of], name, atheris.instrument_func(found))
    corpus = out / f"corpus-{target}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={out}/{target}-"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[target])
    atheris.Fuzz()


def main() -> None:
    """Runs each target in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=list(TARGETS))
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--out", type=Path, default=ROOT / "var/fuzz")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.alone:
        guided(given.targets[0], given.seconds, given.out)
    try:
        import atheris  # noqa: F401 - of the campaign alone
    except ImportError:
        for target in given.targets:
            count = at_random(target, given.seconds, given.out, 1)
            sys.stdout.write(f"{target}: {count} inputs, without coverage\n")
        return
    failed = []
    for target in given.targets:
        command = [sys.executable, "-m", "tests.campaign.fuzz", target, "--alone"]
        command += ["--seconds", str(given.seconds), "--out", str(given.out)]
        failed += [target] if subprocess.run(command, check=False, cwd=ROOT).returncode else []
    sys.exit(f"bugs found by: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
