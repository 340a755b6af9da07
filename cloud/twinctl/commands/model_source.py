"""Where the models and files of `twinctl model` come from: packages, YAML files, the coordinator; and how they go."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinctl.options import client_of, options_of
from twinctl.paths import model_path
from twinctl.render import size
from twinmodel.errors import ConfigError, ConflictError, InputError, PackageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from twinmodel.package.archive import ModelPackage

PACKAGE_BYTES_MAX = 64 << 20
FILE = click.Path(dir_okay=False, path_type=Path)
_YAML = {".yaml", ".yml"}


def read_file(path: Path) -> bytes:
    """A file of bounded size."""
    try:
        with path.open("rb") as file:
            blob = file.read(PACKAGE_BYTES_MAX + 1)
    except OSError as cause:
        raise ConfigError("FILE_MISSING", f"cannot read: {cause.strerror}", path=str(path)) from cause
    if len(blob) > PACKAGE_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{path} is larger than {size(PACKAGE_BYTES_MAX)}")
    return blob


def write_file(ctx: click.Context, path: Path, blob: bytes) -> None:
    """Writes a file in one step; one with another content only with `--yes`."""
    if path.exists() and path.read_bytes() != blob and not options_of(ctx).yes:
        raise ConflictError("ALREADY_EXISTS", f"{path} exists with another content", hint="use another name, or --yes")
    replace_file(path, blob)


def replace_file(path: Path, blob: bytes) -> None:
    """Writes a file in one step: a cut leaves the old one."""
    fresh = path.with_name(f".{path.name}.part")
    try:
        fresh.write_bytes(blob)
        fresh.replace(path)
    except OSError as cause:
        raise ConfigError("FILE_MISSING", f"cannot write: {cause.strerror}", path=str(path)) from cause


def package_of(ctx: click.Context, model: str | Path) -> bytes:
    """The bytes of MODEL: a package file, a model file (YAML, built here), or NAME@VERSION of the coordinator."""
    path = Path(model)
    if path.suffix.lower() in _YAML:
        from twinmodel.package.build import build  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay

        return build(path)
    if "@" in str(model) and not path.exists():
        client = client_of(ctx)
        digest = client.get(model_path(str(model)))["digest"]
        return client.download(f"/artifacts/{digest}")
    return read_file(path)


@contextmanager
def named(model: str | Path) -> Iterator[None]:
    """Puts before a refusal which of the packages it is about."""
    try:
        yield
    except PackageError as refusal:
        raise PackageError(refusal.reason, f"{model}: {refusal.message}") from refusal


def opened(model: str | Path, blob: bytes) -> ModelPackage:
    """The package of MODEL, checked completely but for its signature; a refusal names MODEL."""
    from twinmodel.package.archive import open_at_desk  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay

    with named(model):
        return open_at_desk(blob)


def outside_of(sources: Sequence[Path | None], targets: Sequence[Path | None]) -> None:
    """Refuses to write results over what they come from."""
    taken = {path.resolve() for path in sources if path is not None}
    for target in targets:
        if target is not None and target.resolve() in taken:
            raise ConflictError("ALREADY_EXISTS", f"{target} is what is read; it is not written over")


def keys_of(paths: tuple[Path, ...]) -> dict[str, Ed25519PublicKey]:
    """Trusted keys by id, of files that `model keygen` made."""
    from twinmodel.package import signing  # noqa: PLC0415 - `cryptography` takes 60 ms that `--help` does not pay

    keys = [signing.load_public_key(path) for path in paths]
    return {signing.key_id(key): key for key in keys}


def mapping_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """PORT -> COLUMN of `--map PORT=COLUMN`."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        port, equals, column = pair.partition("=")
        if not equals or not port or not column or port in mapping:
            raise InputError("REQUEST_INVALID", f"--map {pair}: write PORT=COLUMN, once for each port")
        mapping[port] = column
    return mapping


def logs_to_stderr() -> None:
    """Lets what the model runtime logs go to stderr: stdout is data."""
    import structlog  # noqa: PLC0415 - 40 ms that `--help` does not pay

    if not structlog.is_configured():
        structlog.configure(
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr), cache_logger_on_first_use=False
        )
