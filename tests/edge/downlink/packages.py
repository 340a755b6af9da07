"""Signed packages of the example plants, built once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from twinmodel.errors import ConflictError
from twinmodel.estimator import Estimator
from twinmodel.package.archive import load
from twinmodel.package.build import build
from twinmodel.package.signing import generate_key, key_id, public_pem, sign

PLANTS = Path(__file__).resolve().parents[3] / "examples" / "plants"
KEY = generate_key()
STRANGER = generate_key()
OLD, NEW, PUMP = "two-tanks", "two-tanks-1.1", "pump"


@cache
def unsigned(plant: str) -> bytes:
    return build(PLANTS / f"{plant}.yaml")


@cache
def signed(plant: str) -> bytes:
    return sign(unsigned(plant), KEY)


def package(plant: str):
    return load(signed(plant), {key_id(KEY.public_key()): KEY.public_key()})


def estimator(plant: str) -> Estimator:
    return Estimator(package(plant), tier="interpreted")


def fitting(twin: str, found) -> Estimator:
    """What the agent does: refuse what does not fit the twin."""
    if found.name != "two-tanks":
        raise ConflictError("MODEL_UNFIT", f"{found.name} has other ports than {twin}", twin=twin)
    return Estimator(found, tier="interpreted")


def trust(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "release.pem").write_bytes(public_pem(KEY.public_key()))
    return folder
