"""The demo's plan and its verdict; the telling itself is in tests/e2e."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from twinedge.config.catalogue import build_catalogue
from twinedge.config.load import load_site
from twinmodel.quality import GOOD, QualityReason, bad
from twinsim.demo import layout
from twinsim.demo.command import demo
from twinsim.deployment.audit import audit, nanoseconds
from twinsim.deployment.running import find_profiles
from twinsim.deployment.site_file import site_content, yaml_text
from twinsim.scenario import device_names
from twinsim.served import ServedLog

ADDRESSES = {
    "modbus": "tcp://127.0.0.1:1",
    "opcua": "opc.tcp://127.0.0.1:2/twinsim",
    "mqtt": "mqtt://127.0.0.1:3",
    "wan": "127.0.0.1:4",
}
PROTOCOLS = {"P-1": "mqtt", "HX-1": "opcua"}
T = 1_700_000_000_000_000_000


def test_three_sites_six_gateways_twenty_four_twins():
    gateways = [devices for site in layout.GATEWAYS.values() for devices in site.values()]
    devices = [d for names in gateways for d in names]
    assert (len(layout.GATEWAYS), len(gateways), len(devices)) == (3, 6, 24)
    assert sorted(devices) == sorted(
        f"{p}-{n}" for p in layout.SORTS for n in range(1, layout.DEVICES_PER_PROTOCOL + 1)
    )


@pytest.mark.parametrize(("site", "gateway"), [(s, g) for s, gs in layout.GATEWAYS.items() for g in gs])
def test_every_site_file_is_valid(tmp_path, site, gateway):
    path = tmp_path / "site.yaml"
    plan = layout.deployment()
    devices = {
        d: {"protocol": layout.SORTS[d.split("-")[0]].protocol, "unit_id": int(d.split("-")[1])}
        for d in device_names(plan)
    }
    announced = {"addresses": ADDRESSES, "devices": devices}
    (tmp_path / layout.SCADA_PASSWORD_FILE).write_text("secret")
    path.write_text(yaml_text(site_content(plan, f"{site}/{gateway}", announced, find_profiles())))
    loaded = load_site(path)
    catalogue = build_catalogue(loaded)
    assert (loaded.site.uplink is not None) == ((site, gateway) == layout.OFFLINE)
    assert {t.twin for t in catalogue.twins} == {layout.twin_of(d) for d in layout.GATEWAYS[site][gateway]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("2023-11-14T22:13:20.123456789Z", T + 123_456_789),
        ("2023-11-14T22:13:20Z", T),
    ],
)
def test_times_of_rest_keep_every_nanosecond(text, expected):
    assert nanoseconds(text) == expected


class Operator:
    """Stands for the REST client."""

    def __init__(self, samples, losses=()):
        self._samples, self._losses = samples, losses

    def pages(self, path, _tries):
        return {"gateways": [{"site": "north", "gateway": "n1"}], "sites/north/gateways/n1/losses": self._losses}[path]

    def samples(self, _site, _gateway):
        return self._samples


def stored(signal, value, t_ns=T, quality=GOOD):
    return {"signal": signal, "t_ns": t_ns, "value": value, "quality": quality}


@pytest.fixture
def served(tmp_path):
    log = ServedLog(tmp_path)
    for n in (1, 2):
        log.add("mqtt", "P-1", "P-1", n, T + n * 1_000_000_000, ("flow", "sample_no"))
    log.close()
    return tmp_path


def answers(*numbers):
    return [
        stored(f"P-1.{point}", n if point == "sample_no" else 50.0, T + n * 1_000_000_000)
        for n in numbers
        for point in ("flow", "sample_no")
    ]


def test_all_stored_once_is_no_loss(served):
    verdict = audit(Operator([*answers(1, 2), stored("pump-1/flow#estimate", 50.0)]), served, PROTOCOLS)
    assert (verdict.samples_acquired, verdict.samples_stored, verdict.lost, verdict.duplicates) == (4, 4, 0, 0)


def test_a_missing_answer_is_lost_unless_it_is_declared(served):
    assert audit(Operator(answers(1)), served, PROTOCOLS).lost == 2
    hole = {"device": "P-1", "from_time": "2023-11-14T22:13:21.5Z", "to_time": "2023-11-14T22:13:22.5Z"}
    verdict = audit(Operator(answers(1), [hole]), served, PROTOCOLS)
    assert (verdict.lost, verdict.declared_missing) == (0, 2)


def test_an_answer_stored_twice_is_a_duplicate(served):
    assert audit(Operator([*answers(1, 2), *answers(2)]), served, PROTOCOLS).duplicates == 2


def test_what_the_gateway_says_of_a_silent_device_is_no_answer_of_it(served):
    silence = [stored("P-1.sample_no", 0, T + k, bad(QualityReason.NOT_CONNECTED)) for k in (5, 6_000_000)]
    assert audit(Operator([*answers(1, 2), *silence]), served, PROTOCOLS).duplicates == 0


def test_the_demo_removes_nothing_that_is_not_its_own(tmp_path):
    (tmp_path / "precious").touch()
    done = CliRunner().invoke(demo, ["--state", str(tmp_path), "--seconds", "1"])
    assert done.exception.reason == "VALUE_INVALID"
    assert (tmp_path / "precious").exists()
