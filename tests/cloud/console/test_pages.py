"""Routes of the console without a browser."""

import re
from pathlib import Path

import httpx
import pytest
from fake_coordinator import TOKEN, VIEWER

from twincloud.api import console
from twincloud.api.auth import COOKIE

FOLDER = Path(console.__file__).parent
TWIN = "/t/acme/sites/harbour/twins/P-101"


@pytest.fixture
async def browser(app):
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://plant:8420") as client:
        yield client


async def test_signing_in_by_form_sets_a_cookie_scripts_cannot_read_and_leads_to_the_fleet(browser):
    answer = await browser.post("/login", data={"token": f" {TOKEN}\n"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/t/acme/fleet")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN};")
    assert {"httponly", "path=/", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
    assert (await browser.get("/t/acme/fleet")).status_code == 200


async def test_over_https_the_cookie_is_secure(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://plant") as client:
        assert "Secure" in (await client.post("/login", data={"token": TOKEN})).headers["set-cookie"]


async def test_a_code_in_the_address_signs_in_and_is_stripped(browser):
    answer = await browser.get(f"/login?code={TOKEN}")
    assert answer.status_code == 303
    assert TOKEN not in answer.headers["location"]
    assert COOKIE in answer.cookies


@pytest.mark.parametrize("token", ["wrong", "", " ", "x" * 10_000, "sch\u00f6n"])
async def test_a_wrong_token_gets_the_form_again_and_no_cookie(browser, token):
    answer = await browser.post("/login", data={"token": token})
    assert answer.status_code == 401
    assert "not known here" in answer.text
    assert "set-cookie" not in answer.headers


async def test_pages_lead_strangers_to_the_sign_in_and_back(browser):
    answer = await browser.get(TWIN)
    assert answer.headers["location"] == f"/login?next={TWIN}"
    after = await browser.post("/login", data={"token": TOKEN, "after": TWIN})
    assert after.headers["location"] == TWIN


@pytest.mark.parametrize(
    "there", ["//evil.example", "https://evil.example/t/", "/t/../login", "/t/a\\evil", "javascript:1"]
)
async def test_a_sign_in_never_leads_to_another_host(browser, there):
    answer = await browser.post("/login", data={"token": TOKEN, "after": there})
    assert answer.headers["location"] == "/t/acme/fleet"
    assert (await browser.get("/login", params={"next": there, "code": TOKEN})).headers["location"] == "/t/acme/fleet"


async def test_a_form_of_another_site_is_refused(browser):
    for path in ("/login", "/logout"):
        answer = await browser.post(path, data={"token": TOKEN}, headers={"origin": "http://evil.example"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


async def test_signing_out_takes_the_cookie_away(browser):
    await browser.post("/login", data={"token": TOKEN})
    await browser.post("/logout", headers={"origin": "http://plant:8420"})
    assert (await browser.get("/t/acme/fleet")).status_code == 303


async def test_a_token_of_one_tenant_does_not_open_another(browser):
    await browser.post("/login", data={"token": VIEWER})
    assert (await browser.get("/t/acme/fleet")).status_code == 200
    assert (await browser.get("/t/other/fleet")).status_code == 403


@pytest.mark.parametrize("name", ["%3Cscript%3E", "a%20b", "%22%20x=1"])
async def test_a_name_that_cannot_be_gets_no_page_and_is_not_echoed(browser, name):
    await browser.post("/login", data={"token": TOKEN})
    answer = await browser.get(f"/t/acme/sites/harbour/twins/{name}")
    assert answer.status_code == 404
    assert "script>" not in answer.text.replace("theme.js", "").replace('"></script>', "")


@pytest.mark.parametrize("path", ["/login", "/t/acme/fleet", TWIN])
async def test_pages_fit_a_policy_without_inline_script_or_style(browser, path):
    await browser.post("/login", data={"token": TOKEN})
    answer = await browser.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"\sstyle=|\son\w+=|<style", answer.text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", answer.text))
    assert not re.search(r"(src|href)=\"(https?:)?//", answer.text)
    assert answer.headers["cache-control"] == "no-store"


async def test_static_files_are_addressed_by_their_hash_and_kept_for_ever(browser):
    page = await browser.get("/login")
    path = re.search(r"/static/[0-9a-f]{12}/console\.css", page.text)[0]
    answer = await browser.get(path)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    plain = await browser.get(path, headers={"accept-encoding": "identity"})
    assert plain.content == answer.content == (FOLDER / "static" / "console.css").read_bytes()
    old = await browser.get(re.sub(r"[0-9a-f]{12}", "0" * 12, path))
    assert old.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["%2e%2e/pages.py", "..%2fpages.py", "nothing.js", "vendor", ""])
async def test_nothing_but_the_static_files_is_served(browser, path):
    assert (await browser.get(f"/static/x/{path}")).status_code == 404


def test_own_files_name_no_other_host():
    own = [*FOLDER.glob("static/*.*"), *FOLDER.glob("templates/*")]
    assert len(own) > 15
    for file in own:
        found = re.findall(r"https?://(?!www\.w3\.org/2000/svg)[^\s\"')]+", file.read_text("utf-8"))
        assert not found, f"{file.name}: {found}"


def test_each_vendored_package_has_its_licence_and_stands_in_the_list():
    vendor = FOLDER / "static" / "vendor"
    listed = (vendor / "VENDORED.md").read_text("utf-8")
    for folder in (p for p in vendor.iterdir() if p.is_dir()):
        assert (folder / "LICENSE").is_file()
        assert f"`{folder.name}/LICENSE`" in listed
