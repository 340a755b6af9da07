"""A bundle of diagnostics tells what is needed to help, and nothing secret."""

from __future__ import annotations

import hashlib
import re
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinedge.doctor.bundle import BLANK, blanked, write_bundle
from twinedge.doctor.finding import Place, ok
from twinedge.probe.trust import own
from twinmodel.clock import SystemClock
from twinmodel.errors import StorageError

SITE = """\
site: plant-a
devices:
  press:
    opcua: "opc.tcp://10.0.0.9:4840"
    profile: hybridtwin/heat-exchanger
    root: HX-1
    security: {policy: Basic256Sha256, mode: sign_and_encrypt, user: maria.operator, password_file: press.pw}
# asked for by jane.doe@plant.example, token: twt_Zm9vYmFyYmF6cXV4cXV1eGNvcmdlZ3JhdWx0Z2FycGx5
status: {port: 1}
"""
PASSWORD = "correct-horse-battery-staple"


@pytest.fixture
def place(tmp_path):
    state = tmp_path / "state"
    (state / "identity").mkdir(parents=True)
    (state / "identity/key.pem").write_text(
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEsecret\n-----END EC PRIVATE KEY-----\n"
    )
    (tmp_path / "press.pw").write_text(PASSWORD)
    (tmp_path / "site.yaml").write_text(SITE)
    own(state, SystemClock())
    return Place(tmp_path / "site.yaml", state, None, SystemClock())


def contents(path):
    with tarfile.open(path) as bundle:
        return {member.name: bundle.extractfile(member).read().decode() for member in bundle}


def test_a_bundle_holds_what_helps_and_sums_that_fit(place, tmp_path):
    names = write_bundle(place, [ok("clock", "right")], tmp_path / "b.tar.gz")
    files = contents(tmp_path / "b.tar.gz")
    assert {f"diagnostics/{name}" for name in names} == set(files)
    assert "10.0.0.9" in files["diagnostics/config/site.yaml"]
    assert "own.der" in files["diagnostics/certificates.json"]
    for line in files["diagnostics/SHA256SUMS"].splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[f"diagnostics/{name}"].encode()).hexdigest() == digest
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600


def test_no_key_password_token_or_person_is_in_a_bundle(place, tmp_path):
    write_bundle(place, [ok("uplink", "refused: token=abc123secret for mqtt://ann:pw@broker")], tmp_path / "b.tar.gz")
    everything = "\n".join(contents(tmp_path / "b.tar.gz").values())
    own_key = (place.state / "opcua/own.pem").read_text().splitlines()[1]
    for secret in (PASSWORD, "MHcCAQEE", own_key, "twt_", "maria", "jane.doe", "abc123secret", "ann:pw"):
        assert secret not in everything


def test_the_configurations_before_are_in_a_bundle(place, tmp_path):
    for number in range(1, 9):
        folder = place.state / f"config/{number:04d}"
        folder.mkdir(parents=True)
        (folder / "site.yaml").write_text(f"site: {number}\npassword: hunter2\n")
        (folder / "record.json").write_text('{"who": "otto"}')
    names = write_bundle(place, [], tmp_path / "b.tar.gz")
    assert [n for n in names if n.startswith("config/history")] == [
        f"config/history/{number:04d}/{name}" for number in range(4, 9) for name in ("record.json", "site.yaml")
    ]
    assert "hunter2" not in "".join(contents(tmp_path / "b.tar.gz").values())


def test_a_bundle_that_cannot_be_written_leaves_nothing_behind(place, tmp_path):
    with pytest.raises(StorageError):
        write_bundle(place, [], tmp_path / "no/such/b.tar.gz")
    assert not list(tmp_path.glob("**/*.part"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("password: hunter2", f"password: {BLANK}"),
        ('{"api_token": "x y z"}', f'{{"api_token": {BLANK}}}'),
        ("mqtt://ann:pw@broker:1883", f"mqtt://{BLANK}@broker:1883"),
        ("Authorization: Bearer abc.def123", f"Authorization: Bearer {BLANK}"),
        ("passwd=hunter2", f"passwd={BLANK}"),
        (f"digest {'0af9' * 16}", f"digest {'0af9' * 16}"),
        (
            "/opt/hybridtwin/lib/python3.11/site-packages/asyncua",
            "/opt/hybridtwin/lib/python3.11/site-packages/asyncua",
        ),
    ],
)
def test_what_could_be_secret_is_blanked_and_what_helps_stays(text, left):
    assert blanked(text) == left


@given(st.from_regex(r"[A-Za-z0-9+/]{20}[0-9][A-Za-z][A-Za-z0-9+/]{30}", fullmatch=True))
def test_long_random_text_is_never_told_but_digests_are(secret):
    told = blanked(f"it said {secret} twice")
    assert (secret in told) == bool(re.fullmatch("[0-9a-fA-F]+", secret))


@given(st.text(max_size=200))
def test_any_text_can_be_blanked_twice_with_the_same_outcome(text):
    assert blanked(blanked(text)) == blanked(text)
