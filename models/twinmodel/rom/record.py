"""A recorded run: the frames a filter saw and the hashes of its states, to be replayed bit for bit anywhere.

    magic | length of the header (4) | header, JSON | first checkpoint | t_ns | u | y | sha256 of all before

The header names the model by its id and holds a state hash every `EVERY` ticks, so that a replay that differs says
where. Nothing is believed before the seal is right.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NoReturn

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinmodel.errors import ConfigError, ConflictError
from twinmodel.estimator import Estimator
from twinmodel.importers.dataset import Dataset
from twinmodel.package.manifest import Hex

MAGIC: Final = b"TWINRUN1"
EVERY: Final = 100
FILE_MAX: Final = 512 << 20
HEADER_MAX: Final = 64 << 20
_LENGTH: Final = struct.Struct("<8sI")


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(max_length=200)]
    model_id: Hex
    ticks: Annotated[int, Field(ge=1, le=1 << 25)]
    inputs: Annotated[int, Field(ge=0, le=1 << 10)]
    outputs: Annotated[int, Field(ge=1, le=1 << 10)]
    checkpoint: Annotated[int, Field(ge=1, le=1 << 20)]
    hashes: list[Hex]


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of a replay.

    Attributes:
        ticks: ticks run again.
        state_hash: hex hash of the last state.
        differs_at_ns: time of the first hash that differs, None when every bit is the same.
    """

    ticks: int
    state_hash: str
    differs_at_ns: int | None


class Recorder:
    """Collects hashes while a run goes on; `tick` after each tick, `write` at its end.

    Args:
        estimator: before its first tick.
        dataset: what it is going to see.
    """

    def __init__(self, estimator: Estimator, dataset: Dataset) -> None:
        self._estimator = estimator
        self._dataset = dataset
        self._begin = estimator.checkpoint()
        self._hashes: list[str] = []

    def tick(self, k: int) -> None:
        """Notes the state after tick number `k`, where it is one that is kept."""
        if _kept(k, len(self._dataset.t_ns)):
            self._hashes.append(self._estimator.state_hash().hex())

    def content(self) -> bytes:
        """The bytes of the file."""
        data, package = self._dataset, self._estimator.package
        header = _Header(
            model=package.manifest.id,
            model_id=package.model_id,
            ticks=len(data.t_ns),
            inputs=data.u.shape[1],
            outputs=data.y.shape[1],
            checkpoint=len(self._begin),
            hashes=self._hashes,
        )
        text = json.dumps(header.model_dump(), sort_keys=True, separators=(",", ":")).encode()
        arrays = (data.t_ns.astype("<i8"), data.u.astype("<f8"), data.y.astype("<f8"))
        body = _LENGTH.pack(MAGIC, len(text)) + text + self._begin + b"".join(a.tobytes() for a in arrays)
        return body + hashlib.sha256(body).digest()


def replay(path: Path, estimator: Estimator) -> Replay:
    """Runs a recorded run again and compares the state.

    Args:
        path: file that a `Recorder` wrote.
        estimator: of the same package, on any tier; it is left after the last tick.

    Raises:
        ConfigError: FILE_MISSING, or VALUE_INVALID when the file is damaged.
        ConflictError: MODEL_UNFIT when the run is of another model.
        StorageError: STATE_INVALID when its first state is not one of this model.
    """
    header, begin, data = _read(path)
    if header.model_id != estimator.package.model_id:
        found = f"the run is of {header.model} ({header.model_id[:12]}), not of {estimator.package.manifest.id}"
        hint = "give the package the run was recorded with"
        raise ConflictError("MODEL_UNFIT", f"{path}: {found}", hint=hint)
    t_ns, u, y = data
    if (u.shape[1], y.shape[1]) != (len(estimator.inputs), len(estimator.outputs)):
        _refuse(path, "the header names other numbers of inputs and outputs than the model has")
    estimator.restore(begin)
    hashes = iter(header.hashes)
    for k, tick in enumerate(t_ns.tolist()):
        estimator.step(tick, u[k], y[k])
        if _kept(k, len(t_ns)) and next(hashes) != estimator.state_hash().hex():
            return Replay(k + 1, estimator.state_hash().hex(), tick)
    return Replay(len(t_ns), estimator.state_hash().hex(), None)


def _kept(k: int, ticks: int) -> bool:
    return k % EVERY == EVERY - 1 or k == ticks - 1


def _read(path: Path) -> tuple[_Header, bytes, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ConfigError("FILE_MISSING", f"cannot read it: {error.strerror}", path=str(path)) from error
    body, seal = raw[:-32], raw[-32:]
    if len(raw) > FILE_MAX or len(body) < _LENGTH.size or not body.startswith(MAGIC):
        _refuse(path, "no recorded run")
    if hashlib.sha256(body).digest() != seal:
        _refuse(path, "the recorded run is cut or altered")
    length = int(_LENGTH.unpack_from(body)[1])
    if length > min(HEADER_MAX, len(body)):
        _refuse(path, "the header is longer than the file")
    first = _LENGTH.size + length
    try:
        header = _Header.model_validate_json(body[_LENGTH.size : first])
    except ValidationError as error:
        raise ConfigError("VALUE_INVALID", "the header of the run cannot be read", path=str(path)) from error
    ticks, m, p = header.ticks, header.inputs, header.outputs
    rest = len(body) - first - header.checkpoint
    wanted = ticks // EVERY + (ticks % EVERY > 0)
    if rest != 8 * ticks * (1 + m + p) or len(header.hashes) != wanted:
        _refuse(path, "the header does not fit the file")
    at = first + header.checkpoint
    t_ns = np.frombuffer(body, "<i8", ticks, at)
    u = np.frombuffer(body, "<f8", ticks * m, at + 8 * ticks).reshape(ticks, m)
    y = np.frombuffer(body, "<f8", ticks * p, at + 8 * ticks * (1 + m)).reshape(ticks, p)
    return header, body[first:at], (t_ns, u, y)


def _refuse(path: Path, message: str) -> NoReturn:
    raise ConfigError("VALUE_INVALID", message, path=str(path))
