"""Keys: their files, their names, their signatures."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from twinmodel.errors import ConfigError, ConflictError, PackageError
from twinmodel.package.archive import load, unpack
from twinmodel.package.signing import (
    generate_key,
    key_id,
    load_private_key,
    load_public_key,
    parse_public_key,
    public_pem,
    save_private_key,
    save_public_key,
    sign,
)


def test_a_key_is_named_after_the_hash_of_its_public_half(key):
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert key_id(key.public_key()) == hashlib.sha256(raw).hexdigest()[:16]


def test_signing_replaces_an_older_signature(blobs, trusted):
    other = generate_key()
    signed = sign(blobs["pump"], other)
    assert len(signed) == len(blobs["pump"])
    assert load(signed, {key_id(other.public_key()): other.public_key()}).name == "pump"
    with pytest.raises(PackageError):
        load(signed, trusted)


def test_a_damaged_package_is_not_signed(blobs, key):
    with pytest.raises(PackageError):
        sign(blobs["pump"][:-100], key)
    assert unpack(blobs["pump"]).signature


def test_keys_survive_their_files_and_private_ones_are_private(tmp_path, key):
    save_private_key(tmp_path / "k.pem", key)
    save_public_key(tmp_path / "k.pub", key.public_key())
    assert (tmp_path / "k.pem").stat().st_mode & 0o777 == 0o600
    assert key_id(load_private_key(tmp_path / "k.pem").public_key()) == key_id(key.public_key())
    assert key_id(load_public_key(tmp_path / "k.pub")) == key_id(parse_public_key(public_pem(key.public_key())))


def test_a_key_file_is_never_overwritten(tmp_path, key):
    save_private_key(tmp_path / "k.pem", key)
    with pytest.raises(ConflictError) as caught:
        save_private_key(tmp_path / "k.pem", generate_key())
    assert caught.value.reason == "ALREADY_EXISTS"
    assert key_id(load_private_key(tmp_path / "k.pem").public_key()) == key_id(key.public_key())


def test_files_that_hold_no_such_key_are_refused(tmp_path, key):
    elliptic = generate_ec(SECP256R1())
    (tmp_path / "ec.pem").write_bytes(elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    ec_public = elliptic.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "ec.pub").write_bytes(ec_public)
    (tmp_path / "none.pem").write_bytes(b"nothing")
    for name in ("ec.pem", "none.pem"):
        with pytest.raises(ConfigError, match="private key") as caught:
            load_private_key(tmp_path / name)
        assert caught.value.reason == "VALUE_INVALID"
    for name in ("ec.pub", "none.pem"):
        with pytest.raises(ConfigError, match="public key"):
            load_public_key(tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        load_private_key(tmp_path / "missing.pem")
    assert caught.value.reason == "FILE_MISSING"
    with pytest.raises(ConfigError):
        save_private_key(tmp_path / "no" / "k.pem", key)
