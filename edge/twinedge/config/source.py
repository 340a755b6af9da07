"""Where a configuration is read from, what names it, and profiles that need not be read again.

A reload of one tag parses one profile: the others are known by the digest of their bytes. Everything that was read,
site.yaml and each profile it reaches, makes the digest of the configuration.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinedge.config.load import Examined, LoadedSite, examine_site
from twinmodel.errors import ConfigError
from twinmodel.profile.document import parse_document, read_text
from twinmodel.profile.find import find_profile
from twinmodel.profile.load import load_profile
from twinmodel.profile.schema import FirmwareProfile

_INHERITS = re.compile(r"^inherits:[ \t]*[\"']?([a-z0-9][a-z0-9._/-]*)", re.MULTILINE)
CHAIN_MAX = 8


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration as text.

    Attributes:
        text: of site.yaml.
        path: where site.yaml lies, or would lie: what it names relatively starts there.
        overlay: folder of profiles that go before those of site.yaml, None for none.
        named: what errors call it, `path` without it.
    """

    text: str
    path: Path
    overlay: Path | None = None
    named: Path | None = None

    @staticmethod
    def of(path: Path) -> Source:
        """The file as it is now; raises ConfigError FILE_MISSING, LIMIT_EXCEEDED, YAML_INVALID."""
        return Source(read_text(path), path)


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration that was read.

    Attributes:
        source: from where.
        examined: what it says, and what is wrong with it.
        profiles: text of each profile that was read, by `vendor/device/version`.
        digest: SHA-256 over all of it, as hex.
    """

    source: Source
    examined: Examined
    profiles: Mapping[str, str]
    digest: str


class Reader:
    """Reads configurations one after the other; what did not change is not parsed again."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, bytes], FirmwareProfile] = {}

    def read(self, source: Source, before: LoadedSite | None = None) -> Reading:
        """Reads a configuration; blocks.

        Args:
            source: from where.
            before: what runs; parts that are wrong stay as they are there.

        Raises:
            ConfigError: YAML_INVALID, when site.yaml cannot even be parsed.
        """
        document = parse_document(source.text, source.path, source.named)
        used: dict[tuple[Path, bytes], FirmwareProfile] = {}
        texts: dict[str, str] = {}

        def profile(path: Path, folders: Sequence[Path]) -> FirmwareProfile:
            chain = _chain(path, folders)
            texts.update((profile_name(one), text) for one, text in chain.items())
            key = path, _digest(chain.values())
            found = self._known.get(key) or load_profile(path, folders)
            used[key] = found
            return found

        examined = examine_site(document, before=before, overlay=source.overlay, read_profile=profile)
        self._known = used
        digest = hashlib.sha256(source.text.encode())
        for name, text in sorted(texts.items()):
            digest.update(f"\0{name}\0".encode() + hashlib.sha256(text.encode()).digest())
        return Reading(source, examined, texts, digest.hexdigest())


def profile_name(path: Path) -> str:
    """`vendor/device/version` of a profile's file."""
    return "/".join(path.with_suffix("").parts[-3:])


def _chain(path: Path, folders: Sequence[Path]) -> dict[Path, str]:
    """Text of a profile and of those it inherits, as far as they are there; what is wrong is told when it is loaded."""
    texts: dict[Path, str] = {}
    here: Path | None = path
    while here is not None and here not in texts and len(texts) < CHAIN_MAX:
        try:
            texts[here] = read_text(here)
            named = _INHERITS.search(texts[here])
            here = find_profile(named[1], [*here.resolve().parents[2:3], *folders]) if named else None
        except ConfigError:
            break
    return texts


def _digest(texts: Iterable[str]) -> bytes:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.digest()
