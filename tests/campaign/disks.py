"""Disks whose power goes, that fill, hang and turn read-only: ext4 in a file, or a small tmpfs; root only.

FS_IOC_SHUTDOWN stops an ext4 at once: what was not synced by then is lost, as when the power goes. It knows no drive
that acknowledges a flush and does not do it. Whoever writes there must be halted before: see `nursery.Child.halt`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

FS_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
PREFIX = "campaign-c"
TRIES, PAUSE_S = 100, 0.05


def may_mount() -> bool:
    """Whether ext4 in a file can be mounted here: by root, outside most containers."""
    return os.geteuid() == 0 and all(map(shutil.which, ("mkfs.ext4", "mount", "umount"))) and _tried()


def _tried() -> bool:
    root = made_folder()
    try:
        Disk(root, "trial", mib=4).close()
    except OSError:
        return False
    else:
        return True
    finally:
        shutil.rmtree(root, ignore_errors=True)


class Disk:
    """A file system of its own; closed, it is unmounted.

    Args:
        root: folder for the image and the mount point.
        name: of both.
        kind: `ext4`, whose power can go, or `tmpfs`.
    """

    def __init__(self, root: Path, name: str, *, mib: int = 48, kind: str = "ext4") -> None:
        self.path = root / name
        self.path.mkdir()
        self.image = root / f"{name}.img"
        self.kind = kind
        self.mib = mib
        self.mounted = False
        if kind == "ext4":
            with self.image.open("wb") as file:
                file.truncate(mib << 20)
            _run("mkfs.ext4", "-q", "-F", str(self.image))
        self.mount()

    def mount(self) -> None:
        """Power is on: the journal is replayed."""
        if self.kind == "ext4":
            _insist("mount", "-o", "loop", str(self.image), str(self.path))
        else:
            _run("mount", "-t", "tmpfs", "-o", f"size={self.mib}m,mode=0700", "campaign", str(self.path))
        self.mounted = True

    def close(self) -> None:
        if self.mounted:
            _insist("umount", str(self.path))
            self.mounted = False

    def cut(self) -> None:
        """No power from now on: nothing that was not synced is written any more."""
        self._control(FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))

    def freeze(self) -> None:
        """The disk hangs: whoever writes waits."""
        self._control(FIFREEZE, 0)

    def thaw(self) -> None:
        self._control(FITHAW, 0)

    def abort(self) -> None:
        """It turns read-only under running programs, as after an error; only a new mount heals it."""
        _run("mount", "-o", "remount,abort", str(self.path))

    def read_only(self, *, on: bool) -> None:
        """Only while nobody writes."""
        _insist("mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.path))

    def fill(self) -> None:
        """Another program takes all there is."""
        with (self.path / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 18, 1 << 12, 1 << 9):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def free(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)

    def save(self, image: Path) -> None:
        """A copy of the whole disk; it is unmounted meanwhile."""
        self.close()
        _run("cp", "--sparse=always", str(self.image), str(image))
        self.mount()

    def load(self, image: Path) -> None:
        """The copy takes the place of what is here."""
        self.close()
        _run("cp", "--sparse=always", str(image), str(self.image))
        self.mount()

    def _control(self, request: int, argument: int | bytes) -> None:
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, request, argument)
        finally:
            os.close(handle)


def made_folder(*, memory: bool = True) -> Path:
    """A folder that `sweep` knows by the process that made it; in memory, where a sync costs nothing."""
    shm = Path("/dev/shm")
    place = shm if memory and shm.is_dir() and os.access(shm, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place))


def sweep() -> None:
    """Unmounts and deletes what runs that were killed have left."""
    for place in {Path("/dev/shm"), Path(tempfile.gettempdir())}:
        for folder in place.glob(f"{PREFIX}*-*"):
            maker = folder.name.removeprefix(PREFIX).partition("-")[0]
            if maker.isdigit() and not Path("/proc", maker).exists():
                remove(folder)


def remove(folder: Path) -> None:
    """Unmounts all below a folder and deletes it."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((one for one in mounts if one.startswith(f"{folder}/")), reverse=True):
        with contextlib.suppress(OSError):
            Disk._control(_At(Path(mount)), FITHAW, 0)  # nothing else unmounts a disk that hangs
        subprocess.run(["umount", mount], check=False, capture_output=True)
    if not any(f" {folder}/" in line for line in Path("/proc/self/mounts").read_text().splitlines()):
        shutil.rmtree(folder, ignore_errors=True)


class _At(Disk):
    """A disk that somebody else has mounted."""

    def __init__(self, path: Path) -> None:
        self.path = path


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


def _insist(*words: str) -> None:
    """Again while it is busy: a killed process lets its files go a moment later, two may want one loop device."""
    for left in reversed(range(TRIES)):
        try:
            return _run(*words)
        except OSError:
            if not left:
                raise
            time.sleep(PAUSE_S)
    return None
