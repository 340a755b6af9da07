"""How a coordinator is made: a first one with an authority of its own, further ones beside it on the same database."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twincloud.identity.ca import Authority
from twincloud.identity.files import make_directory
from twincloud.identity.policy import ALL_TENANTS
from twincloud.identity.shared_ledger import ledger_of
from twincloud.identity.tokens import issue
from twincloud.storage import create, open_store
from twincloud.storage.directory import create_shared
from twincloud.storage.shared import upgrade
from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, MissingError

AUTHORITY = ("root.pem", "issuing.pem", "issuing.key")
"""What a further coordinator needs of the first one's `identity` folder."""


@dataclass(frozen=True, slots=True)
class Made:
    """A coordinator that was just made; `token` is "" where the database had its administrator already."""

    fingerprint: str
    token: str


def make(
    state: Path, clock: Clock, *, tenant: str, names: Sequence[str], database: str = "", authority: Path | None = None
) -> Made:
    """Makes state directory, authority and store.

    Args:
        state: the directory to make.
        clock: gives the times of certificates and tokens.
        tenant: the first tenant.
        names: public names of this host.
        database: URI of the PostgreSQL that coordinators share; "" for a file in the directory.
        authority: the `identity` folder of the first coordinator on this database, or a copy of it.

    Raises:
        ConflictError: ALREADY_EXISTS; NOT_INITIALISED when the database has coordinators and no authority was given.
        MissingError: FILE_MISSING when the authority's folder lacks a file.
        StorageError: the disk or the database refuses.
    """
    if (state / "identity").exists():
        raise ConflictError("ALREADY_EXISTS", f"{state} holds a coordinator already", hint="choose another --state")
    first = True
    if database:
        first = upgrade(database)
        if not first and authority is None:
            raise ConflictError(
                "NOT_INITIALISED",
                "the database has a coordinator already, and all of them need one authority",
                hint="copy the folder `identity` of its state directory here and name it by --authority",
            )
        create_shared(state)
    else:
        create(state)
    with contextlib.closing(open_store(state, clock=clock, database=database)) as store:
        store.create_tenant(tenant, clock.wall_ns())
    if authority is not None:
        _adopt(authority, state / "identity")
        ca = Authority.load(state, clock)
    else:
        ca = Authority.create(state, clock)
    ca.server_pair(names)
    if not first:
        return Made(ca.fingerprint, "")
    with ledger_of(state, database) as ledger:
        return Made(ca.fingerprint, issue(ledger, clock, name="admin", tenant=ALL_TENANTS, role="admin"))


def _adopt(source: Path, target: Path) -> None:
    missing = [name for name in AUTHORITY if not (source / name).is_file()]
    if missing:
        raise MissingError("FILE_MISSING", f"{source} has no {missing[0]}", hint="copy the whole folder `identity`")
    make_directory(target)
    for name in AUTHORITY:
        copy = target / name
        shutil.copyfile(source / name, copy)
        copy.chmod(0o600)
