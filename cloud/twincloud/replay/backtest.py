"""Back-test: what another model version would have said of a twin's past, judged by what was measured then.

    history ─▶ frames ─▶ candidate, from a fresh state ─┐
                  └────▶ the present version, likewise ─┴▶ same ticks ─▶ figures, difference, verdict, curves

The live twin is not touched: everything runs on copies in a child process. The same question about the same history
is answered from before: its digest covers packages, period and every commit that has a part in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from twincloud.operations.task import Task
from twincloud.replay.frames import LOOK_BACK_NS, Frames, Wires, frames_of, wires_of
from twincloud.storage.contract import ModelVersion, Store, TwinKey
from twincloud.storage.records_operations import Json, Question
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, InputError, MissingError
from twinmodel.package import archive, signing
from twinmodel.package.archive import ModelPackage

KIND: Final = "backtest"
CHUNK_TICKS: Final = 5_000
PERIOD_NS_MAX: Final = 400 * 86_400 * SECOND_NS
WARM_UP_NS_MAX: Final = 7 * 86_400 * SECOND_NS
_METHOD: Final = 1
"""Counts changes of how figures are made; part of the digest of a question."""
_FILTER_TICKS: Final = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """A back-test as a person asks for it; `warm_up_ns` None for as long as the model needs to settle."""

    twin: TwinKey
    model: str
    against: str
    from_ns: int
    to_ns: int
    warm_up_ns: int | None = None


def question(store: Store, asked: Asked) -> Question:
    """The work that answers a back-test.

    Raises:
        MissingError: UNKNOWN_TWIN, UNKNOWN_MODEL.
        InputError: REQUEST_INVALID for an empty or endless period.
        ConflictError: MODEL_UNFIT when the twin has nothing for an input of a model.
    """
    if not 0 < asked.to_ns - asked.from_ns <= PERIOD_NS_MAX:
        days = PERIOD_NS_MAX // (86_400 * SECOND_NS)
        raise InputError("REQUEST_INVALID", f"from, to: a period is longer than nothing and at most {days} days")
    tenant = asked.twin.tenant
    candidate = store.model(tenant, asked.model)
    present = asked.against or _present(store, asked.twin)
    against = store.model(tenant, present) if present else None
    models = [candidate] if against is None or against.digest == candidate.digest else [candidate, against]
    packages = [_package(store, tenant, model) for model in models]
    wires = [_wires(store, asked.twin, package) for package in packages]
    warm_up_ns = _warm_up_ns(packages) if asked.warm_up_ns is None else asked.warm_up_ns
    if not 0 <= warm_up_ns <= WARM_UP_NS_MAX:
        raise InputError("REQUEST_INVALID", "warm_up_s: is negative or longer than a week", field="warm_up_s")
    gateway = store.binding(asked.twin)[0]
    request: dict[str, Any] = {
        "site": asked.twin.site,
        "twin": asked.twin.twin,
        "models": [f"{model.name}@{model.version}" for model in models],
        "digests": [model.digest for model in models],
        "from_ns": asked.from_ns,
        "to_ns": asked.to_ns,
        "warm_up_ns": warm_up_ns,
    }
    # What the first tick holds is older than the period; and a twin may get other signals for its ports.
    oldest_ns = max(source.age_limit_ns or LOOK_BACK_NS for one in wires for source in one.sources)
    history = store.commits_in(gateway, asked.from_ns - warm_up_ns - oldest_ns, asked.to_ns)
    text = json.dumps([KIND, _METHOD, tenant, request, history, [repr(one) for one in wires]], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Question(KIND, f"{asked.twin.site}/{asked.twin.twin}", digest, request)


def work(task: Task) -> Json:
    """Does a back-test; for `operations.pool`."""
    store, request = task.store, task.request
    twin = TwinKey(task.operation.tenant, request["site"], request["twin"])
    trusted = dict(store.signers(twin.tenant))
    blobs = [store.artifact(twin.tenant, digest) for digest in request["digests"]]
    packages = [_load(blob, trusted) for blob in blobs]
    return dict(task.compute("twincloud.replay.judging", _messages(store, twin, packages, blobs, trusted, request)))


def _messages(
    store: Store,
    twin: TwinKey,
    packages: list[ModelPackage],
    blobs: list[bytes],
    trusted: dict[str, bytes],
    request: Json,
) -> Iterator[dict[str, Any]]:
    """What the child is told; both models go through the period side by side, so that memory does not grow with it."""
    from_ns, to_ns = request["from_ns"], request["to_ns"]
    yield {"models": blobs, "trusted": trusted, "from_ns": from_ns, "to_ns": to_ns}
    since_ns = from_ns - request["warm_up_ns"]
    runs: dict[int, Iterator[Frames]] = {
        place: frames_of(store, _wires(store, twin, package), package, since_ns, to_ns, chunk_ticks=CHUNK_TICKS)
        for place, package in enumerate(packages)
    }
    reached = dict.fromkeys(runs, since_ns)
    while runs:
        place = min(runs, key=lambda one: reached[one])
        frames = next(runs[place], None)
        if frames is None:
            del runs[place]
            continue
        reached[place] = int(frames.t_ns[-1])
        share = (min(reached.values()) - since_ns) / (to_ns - since_ns)
        yield {
            "model": place, "t": frames.t_ns.tobytes(), "u": frames.u.tobytes(), "y": frames.y.tobytes(),
            "share": 0.98 * share,
        }  # fmt: skip


def _wires(store: Store, twin: TwinKey, package: ModelPackage) -> Wires:
    gateway, binding, catalogue = store.binding(twin)
    wires = wires_of(gateway, binding, catalogue, package)
    unfed = [port.name for port in package.inputs if port.name not in wires.inputs]
    if unfed or not wires.outputs:
        what = f"no signal for its input {unfed[0]!r}" if unfed else "no measurement of any of its outputs"
        raise ConflictError(
            "MODEL_UNFIT",
            f"{package.manifest.id} cannot be tested on twin {twin.twin!r}: it has {what}",
            hint="name a model with the inputs and outputs of the twin",
        )
    return wires


def _present(store: Store, key: TwinKey) -> str:
    """The version that runs for the twin, else the one that should; "" for none that is known here."""
    model = store.twin(key).model
    for name in (model.running, model.desired):
        if name:
            try:
                store.model(key.tenant, name)
            except MissingError:
                continue
            return name
    return ""


def _package(store: Store, tenant: str, model: ModelVersion) -> ModelPackage:
    return _load(store.artifact(tenant, model.digest), dict(store.signers(tenant)))


def _load(blob: bytes, trusted: dict[str, bytes]) -> ModelPackage:
    return archive.load(blob, {key: signing.parse_public_key(pem) for key, pem in trusted.items()})


def _warm_up_ns(packages: list[ModelPackage]) -> int:
    """Long enough for every filter to settle before the period begins."""
    return min(max((p.manifest.drift.settle + _FILTER_TICKS) * p.dt_ns for p in packages), WARM_UP_NS_MAX)
