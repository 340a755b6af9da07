"""The console in a real browser: live, light, dark, by keyboard, and never off this host."""

import re
import time
from urllib.parse import urlsplit

import pytest
from fake_coordinator import TOKEN
from playwright.sync_api import expect

from tests.cloud.console.browser import PATIENCE_MS
from twinmodel.quality import QualityReason, bad, uncertain

WEIGHT_MAX = 100_000
WIDE = {"width": 1280, "height": 900}
TWIN = "/t/acme/sites/harbour/twins/P-101"
FLEET = "/t/acme/fleet"

pytestmark = [pytest.mark.service("chromium"), pytest.mark.timeout(400)]


class Visit:
    """A signed-in visitor who writes down requests and complaints; `page` is one that lies ready."""

    def __init__(self, context, url, page=None) -> None:
        self.url = url
        self.context = context
        self.requests, self.complaints, self.files = [], [], []
        self._page, self._lasting = page, page
        self._listeners = {
            "request": lambda request: self.requests.append(request.url),
            "requestfinished": self._keep,
            "console": self._listen,
            "weberror": lambda error: self.complaints.append(str(error.error)),
        }
        for event, listener in self._listeners.items():
            context.on(event, listener)
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies([{"name": "hybridtwin_token", "value": TOKEN, "url": url}])

    def _listen(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, path: str):
        page, self._page = self._page or self.context.new_page(), None
        page.goto(self.url + path)
        return page

    def resize(self, *, width: int, height: int) -> None:
        """The size of what is opened next."""
        self._page.set_viewport_size({"width": width, "height": height})

    def _keep(self, request) -> None:
        if "/api/" not in request.url:
            self.files.append(request)

    def weigh(self) -> int:
        """Bytes of all files that came so far; never within an event, where asking the browser may wait for ever."""
        return sum(request.sizes()["responseBodySize"] for request in self.files)

    def leave(self) -> None:
        """Ends the visit; the page that lay ready does so again, and nothing of this visit is heard or remembered."""
        if self._lasting is None:
            self.context.close()
            return
        for event, listener in self._listeners.items():
            self.context.remove_listener(event, listener)
        for page in self.context.pages:
            if page is not self._lasting:
                page.close()
        self._lasting.goto("about:blank")
        self._lasting.set_viewport_size(WIDE)
        self.context.clear_cookies()


@pytest.fixture(scope="module")
def window(chromium):
    """A page for one visitor after another: opening a window takes most of a second of CPU."""
    context = chromium.new_context(viewport=WIDE)
    return context.new_page()


@pytest.fixture
def visit(chromium, window, url):
    """Function: a visitor of the window that all tests share; of one of its own when it is to look different or new."""
    visits = []

    def make(*, own: bool = False, **look) -> Visit:
        if own or look or visits:
            visits.append(Visit(chromium.new_context(viewport=WIDE, **look), url))
        else:
            visits.append(Visit(window.context, url, window))
        return visits[-1]

    yield make
    for one in visits:
        one.leave()


def live(page) -> None:
    expect(page.locator("#stream")).to_have_attribute("data-state", "open")
    expect(page.locator("#badge")).to_have_attribute("data-state", "live")


def newest(page) -> float:
    return float(page.locator("#charts").get_attribute("data-newest") or 0)


def settle(page, *, beyond: float) -> None:
    for _ in range(PATIENCE_MS // 100):
        if newest(page) > beyond:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"no value newer than {beyond} came")


def test_pages_load_light_without_complaint_and_without_leaving_the_host(visit, url):
    for path, ready in ((FLEET, "#twins tr"), (TWIN, "#charts canvas")):
        visitor = visit(own=True)
        page = visitor.open(path)
        page.locator(ready).first.wait_for()
        # Late files count as well: nothing more for a second and a half means that all are there.
        seen = -1
        while seen != len(visitor.files):
            seen = len(visitor.files)
            page.wait_for_timeout(1_500)
        assert visitor.complaints == []
        assert 5_000 < visitor.weigh() < WEIGHT_MAX
        assert {urlsplit(request).netloc for request in visitor.requests} == {urlsplit(url).netloc}


def test_the_live_chart_moves_with_the_stream(visit):
    page = visit().open(TWIN)
    live(page)
    settle(page, beyond=1)
    before = newest(page), int(page.locator("#charts").get_attribute("data-frames"))
    assert int(page.locator("#charts").get_attribute("data-points")) > 3_000
    settle(page, beyond=before[0] + 2)
    assert int(page.locator("#charts").get_attribute("data-frames")) > before[1]


def test_a_history_younger_than_the_window_begins_at_its_first_value(visit, fake):
    fake.began_s = time.time() - 120
    page = visit().open(TWIN)
    live(page)
    settle(page, beyond=1)
    assert 115 <= int(page.locator("#charts").get_attribute("data-span")) < 290
    fake.began_s = 0
    page.reload()
    live(page)
    expect(page.locator("#charts")).to_have_attribute("data-span", "300")


def test_one_wild_residual_does_not_set_the_scale_of_all(visit, fake):
    fake.began_s, fake.kick = time.time() - 60, 1e6
    page = visit().open(TWIN)
    live(page)
    settle(page, beyond=1)
    track = (
        "import('/static/x/series.js').then(({ Track }) => { const t = new Track(); const t_ns = [...Array(60).keys()]"
        ".map((s) => s * 1e9); const run = (value) => ({ t_ns, value, quality: t_ns.map(() => 0) });"
        "const v = t_ns.map((_, i) => i % 2 ? 1 : -1);"
        "t.merge({ series: { innovation: run([1e6, ...v.slice(1)]), sigma: run(v.map(() => 0.1)) } });"
        "const c = t.residual(); return [Math.max(...c[1]), c[2].filter((x) => x != null).length]; })"
    )
    highest, marked = page.evaluate(track)
    assert highest < 20
    assert marked == 1


@pytest.mark.parametrize(
    ("quality", "mark", "line"),
    [(uncertain(QualityReason.RATE), "uncertain", "none"), (bad(QualityReason.STALE), "bad", "line-through")],
)
def test_only_a_bad_value_is_struck_through(visit, fake, quality, mark, line):
    fake.quality = quality
    page = visit().open(TWIN)
    reading = page.locator(".input .reading").first
    expect(reading).to_have_class(re.compile(rf"\b{mark}\b"))
    assert reading.evaluate("(e) => getComputedStyle(e).textDecorationLine") == line


def test_each_reason_is_shown_by_its_name_and_a_substitute_says_what_it_stands_for(visit, fake):
    fake.quality = uncertain(QualityReason.OUT_OF_RANGE)
    page = visit().open(TWIN)
    expect(page.locator("#f-quality")).to_have_text("uncertain(OUT_OF_RANGE)")
    fake.quality, fake.substituted = bad(QualityReason.NOT_CONNECTED), True
    line = page.locator(".output").filter(has_text="uncertain(SUBSTITUTED)").first
    expect(line).to_be_visible(timeout=20_000)
    expect(line).to_contain_text("bad(NOT_CONNECTED)")
    expect(line.locator(".reading")).to_have_class(re.compile(r"\buncertain\b"))


def test_twins_with_one_cause_share_one_line(visit, fake):
    fake.twins = [*fake.twins, *(("harbour", f"Q-{k}", "gw-q", "offline") for k in range(12))]
    page = visit().open(FLEET)
    line = page.locator("#attention li").filter(has_text="Q-3")
    expect(line).to_have_count(1)
    expect(line).to_contain_text(re.compile(r"and \d+ more"))
    line.locator("a").first.click()
    expect(page).to_have_url(re.compile("/twins/"))


def test_what_is_old_never_looks_live_and_comes_back(visit, fake):
    page = visit().open(TWIN)
    live(page)
    fake.frozen_s = newest(page) - 300
    page.reload()
    expect(page.locator("#badge")).to_have_attribute("data-state", "old")
    expect(page.locator("#badge")).to_contain_text(re.compile(r"stale [3-9]\d\d s|stale \d+ min"))
    expect(page.locator("#charts")).to_have_class(re.compile("stale"))
    fake.frozen_s = None
    live(page)
    expect(page.locator("#charts")).not_to_have_class(re.compile("stale"))


def test_a_lost_stream_is_told_and_the_gap_is_refilled(visit, fake):
    page = visit().open(TWIN)
    live(page)
    fake.streaming = False
    expect(page.locator("#stream")).to_have_attribute("data-state", "lost")
    expect(page.locator("#badge")).not_to_have_attribute("data-state", "live")
    seen = newest(page)
    fake.streaming = True
    live(page)
    settle(page, beyond=seen + 1)


def test_all_tabs_share_one_stream(visit, fake):
    visitor = visit()
    first, second = visitor.open(TWIN), visitor.open(TWIN)
    live(first)
    live(second)
    first.wait_for_timeout(1_000)
    assert fake.streams == 1
    third = visitor.open(FLEET)
    expect(third.locator("#stream")).to_have_attribute("data-state", "open")
    third.wait_for_timeout(1_000)
    assert fake.streams == 1
    live(first)


def test_without_shared_workers_a_tab_has_a_stream_of_its_own(visit):
    visitor = visit(own=True)
    visitor.context.add_init_script("delete window.SharedWorker")
    page = visitor.open(TWIN)
    live(page)
    seen = newest(page)
    settle(page, beyond=seen + 1)
    assert visitor.complaints == []


def test_the_fleet_is_counted_explained_and_filtered(visit):
    page = visit().open(FLEET)
    expect(page.locator("#twins tr")).to_have_count(8)
    expect(page.locator("#attention li").first).to_contain_text("HX-7")
    page.locator(".count[data-health=warn]").click()
    expect(page.locator("#twins tr")).to_have_count(1)
    expect(page.locator(".count[data-health=warn]")).to_have_attribute("aria-pressed", "true")
    page.locator(".count[data-health=warn]").click()
    page.keyboard.press("/")
    page.keyboard.type("mill/tk")
    expect(page.locator("#twins tr")).to_have_count(2)
    page.locator("#text").fill("")
    page.locator("#site").select_option("quarry")
    expect(page.locator("#twins tr")).to_have_count(1)
    page.locator("#twins a").click()
    expect(page.locator("h1")).to_have_text("P-301")
    expect(page.locator("#health")).to_have_text("offline")


def test_dark_is_followed_and_the_choice_is_kept(visit):
    visitor = visit(color_scheme="dark")
    page = visitor.open(TWIN)
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    assert max(int(part) for part in re.findall(r"\d+", dark)) < 60
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "light"
    bright = page.evaluate(colour)
    assert min(int(part) for part in re.findall(r"\d+", bright)) > 200
    page.reload()
    assert page.evaluate(colour) == bright


def test_times_switch_between_utc_and_local(visit):
    page = visit(timezone_id="Asia/Tokyo").open(TWIN)
    live(page)
    utc = int(page.locator("#clock").inner_text()[:2])
    page.locator("#zone").click()
    local = int(page.locator("#clock").inner_text()[:2])
    assert (local - utc) % 24 in (9, 10), "ten where an hour began between the two looks"


def test_the_keyboard_reaches_everything_in_order(visit):
    page = visit().open(TWIN)
    live(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    names = []
    for _ in range(6):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.dataset.range ?? document.activeElement.className"))
    assert names[:4] == ["live", "1h", "24h", "7d"]
    assert names[4].startswith("plot")
    page.keyboard.press("ArrowLeft")
    page.locator("#tab-State").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-Model"
    expect(page.locator("#panel-Model")).to_be_visible()
    expect(page.locator("#panel-State")).to_be_hidden()


def test_the_cursor_tells_measured_and_model_at_its_time(visit):
    page = visit().open(TWIN)
    live(page)
    page.locator(".plot.band").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".at").first).to_contain_text("measured")
    expect(page.locator(".at").first).to_contain_text("±")


def test_a_range_shows_its_span_and_says_what_is_cut(visit):
    page = visit().open(TWIN)
    live(page)
    page.locator("[data-range='1h']").click()
    expect(page.locator("#range-note")).to_contain_text("Only the newest 4000 points")
    expect(page.locator("[data-range='1h']")).to_have_attribute("aria-pressed", "true")


def test_a_long_range_is_shown_whole_in_buckets(visit):
    visitor = visit()
    page = visitor.open(TWIN)
    live(page)
    for name, resolution in (("24h", "1m"), ("7d", "15m"), ("live", "raw")):
        page.locator(f"[data-range='{name}']").click()
        expect(page.locator("#charts")).to_have_attribute("data-resolution", resolution)
    page.locator("[data-range='7d']").click()
    expect(page.locator("#range-note")).to_be_empty()
    page.locator(".plot.band").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".at").first).to_contain_text("measured")
    assert visitor.complaints == []


def test_history_is_saved_as_csv(visit):
    page = visit().open(TWIN)
    live(page)
    page.locator("#tab-History").click()
    with page.expect_download() as waiting:
        page.locator("#export button").click()
    lines = waiting.value.path().read_text("utf-8").splitlines()
    assert lines[0] == "time,role,value,quality,unit"
    assert len([line for line in lines if ",measured," in line]) >= 7_100
    assert lines[1:] == sorted(lines[1:])


@pytest.mark.parametrize("path", [FLEET, TWIN, "/t/acme/alarms", "/login"])
def test_at_360_pixels_nothing_sticks_out(visit, path):
    visitor = visit()
    visitor.resize(width=360, height=740)
    page = visitor.open(path)
    page.wait_for_timeout(1_500)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360


@pytest.mark.parametrize("path", [FLEET, TWIN])
def test_the_layout_does_not_jump_while_values_arrive(visit, path):
    visitor = visit(own=True)
    visitor.context.add_init_script(
        "window.shift = 0;"
        "new PerformanceObserver((list) => { for (const e of list.getEntries()) window.shift += e.value; })"
        ".observe({ type: 'layout-shift', buffered: true })"
    )
    page = visitor.open(path)
    page.wait_for_timeout(3_000)
    assert page.evaluate("window.shift") < 0.1


def test_a_session_that_ended_leads_to_the_sign_in_and_back(visit):
    visitor = visit()
    page = visitor.open(TWIN)
    live(page)
    visitor.context.clear_cookies()
    expect(page).to_have_url(re.compile(r"/login\?next="))
    page.locator("#token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(re.escape(TWIN)))
