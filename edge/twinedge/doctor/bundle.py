"""A file of facts for whoever helps from afar: what the doctor found and what the gateway says, nothing secret.

No key, no token, no password is ever read for it; what may stand in texts is blanked: users, addresses of people,
long random strings. Samples are not in it either. Names of hosts and devices stay: without them nobody could help.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from twinedge.config.load import load_site
from twinedge.doctor.finding import Finding, Place
from twinedge.health.client import running_metrics, running_status
from twinedge.install.unit import UNIT
from twinedge.spool.inspect import status as spool_status
from twinmodel.errors import StorageError, TwinError

FILE_BYTES_MAX = 2 << 20
FILES_MAX = 200
LOG_LINES = 2000
LOG_TIMEOUT_S = 20
HISTORY_MAX = 5
BLANK = "[blanked]"
_SECRET_KEYS = ("password", "passwd", "passphrase", "pwd", "token", "secret", "user", "username", "credential")
_KEY = re.compile(
    rf"(?i)\b([a-z0-9_-]*(?:{'|'.join(_SECRET_KEYS)})[a-z0-9_-]*)(\"?\s*[:=]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,}}\n]+)"
)
_BEARER = re.compile(r"(?i)\b(authorization:\s*\w+|bearer)\s+\S{6,}")
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_RANDOM = re.compile(
    r"(?<![\w/.-])(?=[A-Za-z0-9+/_-]*\d)(?=[A-Za-z0-9+/_-]*[A-Za-z])[A-Za-z0-9+/_-]{40,}={0,2}(?![\w/.-])"
)
_HEX = re.compile(r"[0-9a-fA-F]+")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")


def write_bundle(place: Place, found: Sequence[Finding], to: Path) -> list[str]:
    """Writes a `.tar.gz`; the names of the files in it.

    Raises:
        StorageError: it cannot be written; nothing is left behind.
    """
    files = {name: blanked(text)[:FILE_BYTES_MAX] for name, text in _parts(place, found)}
    sums = "".join(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in files.items())
    files["SHA256SUMS"] = sums
    partial = to.with_name(f".{to.name}.part")
    made_s = place.clock.wall_ns() // 10**9
    try:
        with tarfile.open(partial, "w:gz") as bundle:
            for name, text in files.items():
                content = text.encode()
                info = tarfile.TarInfo(f"diagnostics/{name}")
                info.size, info.mtime, info.mode = len(content), made_s, 0o600
                bundle.addfile(info, io.BytesIO(content))
        partial.chmod(0o600)
        partial.replace(to)
    except OSError as refused:
        hint = "name a file in a folder that this user may write and that has room, such as /tmp"
        raise StorageError("STORE_READ_ONLY", f"{to} cannot be written: {refused.strerror}", hint=hint) from refused
    finally:
        partial.unlink(missing_ok=True)
    return list(files)


def blanked(text: str) -> str:
    """A text without what could be a secret or a person; digests, which are all hexadecimal, stay."""
    text = _PEM.sub(BLANK, text)
    text = _USERINFO.sub(f"{BLANK}@", text)
    text = _BEARER.sub(lambda found: f"{found[1]} {BLANK}", text)
    text = _KEY.sub(lambda found: found[1] + found[2] + BLANK, text)
    text = _MAIL.sub(BLANK, text)
    return _RANDOM.sub(lambda found: found[0] if _HEX.fullmatch(found[0]) else BLANK, text)


def _parts(place: Place, found: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    yield "doctor.json", _json([one.document() for one in found])
    yield "machine.json", _json(_machine())
    yield "packages.txt", "\n".join(sorted(f"{d.name}=={d.version}" for d in importlib.metadata.distributions())) + "\n"
    yield "files.txt", _listing(place.state)
    for name, ask in (("status.json", running_status), ("metrics.txt", running_metrics)):
        try:
            answer = ask(place.config, place.state)
            yield name, answer if isinstance(answer, str) else _json(answer)
        except TwinError as silent:
            yield name, f"{silent}\n"
    try:
        yield "spool.json", _json(spool_status(place.state, place.clock.wall_ns()))
    except TwinError as silent:
        yield "spool.json", f"{silent}\n"
    yield from _configuration(place)
    yield from _certificates(place.state)
    yield "journal.txt", _journal()


def _configuration(place: Place) -> Iterator[tuple[str, str]]:
    """site.yaml, the profiles it names, and what was in force before."""
    yield "config/site.yaml", _read(place.config)
    try:
        loaded = load_site(place.config)
    except TwinError:
        loaded = None
    seen: set[str] = set()
    for profile in loaded.profiles.values() if loaded is not None else ():
        if profile.name not in seen and len(seen) < FILES_MAX:
            seen.add(profile.name)
            yield f"config/profiles/{profile.name}.json", profile.model_dump_json(by_alias=True, exclude_defaults=True)
    folder = place.state / "config"
    kept = sorted(path for path in folder.glob("*") if path.name.isdigit())[-HISTORY_MAX:]
    for path in [folder / "in_force.json", *(one / name for one in kept for name in ("record.json", "site.yaml"))]:
        if path.is_file():
            yield f"config/history/{path.relative_to(folder)}", _read(path)


def _certificates(state: Path) -> Iterator[tuple[str, str]]:
    """Certificates as facts; keys are not opened."""
    rows = []
    for path in [*(state / "identity").rglob("*.pem"), *(state / "opcua").rglob("*.der")][:FILES_MAX]:
        if "key" in path.name:
            continue
        try:
            raw = path.read_bytes()
            load = x509.load_der_x509_certificate if path.suffix == ".der" else x509.load_pem_x509_certificate
            certificate = load(raw)
        except (OSError, ValueError):
            continue
        rows.append(
            {
                "file": str(path.relative_to(state)),
                "subject": certificate.subject.rfc4514_string(),
                "issuer": certificate.issuer.rfc4514_string(),
                "thumbprint_sha1": certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - what servers show
                "from": certificate.not_valid_before_utc.isoformat(),
                "until": certificate.not_valid_after_utc.isoformat(),
            }
        )
    yield "certificates.json", _json(rows)


def _machine() -> Mapping[str, Any]:
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": load,
        "uptime_s": float(_read(Path("/proc/uptime")).split()[0] or 0),
        "memory": _read(Path("/proc/meminfo")).splitlines()[:5],
        "mounts": [line for line in _read(Path("/proc/mounts")).splitlines() if line.startswith("/dev/")],
    }


def _journal() -> str:
    """The newest lines of the service's log, where there is one."""
    program = shutil.which("journalctl")
    if program is None:
        return "no journalctl on this machine\n"
    command = [program, "--unit", UNIT, "--no-pager", "--lines", str(LOG_LINES), "--output", "short-iso"]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=LOG_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as refused:
        return f"journalctl: {refused}\n"
    return (ended.stdout or ended.stderr).decode(errors="replace")[-FILE_BYTES_MAX:]


def _listing(folder: Path) -> str:
    rows = []
    for path in sorted(folder.rglob("*"))[:FILES_MAX]:
        try:
            facts = path.lstat()
        except OSError:
            continue  # the agent has taken it away meanwhile
        rows.append(f"{facts.st_mode & 0o7777:04o} {facts.st_uid:>6} {facts.st_size:>12} {path.relative_to(folder)}")
    return "\n".join(rows) + "\n"


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode(errors="replace")
    except OSError as refused:
        return f"{path}: {refused.strerror}\n"


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"
