"""A package examined on this machine: signature, tiers, time."""

from __future__ import annotations

import json

import pytest

from twinmodel.clock import SystemClock
from twinmodel.errors import PackageError
from twinmodel.package.archive import open_at_desk, pack, unpack
from twinmodel.package.signing import generate_key, key_id, sign
from twinmodel.rom import open_estimator
from twinmodel.rom.examine import TIERS, examine


def check(blob, trusted, **options):
    return examine(blob, trusted, SystemClock(), **{"tiers": ("interpreted",)} | options)


def test_a_trusted_package_has_nothing_against_it(blobs, trusted, key):
    found = check(blobs["exchanger"], trusted)
    assert (found.signature, found.signer, found.refusals) == ("valid", key_id(key.public_key()), ())
    assert [(c.tier, c.bits, c.why) for c in found.tiers] == [("interpreted", "same", "")]
    assert 0 < found.load_ns < 10**9


def test_strangers_and_unsigned_packages_are_told_apart(blobs, trusted):
    stranger = check(sign(blobs["pump"], generate_key()), trusted)
    assert (stranger.signature, stranger.refusals) == ("unknown key", ("SIGNER_UNKNOWN",))
    envelope = unpack(blobs["pump"])
    unsigned = check(pack(envelope.manifest, envelope.tensors), trusted)
    assert (unsigned.signature, unsigned.signer, unsigned.refusals) == ("none", "", ("PACKAGE_UNSIGNED",))


def test_other_bits_are_found_on_each_tier_and_a_tier_that_cannot_be_had_is_no_fault(blobs, trusted, tmp_path):
    envelope = unpack(blobs["exchanger"])
    fields = json.loads(envelope.manifest)
    fields["parity"]["sha256"] = "0" * 64
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    found = check(pack(text, envelope.tensors), {})
    assert found.refusals == ("PACKAGE_UNSIGNED", "PARITY_FAILED")
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    lacking = check(blobs["pump"], trusted, tiers=[TIERS[0] if TIERS[0] != "interpreted" else "jit"], cache_dir=shared)
    assert lacking.refusals == ()
    assert lacking.tiers[0].bits in {"not available", "same"}


def test_a_signature_that_does_not_fit_a_trusted_key_is_no_matter_of_opinion(blobs, trusted):
    raw = bytearray(blobs["pump"])
    raw[-1] ^= 1
    with pytest.raises(PackageError, match="PACKAGE_ALTERED"):
        check(bytes(raw), trusted)


def test_what_is_opened_at_a_desk_is_the_same_without_a_signer(blobs, trusted, packages):
    opened = open_at_desk(blobs["pump"])
    assert (opened.signer, opened.model_id) == ("", packages["pump"].model_id)
    assert open_estimator(blobs["pump"], trusted, tier="interpreted").package.signer
