"""The alarms page in a real browser, over a real coordinator: live, one line per cause, acknowledged and shelved."""

from __future__ import annotations

import json

import pytest
from fake_coordinator import Server
from playwright.sync_api import expect

from tests.cloud.console.browser import PATIENCE_MS
from tests.cloud.plant import Plant, alarm
from twinmodel.alarms.records import Priority
from twinmodel.alarms.states import State
from twinmodel.clock import SECOND_NS

ALARMS = "/t/acme/alarms"
STATES = (State.SUPPRESSED, State.SUPPRESSED, State.UNACK)
URGENT = {"priority": Priority.URGENT, "severity": 900}

pytestmark = [pytest.mark.service("chromium"), pytest.mark.timeout(400)]


@pytest.fixture
def plant(tmp_path):
    made = Plant(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def tank(plant):
    return plant.gateway("acme", "north", "gw-1", "tank-1", "tank-2")


@pytest.fixture
def opened(chromium, plant):
    """Function: (path, role) -> page of somebody who is signed in; `complaints` of the browser are none."""
    contexts, complaints = [], []
    app = plant.app()
    with Server(app) as url:

        def page(path=ALARMS, role="operator", **look):
            context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | look))
            contexts.append(context)
            context.set_default_timeout(PATIENCE_MS)
            context.on("weberror", lambda error: complaints.append(str(error.error)))
            context.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
            context.add_cookies([{"name": "hybridtwin_token", "value": plant.token(role), "url": url}])
            made = context.new_page()
            made.goto(url + path)
            return made

        yield page
        for context in contexts:
            context.close()
    app.state.threads.close()
    assert complaints == []


def rows(page):
    return page.locator("#alarms tr")


def test_alarms_come_change_and_go_without_a_reload(opened, tank):
    page = opened()
    expect(page.locator("#none")).to_be_visible()
    expect(page.locator("#stream")).to_have_attribute("data-state", "open")
    tank.tell(alarm("high", count=3), alarm("worst", text="too hot", **URGENT))
    expect(rows(page)).to_have_count(2)
    expect(rows(page).first).to_contain_text("too hot")
    expect(rows(page).first.locator(".tag")).to_have_class("tag bad")
    expect(page.locator("#bell")).to_have_text("Alarms 21 urgent")
    tank.tell(alarm("worst", State.RTNUN, text="too hot", **URGENT))
    expect(rows(page).first.locator(".state")).to_have_text("over, not acknowledged")
    tank.tell(alarm("worst", State.NORM, **URGENT), alarm("high", State.ACKED, by="ann", comment="on it"))
    expect(rows(page)).to_have_count(1)
    expect(rows(page).first).to_contain_text("ann: on it")
    expect(rows(page).first.locator(".mark.on")).to_have_count(0)


def test_one_line_stands_for_a_cause_and_opens_to_its_consequences(opened, plant, tank):
    tank.tell(
        alarm("communication:plc", source="plc", text="plc does not answer"),
        *(alarm(f"stale-{n}", STATES[n], cause="plc", text=f"meter {n} is stale", **URGENT) for n in range(3)),
        alarm("other", priority=Priority.LOW, severity=100),
    )
    page = opened()
    expect(rows(page)).to_have_count(2)
    page.locator(".fold").click()
    expect(rows(page)).to_have_count(5)
    expect(page.locator(".fold")).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(2)
    tank.disconnect()
    plant.clock.advance(11 * SECOND_NS)
    plant.store.watch_gateways(plant.clock.wall_ns(), 10 * SECOND_NS)
    plant.bus.notify()
    expect(rows(page)).to_have_count(1)
    expect(rows(page).first).to_contain_text("gateway gw-1 is away")
    expect(page.locator(".fold")).to_have_text("5 consequences")


def test_an_alarm_is_acknowledged_by_keyboard_and_shelved_by_mouse(opened, plant, tank):
    tank.tell(alarm("high", occurrence=4), alarm("low", priority=Priority.LOW, severity=100))
    page = opened()
    rows(page).first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("a")
    expect(page.locator("#confirm-title")).to_have_text("Acknowledge this alarm?")
    page.locator("#comment").fill("seen")
    page.keyboard.press("Enter")
    expect(rows(page).first.locator(".state")).to_contain_text("waits for gw-1")
    (directive,) = plant.store.open_directives(tank.key)
    asked = json.loads(directive.content)
    assert (asked["do"], asked["occurrence"], asked["comment"]) == ("ack", 4, "seen")
    rows(page).nth(1).get_by_text("Shelve").click()
    page.locator("#span").select_option("900")
    page.locator("#confirm .primary").click()
    expect(rows(page).nth(1).locator(".state")).to_contain_text("shelve by")
    assert json.loads(plant.store.open_directives(tank.key)[1].content)["for_s"] == 900
    tank.tell(alarm("high", State.UNACK, 5))
    at_ns = plant.clock.wall_ns() + 1
    why = {"reason": "ALARM_CHANGED", "detail": "raised anew", "running": "", "now_ns": at_ns}
    plant.store.settle_directive(tank.key, directive.id, "REJECTED", **why)
    plant.bus.notify()
    expect(rows(page).first.get_by_role("button", name="Ack")).to_be_visible()
    rows(page).first.get_by_role("button", name="Ack").click()
    page.keyboard.press("Escape")
    expect(page.locator("#confirm")).to_be_hidden()
    assert [one.name for one in plant.store.open_directives(tank.key)] == ["shelve"]


def test_several_are_chosen_and_acknowledged_together_and_a_viewer_only_looks(opened, plant, tank):
    tank.tell(*(alarm(f"a{n}") for n in range(3)))
    page = opened()
    for n in (0, 2):
        rows(page).nth(n).locator("input").check()
    page.locator("#ack-chosen").click()
    expect(page.locator("#confirm-list li")).to_have_count(2)
    page.locator("#confirm .primary").click()
    expect(page.locator("#alarms .state", has_text="waits for gw-1")).to_have_count(2)
    assert len(plant.store.open_directives(tank.key)) == 2
    looker = opened(role="viewer", color_scheme="dark", viewport={"width": 360, "height": 740})
    expect(rows(looker)).to_have_count(3)
    expect(looker.locator("#alarms button")).to_have_count(0)
    expect(looker.locator("#ack-chosen")).to_be_hidden()
    assert looker.evaluate("document.scrollingElement.scrollWidth") <= 360


def test_filters_narrow_the_table_and_the_twin_page_shows_its_own(opened, tank):
    tank.send({"tank-1-dev.level": 1.0, "tank-2-dev.level": 1.0})
    tank.tell(
        alarm("mine", text="above 9.5 m"),
        alarm("other", source="tank-2", **URGENT),
        alarm("away", State.SHELVED, source="tank-2"),
    )
    page = opened()
    expect(rows(page)).to_have_count(2)
    page.locator("[data-priority='high']").click()
    expect(rows(page)).to_have_count(1)
    page.locator("[data-priority='high']").click()
    page.locator("#show").select_option("hidden")
    expect(rows(page)).to_have_count(1)
    expect(rows(page).first).to_contain_text("shelved")
    page.locator("#show").select_option("standing")
    page.keyboard.press("Escape")
    page.locator("#text").fill("tank-2")
    expect(rows(page)).to_have_count(1)
    twin = opened("/t/acme/sites/north/twins/tank-1")
    expect(twin.locator("#twin-alarms-list li")).to_have_count(1)
    expect(twin.locator("#twin-alarms")).to_contain_text("above 9.5 m")
    tank.tell(alarm("mine", State.NORM))
    expect(twin.locator("#twin-alarms")).to_be_hidden()
