"""Static files of the console, read once, compressed once and addressed by the hash of all of them.

The hash stands in the path (`/static/<hash>/twin.js`), so that a browser may keep a file for ever and still never mixes
two versions; modules import each other by relative path and so stay inside one version.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent / "static"
MEDIA = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".md": "text/plain; charset=utf-8",
    "": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes, the same compressed, and its media type."""

    body: bytes
    packed: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Assets:
    """All files by path relative to `static/`, and the hash over them."""

    version: str
    files: dict[str, Asset]


def load_assets(root: Path = ROOT) -> Assets:
    """Reads all files below `root`; what is not read here is never served."""
    digest = hashlib.sha256()
    files: dict[str, Asset] = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.suffix in MEDIA):
        name, body = path.relative_to(root).as_posix(), path.read_bytes()
        digest.update(name.encode() + b"\0" + hashlib.sha256(body).digest())
        files[name] = Asset(body, gzip.compress(body, 9, mtime=0), MEDIA[path.suffix])
    return Assets(digest.hexdigest()[:12], files)
