"""Every implementation of the store contract; the suite of this folder runs over each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.plant import NOW, invite
from twincloud.registry.packages import Description
from twincloud.storage import create, open_store
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

    def __init__(self, folder: Path, template: Path) -> None:
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


IMPLEMENTATIONS: dict[str, Callable[[Path, Path], Sqlite]] = {"sqlite": Sqlite}


@pytest.fixture(scope="session")
def templates(tmp_path_factory) -> Path:
    """Folder of empty stores, one per implementation."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(params=IMPLEMENTATIONS)
def place(request, tmp_path, templates):
    """Where a store of one implementation lives; `open` opens it."""
    made = IMPLEMENTATIONS[request.param](tmp_path, templates / request.param)
    yield made
    made.close()


@pytest.fixture
def store(place):
    """An open store with one gateway invited."""
    opened = place.open()
    invite(opened)
    return opened
