"""The agent as a service of systemd: its unit file for this installation, its user, its folders.

The template is the unit that ships in deploy/systemd; what differs on this machine are program, configuration, state
and user. Everything is made below `root`, so that an image can be prepared on another machine.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError

UNIT = "twinedge.service"
UNIT_FOLDER = Path("etc/systemd/system")
USER = "twinedge"
RUN_TIMEOUT_S = 60
_USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_SERIAL = "".join(
    f"{line}\n"
    for line in (
        "# Serial lines and nothing else; on Debian they belong to the group dialout.",
        "DevicePolicy=closed",
        *(f"DeviceAllow=char-{kind} rw" for kind in ("ttyS", "ttyUSB", "ttyACM", "ttyAMA")),
        "SupplementaryGroups=dialout",
    )
)
_SERIAL_ADDRESS = re.compile(r"^[^#\n]*\bmodbus:\s*[\"']?(rtu:|/dev/)", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")

Run = Callable[[Sequence[str]], None]
"""Runs a command of the system; raises ConflictError when it fails."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a unit file is to say.

    Attributes:
        program: the `twinedge` of this installation.
        config, state: as `run` takes them.
        user: who runs it.
        serial: whether it opens serial lines.
    """

    program: Path
    config: Path
    state: Path
    user: str = USER
    serial: bool = False


def this_program() -> Path:
    """The `twinedge` beside the interpreter that runs."""
    program = Path(sys.executable).parent / "twinedge"
    if not program.exists():
        raise MissingError("FILE_MISSING", f"no {program}", hint="call the twinedge of the installation itself")
    return program


def has_serial(config: Path) -> bool:
    """Whether a site.yaml names a serial line, which the unit has to let through; it need not be valid yet."""
    try:
        return _SERIAL_ADDRESS.search(config.read_text(errors="replace")) is not None
    except OSError:
        return False


def unit_text(service: Service) -> str:
    """The unit file.

    Raises:
        InputError: VALUE_INVALID for a path or a user that systemd would read otherwise.
    """
    for name in ("program", "config", "state"):
        path = getattr(service, name)
        if not path.is_absolute() or not _PLAIN.fullmatch(str(path)):
            hint = "an absolute path of letters, digits and / . _ + -"
            raise InputError("VALUE_INVALID", f"{name}: {str(path)!r} cannot stand in a unit file", hint=hint)
    if (
        service.state in service.config.parents
        or service.state in service.program.parents
        or len(service.state.parts) < 3
    ):
        hint = "a folder of its own, such as /var/lib/twinedge: all of it is given to the user"
        raise InputError("VALUE_INVALID", f"state: {service.state} holds more than the state of an agent", hint=hint)
    if not _USER_NAME.fullmatch(service.user):
        raise InputError("VALUE_INVALID", f"user: {service.user!r} is no name of a user")
    text = _template()
    command = f"{service.program} run --config {service.config} --state {service.state}"
    text = _set(text, "ExecStart", command)
    text = _set(text, "User", service.user)
    text = _set(text, "Group", service.user)
    if service.state != Path("/var/lib/twinedge"):
        # StateDirectory= makes folders below /var/lib alone.
        text = _set(text, "StateDirectoryMode", "0700").replace(
            "StateDirectory=twinedge\n", f"ReadWritePaths={service.state}\n"
        )
        text = text.replace("StateDirectoryMode=0700\n", "")
    if service.serial:
        text = text.replace("PrivateDevices=yes\n", _SERIAL)
    places = (service.program, service.config, service.state)
    if any(place.is_relative_to(home) for place in places for home in ("/home", "/root")):
        text = text.replace("ProtectHome=yes\n", "ProtectHome=read-only\n")
    return text


def install(service: Service, *, root: Path, run: Run, start: bool) -> list[str]:
    """Makes user, folders and unit, and has the service started with the machine.

    Args:
        service: what the unit says.
        root: `/`, or the root of an image.
        run: runs commands of the system.
        start: whether to start it now, where systemd runs.

    Returns:
        What was done, a line each.

    Raises:
        DeniedError: not root.
        ConflictError: a command of the system failed.
    """
    text = unit_text(service)
    here = root == Path("/")
    if here and os.geteuid() != 0:
        raise DeniedError("ROOT_NEEDED", "only root installs a service")
    _refuse_foreign(root / service.state.relative_to("/"))
    done = []
    if here and not _exists(service.user):
        run(["useradd", *_user(service)])
        done.append(f"user {service.user}")
    path = root / UNIT_FOLDER / UNIT
    changed = not path.exists() or path.read_text() != text
    if changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(text)
        partial.chmod(0o644)
        partial.replace(path)
    done.append(f"{path} {'written' if changed else 'is as it should be'}")
    done += _folders(service, root, here=here)
    if not here or not systemd_runs():
        if not here:
            done.append(f"on that machine, once: `{shlex.join(['useradd', *_user(service)])}`")
            done.append(f"then: `chown -R {service.user}: {service.state}`")
        done.append("systemd does not run here: enable it there with `systemctl enable --now twinedge`")
        return done
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "enable", *(["--now"] if start else []), UNIT])
    done.append("enabled and started" if start else "enabled")
    if start and changed:
        run(["systemctl", "restart", UNIT])
    return done


def uninstall(*, root: Path, run: Run) -> list[str]:
    """Stops the service and takes its unit away; configuration, identity and spool stay."""
    path = root / UNIT_FOLDER / UNIT
    if not path.exists():
        raise MissingError("FILE_MISSING", f"no {path}", hint="nothing is installed here")
    if root == Path("/") and os.geteuid() != 0:
        raise DeniedError("ROOT_NEEDED", "only root takes a service away")
    if root == Path("/") and systemd_runs():
        run(["systemctl", "disable", "--now", UNIT])
    path.unlink()
    if root == Path("/") and systemd_runs():
        run(["systemctl", "daemon-reload"])
    return [f"{path} removed; configuration and state stay"]


def systemd_runs() -> bool:
    """Whether systemd is the first process of this machine."""
    return Path("/run/systemd/system").is_dir()


def run_command(command: Sequence[str]) -> None:
    """Runs a command of the system; see `Run`."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise MissingError("FILE_MISSING", f"{command[0]} is not on this machine")
    ended = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)  # noqa: S603
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip()
        raise ConflictError("SERVICE_REFUSED", f"`{' '.join(command)}` ended with {ended.returncode}: {said}")


def _refuse_foreign(state: Path) -> None:
    """Raises ConflictError ALREADY_EXISTS for a folder of somebody else: it would be given away with all in it."""
    if not state.is_dir():
        return
    known = any((state / name).exists() for name in ("identity", "spool.db", "opcua", "boots"))
    if not known and any(state.iterdir()):
        hint = "name a folder of its own, such as /var/lib/twinedge"
        raise ConflictError("ALREADY_EXISTS", f"{state} holds something else than the state of an agent", hint=hint)


def _folders(service: Service, root: Path, *, here: bool) -> list[str]:
    """State for the user alone; systemd makes the one below /var/lib itself."""
    done = []
    config = root / service.config.parent.relative_to("/")
    if not config.is_dir():
        config.mkdir(parents=True, mode=0o755)
        done.append(f"{config} made: write {service.config.name} there")
    state = root / service.state.relative_to("/")
    if not state.is_dir():
        state.mkdir(parents=True, mode=0o700)
        done.append(f"{state} made")
    if here:
        owner = pwd.getpwnam(service.user)
        for path in (state, *state.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        done.append(f"{state} belongs to {service.user}")
    return done


def _user(service: Service) -> list[str]:
    """What `useradd` is told to make the user of the service."""
    return [
        "--system",
        "--no-create-home",
        "--shell",
        "/usr/sbin/nologin",
        "--home-dir",
        str(service.state),
        service.user,
    ]


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _set(text: str, key: str, value: str) -> str:
    found, count = re.subn(rf"^{key}=.*$", lambda _: f"{key}={value}", text, flags=re.MULTILINE)
    if count != 1:
        raise InputError("INTERNAL", f"the unit file has {count} lines {key}=")
    return found


def _template() -> str:
    """The unit that ships: beside the installed program, or in the checkout this is run from."""
    places = [Path(sys.prefix) / "share/hybridtwin/systemd" / UNIT]
    places += [folder / "deploy/systemd" / UNIT for folder in Path(__file__).resolve().parents]
    for path in places:
        if path.is_file():
            return path.read_text()
    raise MissingError("FILE_MISSING", f"no {UNIT} in {places[0].parent}", hint="install the wheel again")
