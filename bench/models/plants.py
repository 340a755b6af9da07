"""What is measured: a linear model of 4 states, a pump with a tank, and a network of 2 layers of 32."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from bench.models.turns import F64
from twinmodel.equations.builder import Model
from twinmodel.kernel.arena import LANES, Plan, Step, plan_linear
from twinmodel.kernel.bank import Bank
from twinmodel.kernel.parity import canonical
from twinmodel.package import tensors
from twinmodel.package.archive import ModelPackage, load
from twinmodel.package.build import build, build_document
from twinmodel.package.signing import generate_key, key_id, sign

FOLDER = Path(__file__).parent
STATES, INPUTS, OUTPUTS = 4, 2, 2
NETWORK_INPUTS, NETWORK_WIDTH, NETWORK_OUTPUTS = 4, 32, 2
TENTH_MISSING = 0.1
_DRIFT = np.array([0.05, 2.0, 0.5, 16.0, 4.0, 0.5, 0.002, 0.5, 20.0, 1.5, 2.0])
Start = tuple[F64, F64, F64]


def linear_tensors(g: np.random.Generator) -> dict[str, F64]:
    """Matrices of a stable linear model."""
    n, m, p = STATES, INPUTS, OUTPUTS
    return {
        "A": 0.9 * np.eye(n) + 0.02 * g.normal(size=(n, n)), "B": g.normal(size=(n, m)), "a": np.zeros(n),
        "C": g.normal(size=(p, n)), "D": 0.1 * g.normal(size=(p, m)), "c": np.zeros(p),
        "Q": 0.01 * np.eye(n), "Q_held": 0.01 * np.eye(n), "R": g.uniform(0.5, 1.0, p),
        "low": np.full(n, -1e6), "high": np.full(n, 1e6),
    }  # fmt: skip


def linear_plans(count: int) -> list[Plan]:
    """Linear models of one signature, each with its own matrices."""
    g = np.random.default_rng(1)
    return [plan_linear(linear_tensors(g), _DRIFT) for _ in range(count)]


def linear_start() -> Start:
    """Where every linear filter begins."""
    return np.zeros(STATES), np.eye(STATES), np.zeros(INPUTS)


def supply() -> tuple[bytes, Ed25519PublicKey, ModelPackage, Plan]:
    """The pump with a tank: signed package as bytes, its signer, verified, and as the kernels read it."""
    return _packed(build(FOLDER / "plant.yaml"))


def network(layers: Sequence[tuple[F64, F64]]) -> Plan:
    """A surrogate of two hidden layers of tanh."""
    model = Model("surrogate", version="1.0.0", family="mlp", dt="1s")
    for k in range(NETWORK_INPUTS):
        model.input(f"u{k}", min=-1, max=1, nominal=0)
    for k in range(NETWORK_OUTPUTS):
        model.output(f"y{k}", unit="", min=-10, max=10)
    parts = [{"weights": weights.tolist(), "bias": bias.tolist()} for weights, bias in layers]
    model.part("network", inputs=[f"u{k}" for k in range(NETWORK_INPUTS)], layers=parts, activation="tanh")
    model.noise(measurement={f"y{k}": 0.01 for k in range(NETWORK_OUTPUTS)})
    return _packed(build_document(model.document()))[3]


def layers() -> list[tuple[F64, F64]]:
    """Weights and biases of the network."""
    g = np.random.default_rng(2)
    sizes = (NETWORK_INPUTS, NETWORK_WIDTH, NETWORK_WIDTH, NETWORK_OUTPUTS)
    return [(g.normal(size=(b, a)) / np.sqrt(a), 0.1 * g.normal(size=b)) for a, b in pairwise(sizes)]


def feed(bank: Bank, seed: int, centre: F64, width: F64, y: F64, sigma: F64) -> None:
    """Inputs and measurements for the next tick of all members, a tenth of the measurements missing."""
    g = np.random.default_rng(seed)
    count = len(bank)
    measured = y + sigma * g.normal(size=(count, len(y)))
    measured[g.random(measured.shape) < TENTH_MISSING] = np.nan
    bank.set(centre + width * g.normal(size=(count, len(centre))), measured)


def bits_different(bank: Bank, expected: Bank) -> int:
    """Bits that differ between states and results of two banks."""
    arrays = ((bank.states, expected.states), (bank.results, expected.results))
    return sum(differing(one, other) for one, other in arrays)


def differing(one: F64, other: F64) -> int:
    """Bits that differ between two arrays; all NaN are one."""
    words: list[NDArray[np.uint64]] = [np.frombuffer(canonical(array), np.uint64) for array in (one, other)]
    return int(np.bitwise_count(words[0] ^ words[1]).sum())


def padded(count: int) -> int:
    """The next full tile."""
    return -(-count // LANES) * LANES


def bank_of(plans: Sequence[Plan], start: Start, count: int, step: Step, *, own: bool = False) -> Bank:
    """A bank whose members go through the plans by turns."""
    return Bank(plans, [k % len(plans) for k in range(count)], [start] * len(plans), step, own=own)


def _packed(unsigned: bytes) -> tuple[bytes, Ed25519PublicKey, ModelPackage, Plan]:
    key = generate_key()
    public = key.public_key()
    blob = sign(unsigned, key)
    package = load(blob, {key_id(public): public})
    return blob, public, package, tensors.plan(package.manifest, package.tensors)
