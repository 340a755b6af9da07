"""Every implementation of the store contract; the suite of this folder runs over each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.plant import NOW, invite
from tests.services import Cluster
from twincloud.registry.packages import Description
from twincloud.storage import create, open_store
from twincloud.storage.directory import create_shared
from twincloud.storage.shared import upgrade
from twinmodel.clock import ManualClock
from twinmodel.errors import PackageError


def describe(blob, trusted) -> Description:
    """Stands for the verification of packages: `name version signer inputs outputs`, `a=1,b=2` each."""
    try:
        name, version, signer, inputs, outputs = blob.decode().split()
    except ValueError:
        raise PackageError("PACKAGE_INVALID", "not five words") from None
    if signer not in trusted:
        raise PackageError("SIGNER_UNKNOWN", f"key {signer} is not trusted")
    ports = [dict(pair.split("=") for pair in text.split(",")) for text in (inputs, outputs)]
    return Description(name, version, "id-" + name, signer, *ports)


class Sqlite:
    """The embedded store."""

    url = ""

    def __init__(self, folder: Path, template: Path, _cluster: object) -> None:
        self.folder = folder / "state"
        self.clock = ManualClock(NOW)
        self.stores = []
        # Made once and copied: the migrations take longer than most tests.
        if not template.exists():
            create(template)
        shutil.copytree(template, self.folder)

    def open(self, **options):
        store = open_store(self.folder, clock=self.clock, **({"verify": describe} | options))
        self.stores.append(store)
        return store

    def close(self) -> None:
        for store in self.stores:
            store.close()


class Postgres:
    """A store over a PostgreSQL that others may share."""

    def __init__(self, folder: Path, template: Path, cluster: Cluster) -> None:
        self.folder = folder / "state"
        self.clock = ManualClock(NOW)
        self.stores = []
        self._cluster = cluster
        # Made once and copied: the migrations take longer than most tests.
        if not template.exists():
            name = cluster.database()
            upgrade(cluster.url(name))
            template.write_text(name)
        self._template = template.read_text()
        self._name = cluster.borrow(self._template)
        self.url = cluster.url(self._name)
        create_shared(self.folder)

    @classmethod
    def over(cls, folder: Path, url: str) -> Postgres:
        """A place on a database that is there, of a server of its own."""
        place = cls.__new__(cls)
        place.folder, place.clock, place.stores = folder / "state", ManualClock(NOW), []
        place.url, place._name = url, ""
        upgrade(url)
        create_shared(place.folder)
        return place

    def open(self, folder: Path | None = None, **options):
        store = open_store(
            folder or self.folder, clock=self.clock, database=self.url, **({"verify": describe} | options)
        )
        self.stores.append(store)
        return store

    def close(self) -> None:
        for store in self.stores:
            store.close()
        if self._name:
            self._cluster.give_back(self._name, self._template)


IMPLEMENTATIONS: dict[str, Callable[[Path, Path, Any], Any]] = {"sqlite": Sqlite, "postgresql": Postgres}
_PARAMS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))]


@pytest.fixture(scope="session")
def templates(tmp_path_factory) -> Path:
    """Folder of empty stores, one per implementation."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(params=_PARAMS)
def place(request, tmp_path, templates):
    """Where a store of one implementation lives; `open` opens it."""
    cluster = request.getfixturevalue("postgres_cluster") if request.param == "postgresql" else None
    made = IMPLEMENTATIONS[request.param](tmp_path, templates / request.param, cluster)
    yield made
    made.close()


@pytest.fixture
def store(place):
    """An open store with one gateway invited."""
    opened = place.open()
    invite(opened)
    return opened
