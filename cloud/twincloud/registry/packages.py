"""What the coordinator reads of a model package: its name, ports and signer, after verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twinmodel.package import archive, signing


@dataclass(frozen=True, slots=True)
class Description:
    """Facts of a verified package.

    Attributes:
        model_id: hash of what the model computes, hex.
        signer: id of the key that signed it.
        inputs, outputs: port -> unit.
    """

    name: str
    version: str
    model_id: str
    signer: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


Verify = Callable[[bytes, Mapping[str, bytes]], Description]
"""Verifies package bytes against trusted public keys (PEM by key id)."""


def verify_package(blob: bytes, trusted: Mapping[str, bytes]) -> Description:
    """Verifies a package completely and describes it.

    Args:
        blob: the whole file.
        trusted: key id -> public key in PEM form.

    Raises:
        PackageError: as `twinmodel.package.archive.load`; nothing of the package was run.
    """
    package = archive.load(blob, {key_id: signing.parse_public_key(pem) for key_id, pem in trusted.items()})
    return Description(
        name=package.name,
        version=package.version,
        model_id=package.model_id,
        signer=package.signer,
        inputs={port.name: port.unit for port in package.inputs},
        outputs={port.name: port.unit for port in package.outputs},
    )


def key_id_of(public_pem: bytes) -> str:
    """The id of a public key; raises ConfigError VALUE_INVALID when it is none."""
    return signing.key_id(signing.parse_public_key(public_pem))
