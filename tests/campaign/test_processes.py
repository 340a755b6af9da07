"""Layer C: real processes, disks and links for seconds here, for minutes under `--campaign`."""

from __future__ import annotations

import os
import threading

import pytest

from tests.campaign import disks, netns
from tests.campaign.brokers import MODES, run_mode
from tests.campaign.center import SITE
from tests.campaign.checker import check
from tests.campaign.processes import Storm, ground, run_processes, told_by
from tests.campaign.site import Site
from tests.conftest import find_service


@pytest.fixture
def only_campaign(request):
    if not request.config.getoption("--campaign"):
        pytest.skip("only under --campaign: minutes of real processes")


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_a_coordinator_and_its_gateways_lose_nothing_in_seconds_of_kills_cuts_and_bad_links():
    history = run_processes(0, 2.0, gateways=2)
    assert check(history) == []
    assert history.samples > 0


@pytest.mark.e2e
@pytest.mark.usefixtures("only_campaign")
def test_processes_under_kills_and_power_cuts_lose_nothing(record_property):
    history = run_processes(1, 60.0)
    record_property("faults", dict(history.faults))
    assert check(history) == []
    assert history.faults["agent killed"] > 0


@pytest.mark.e2e
@pytest.mark.usefixtures("only_campaign")
def test_clones_and_old_images_are_told_by_name_and_lose_nothing_but_what_lay_on_a_lost_disk(record_property):
    history = run_processes(2, 90.0)
    record_property("faults", dict(history.faults))
    assert check(history) == []
    if history.faults["clone"] + history.faults["disk restored"]:
        assert history.faults["IDENTITY_FORK"] > 0


@pytest.mark.e2e
@pytest.mark.usefixtures("only_campaign")
def test_a_gateway_that_is_paused_for_a_minute_loses_its_session_and_comes_back_without_a_loss():
    root = disks.made_folder()
    site = Site(0, root, ground())
    try:
        box = site.add("thin")
        site.center.join(box.name, box.identity)
        box.start()
        _until_connected(site, box, wanted=True)
        asleep = threading.Thread(target=box.pause, args=(60.0,))
        asleep.start()
        _until_connected(site, box, wanted=False)
        asleep.join()
        _until_connected(site, box, wanted=True)
        Storm(site, 0.0)._drain()
        history = told_by(site)
        assert check(history) == []
        assert history.samples > 0
    finally:
        site.close()
        disks.remove(root)


def _until_connected(site, box, *, wanted):
    def connected():
        with netns.entered(site.center.namespace):
            return site.center.operator.call("GET", f"sites/{SITE}/gateways/{box.name}")["connected"]

    site.until(lambda: connected() is wanted, f"{box.name} connected: {not wanted}")


@pytest.mark.e2e
@pytest.mark.usefixtures("only_campaign")
def test_what_a_stock_broker_acknowledged_is_compared_with_what_a_returning_subscriber_gets():
    if not disks.may_mount() or find_service("mosquitto") is None:
        pytest.skip("needs ext4 in a file and mosquitto")
    row = run_mode(next(iter(MODES)), 2, 1)
    assert (row.cuts, row.losing) == (2, 2), "nothing was saved since the session was"
    assert row.lost == row.acknowledged > 0
    control = run_mode(next(iter(MODES)), 2, 1, cleanly=True)
    assert (control.lost, control.twice) == (0, 0)
    assert control.acknowledged > 0


@pytest.mark.e2e
@pytest.mark.usefixtures("only_campaign")
def test_what_a_killed_run_left_mounted_is_swept_by_the_next():
    if not disks.may_mount():
        pytest.skip("needs ext4 in a file")
    root = disks.made_folder()
    left = root.with_name(root.name.replace(str(os.getpid()), "999999999"))
    root.rename(left)
    disk = disks.Disk(left, "left")
    disk.freeze()
    disks.sweep()
    assert not left.exists()
