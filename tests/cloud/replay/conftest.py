"""A store in which a gateway may speak, made anew for every test out of one that was made once."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.cloud.plant import template
from tests.cloud.replay.edge import T0, S, prepare
from twincloud.storage import open_store
from twinedge.estimate import lineage
from twinmodel.clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock(T0)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A state directory with the tenant, the gateway and both packages."""
    state = tmp_path_factory.mktemp("prepared") / "state"
    shutil.copytree(template(), state)
    made = open_store(state, clock=ManualClock(T0))
    prepare(made)
    made.close()
    return state


@pytest.fixture
def open_prepared(prepared, tmp_path):
    """Opens copies of it; all are closed at the end."""
    opened = []

    def another(clock):
        state = tmp_path / f"state-{len(opened)}"
        shutil.copytree(prepared, state)
        opened.append(open_store(state, clock=clock))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


@pytest.fixture
def store(open_prepared, clock):
    return open_prepared(clock)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def often(monkeypatch):
    """Checkpoints each half minute, so that few ticks do."""
    monkeypatch.setattr(lineage, "EVERY_NS", 30 * S)
