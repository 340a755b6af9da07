"""What any request may ask of any route: a part of the answer, its head, its methods; and how misuse is refused."""

from __future__ import annotations

import json

import pytest

T = "/api/v1/tenants/acme"
TWIN = f"{T}/sites/north/twins/tank-1"


@pytest.fixture
def client(plant, api):
    gateway = plant.gateway("acme", "north", "gw-1", "tank-1", "tank-2")
    gateway.send({"tank-1-dev.level": 1.5, "tank-2-dev.level": 2.5})
    return api("operator")


async def test_fields_give_the_part_asked_for_of_a_thing_and_of_each_item(client):
    one = (await client.get(f"{TWIN}?fields=twin,properties.name,properties.reported.value")).json()
    assert one["twin"] == "tank-1"
    assert set(one) == {"twin", "properties"}
    assert {"name": "level", "reported": {"value": 1.5}} in one["properties"]
    many = (await client.get(f"{T}/twins?fields=twin&page_size=1")).json()
    assert many["items"] == [{"twin": "tank-1"}]
    assert many["next_page_token"]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("twins", "did you mean twin?"),
        ("properties.reported.valeu", "did you mean properties.reported.value?"),
        ("", "names"),
        ("a..b", "names"),
        (",".join(["twin"] * 60), "names"),
        ("twin.inside", ""),
    ],
)
async def test_field_the_answer_does_not_have_is_refused_with_the_nearest_name(client, asked, hint):
    for path in (TWIN, f"{T}/twins", f"{T}/twins?site=empty"):
        answer = await client.get(path + ("&" if "?" in path else "?") + f"fields={asked}")
        if asked == "twin.inside":
            assert answer.status_code == 200
            continue
        assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID")
        assert hint in answer.json()["hint"]


async def test_fields_of_a_refusal_are_left_whole(client):
    answer = await client.get(f"{T}/sites/north/twins/none?fields=twin")
    assert (answer.status_code, answer.json()["reason"]) == (404, "UNKNOWN_TWIN")


async def test_head_is_get_without_its_body(client):
    for path in (TWIN, f"{T}/twins", "/healthz"):
        get, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.headers["content-length"] == str(len(get.content))


async def test_options_names_the_methods_and_grants_other_origins_nothing(client):
    answer = await client.options(f"{T}/models", headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 204
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert "access-control-allow-origin" not in answer.headers
    assert (await client.options("/nothing")).status_code == 404


async def test_wrong_method_media_type_and_json_are_told_apart(client):
    invite = f"{T}/gateways:invite"
    wrong = await client.delete(f"{T}/twins")
    assert (wrong.status_code, wrong.json()["reason"]) == (405, "METHOD_NOT_ALLOWED")
    assert "GET" in wrong.headers["allow"]
    body = json.dumps({"site": "north", "gateway": "gw-2"})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        media = await client.post(invite, content=body, headers={"content-type": kind})
        assert (media.status_code, media.json()["reason"]) == (415, "MEDIA_UNSUPPORTED")
    for content in ("{", '{"site": NaN', "[" * 30_000, "\ud800".encode("utf-16-le", "surrogatepass")):
        broken = await client.post(invite, content=content, headers={"content-type": "application/json"})
        assert broken.status_code in (400, 422)
        assert (broken.json()["reason"], broken.json()["hint"] != "") == ("REQUEST_INVALID", True)


async def test_parameter_given_twice_page_too_large_and_foreign_token_are_refused(client):
    token = (await client.get(f"{T}/twins?page_size=1")).json()["next_page_token"]
    for query, said in (
        ("page_size=1&page_size=2", "page_size: it is given twice"),
        ("page_size=100000", "page_size: "),
        (f"site=north&page_token={token}", "page_token: it is no token of this list"),
    ):
        answer = await client.get(f"{T}/twins?{query}")
        assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID")
        assert answer.json()["detail"].startswith(said)


async def test_name_under_which_twins_in_the_cloud_speak_is_given_to_no_machine(client):
    answer = await client.post(f"{T}/gateways:invite", json={"site": "north", "gateway": "cloud"})
    assert (answer.status_code, answer.json()["reason"]) == (422, "REQUEST_INVALID")
    assert answer.json()["hint"] == "choose another name"
