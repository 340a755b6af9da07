"""Commands on the twin page, in a real browser against a real coordinator: asked, asked back, sent once, approved."""

import pytest
from fake_coordinator import Server
from playwright.sync_api import expect

from tests.cloud.console.browser import PATIENCE_MS
from tests.cloud.plant import Plant
from twincloud.downlink.commands import CommandDesk
from twincloud.storage.contract import GatewayKey
from twincloud.storage.records import Beat
from twincloud.storage.records_commands import CommandState as State
from twinsync.command import Commandable, CommandKind, CommandState, CommandStep

KEY = GatewayKey("acme", "mill", "gw-1")
PAGE = "/t/acme/sites/mill/twins/T-1"

pytestmark = [pytest.mark.service("chromium"), pytest.mark.timeout(400)]


@pytest.fixture
def plant(tmp_path):
    plant = Plant(tmp_path / "state")
    plant.speaker = plant.gateway("acme", "mill", "gw-1", "T-1")
    plant.speaker.send({"T-1-dev.flow": 1.5, "T-1-dev.level": 0.5})
    may = (
        Commandable("T-1-dev.flow", two_persons=False, low=0.0, high=10.0),
        Commandable("T-1-dev.level", two_persons=True, unit="m", low=0.0, high=5.0),
        Commandable("T-1-dev.reset", two_persons=False),
    )
    plant.store.heartbeats([Beat(KEY, plant.speaker.session, 0, 0, 0, (), plant.clock.wall_ns(), commandables=may)])
    yield plant
    plant.close()


@pytest.fixture
def visit(chromium, plant):
    """Function: role -> the commands tab of the twin, seen by a person of that role."""
    contexts = []
    with Server(plant.app()) as url:

        def open_tab(role):
            context = chromium.new_context(viewport={"width": 1280, "height": 900})
            contexts.append(context)
            context.set_default_timeout(PATIENCE_MS)
            context.add_cookies([{"name": "hybridtwin_token", "value": plant.token(role), "url": url}])
            page = context.new_page()
            page.complaints = []
            page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
            page.goto(url + PAGE)
            page.locator("#tab-Commands").click()
            page.locator("#commands td").first.wait_for()
            return page

        yield open_tab
        for context in contexts:
            context.close()


def test_a_person_commands_confirms_and_sees_the_steps_and_another_one_approves(visit, plant):
    desk = CommandDesk(plant.store, plant.clock)
    ann, bob, guest = visit("engineer"), visit("engineer"), visit("viewer")
    expect(guest.locator("#command")).to_be_hidden()
    expect(guest.locator("#c-note")).to_contain_text("need the role operator")

    assert ann.locator("#c-target option").all_inner_texts() == [
        "flow · 0 … 10", "level · 0 … 5 m · class B", "T-1-dev.reset"]  # fmt: skip
    ann.locator("#c-target").select_option("flow")
    ann.get_by_label("Value").fill("2.5")
    ann.get_by_label("Others must approve").select_option("1")
    ann.get_by_label("Why").fill("start-up")
    ann.get_by_text("Review…").click()
    expect(ann.locator("#c-words")).to_contain_text("Write flow = 2.5")
    expect(ann.locator("#c-words")).to_contain_text("now 1.5")
    shell = "twinctl twin command mill/T-1 flow=2.5 --deadline 30s --approvals 1 --why start-up"
    expect(ann.locator("#c-shell")).to_have_text(shell)
    assert plant.store.commands_of("acme").items == ()
    assert ann.evaluate("document.activeElement.id") == "c-send"
    ann.locator("#c-send").click()
    expect(ann.locator("#commands .tag")).to_have_text("waiting approval")
    expect(ann.locator("#commands")).to_contain_text("for 1 more person, not t0")
    expect(ann.get_by_role("button", name="Approve")).to_have_count(0)

    bob.get_by_role("button", name="Approve").click()
    expect(bob.locator("#commands .tag")).to_have_text("pending")
    (sent,) = desk.due(KEY, plant.speaker.session)
    assert (sent.target, sent.arguments, len(sent.approved_by)) == ("T-1-dev.flow", 2.5, 1)
    desk.settle(KEY, CommandState(sent.id, CommandStep.FAILED, "COMMAND_INTERLOCKED", "the valve is locked"))
    plant.bus.notify()
    expect(ann.locator("#commands .tag.bad")).to_have_text("failed")
    expect(ann.locator("#commands")).to_contain_text("COMMAND_INTERLOCKED: the valve is locked")
    expect(ann.locator("#commands .steps li")).to_have_count(4)

    ann.get_by_label("Value").fill("much")
    ann.get_by_text("Review…").click()
    ann.locator("#c-send").click()
    expect(ann.locator("#c-note")).to_contain_text("VALUE_INVALID")
    assert len(plant.store.commands_of("acme").items) == 2
    assert [text for text in ann.complaints + bob.complaints if "422" not in text] == []

    may_be_held_and_called(ann, plant)


def may_be_held_and_called(page, plant) -> None:
    """What else the gateway lets be commanded, by keyboard alone."""
    target = page.locator("#c-target")
    target.select_option("level")
    expect(page.locator("#c-range")).to_have_text("Takes 0 … 5 m. Class B: another person must approve it.")
    assert (page.locator("#c-approvals").input_value(), page.locator("#c-approvals option:disabled").count()) == (
        "1",
        1,
    )
    page.locator("#c-kind").select_option("hold")
    page.get_by_label("Hold for").select_option("120")
    page.get_by_label("Value").fill("2,5")
    page.keyboard.press("Enter")
    expect(page.locator("#c-words")).to_contain_text("Hold level = 2.5 m (now 0.5) of mill/T-1 for 2 min")
    expect(page.locator("#c-shell")).to_contain_text("level=2.5 --hold --deadline 120s --approvals 1")
    page.keyboard.press("Enter")
    expect(page.locator("#commands tr").first).to_contain_text("hold level = 2.5")
    target.select_option("T-1-dev.reset")
    assert page.locator("#c-kind option").all_inner_texts() == ["call"]
    expect(page.locator("#c-one")).to_be_hidden()
    page.get_by_label("Arguments").fill('1, "all", true')
    page.keyboard.press("Enter")
    expect(page.locator("#c-words")).to_contain_text("Call T-1-dev.reset(1, all, true), by gateway gw-1")
    expect(page.locator("#c-shell")).to_contain_text("T-1-dev.reset --call 1 all true --deadline")
    page.keyboard.press("Enter")
    expect(page.locator("#commands tr").first).to_contain_text("T-1-dev.reset(1, all, true)")
    call, hold = plant.store.commands_of("acme").items[:2]
    assert (call.kind, call.arguments, call.state) == (CommandKind.CALL, (1, "all", True), State.PENDING)
    assert (hold.kind, hold.arguments, hold.approvals) == (CommandKind.HOLD, 2.5, 1)
    assert hold.state is State.WAITING_APPROVAL
