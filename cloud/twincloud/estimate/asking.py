"""How a person has a twin run in the cloud: checked whole before anything is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twincloud.estimate.publishing import GATEWAY
from twincloud.estimate.wiring import check, load_package
from twincloud.storage.contract import Store, TwinKey
from twincloud.storage.records_cloud import CloudTwin, Feed, Wiring
from twinmodel.errors import ConflictError, MissingError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for; `since_ns` is the time of the first tick, at the earliest."""

    key: TwinKey
    model: str
    inputs: Mapping[str, Feed]
    outputs: Mapping[str, Feed]
    wait_ns: int
    since_ns: int
    by: str


def run_in_cloud(store: Store, wanted: Wanted, now_ns: int) -> CloudTwin:
    """Checks and keeps it; the background task does the rest.

    Raises:
        ConflictError: ALREADY_EXISTS for a twin that a gateway serves, MODEL_UNFIT, TWIN_CYCLE.
        InputError: UNIT_CLASH, LIMIT_EXCEEDED.
        MissingError: UNKNOWN_MODEL, UNKNOWN_TWIN, NOT_FOUND.
    """
    key = wanted.key
    _refuse_served(store, key)
    model = store.model(key.tenant, wanted.model)
    wiring = Wiring(wanted.inputs, wanted.outputs)
    check(store, key, wiring, load_package(store, key.tenant, model.digest))
    asked = CloudTwin(
        key=key, version=0, model=f"{model.name}@{model.version}", digest=model.digest, wiring=wiring,
        wait_ns=wanted.wait_ns, since_ns=wanted.since_ns, created_by=wanted.by, created_ns=now_ns, tick_ns=0, state=b"",
        through=0, reached={}, ticks=0, revised=0, too_late=0, updated_ns=now_ns, reason="", detail="",
    )  # fmt: skip
    return store.put_cloud_twin(asked, now_ns)


def _refuse_served(store: Store, key: TwinKey) -> None:
    try:
        gateway = store.binding(key)[0].gateway
    except MissingError:
        return
    if gateway != GATEWAY and not _retired(store, key):
        message = f"gateway {gateway!r} serves twin {key.twin!r}"
        raise ConflictError("ALREADY_EXISTS", message, hint="give the twin in the cloud a name of its own")


def _retired(store: Store, key: TwinKey) -> bool:
    return all(twin.key != key for twin in store.twins(key.tenant, site=key.site, limit=1_000_000).items)
