"""The client against answers that go wrong."""

import httpx
import pytest

from twinctl.client import Client
from twinctl.contexts import Context
from twinmodel.errors import ConflictError, DeniedError, InputError, TwinError, UnreachableError


def client(handler, pauses=None):
    pause = (pauses if pauses is not None else []).append
    return Client(Context("http://plant:8420", "acme", "t"), transport=httpx.MockTransport(handler), pause=pause)


def test_a_read_is_tried_again_with_growing_pauses_and_then_given_up():
    calls, pauses = [], []

    def handler(request):
        calls.append(request)
        return httpx.Response(503, json={"detail": "busy", "reason": "COORDINATOR_UNREACHABLE"})

    with pytest.raises(UnreachableError):
        client(handler, pauses).get("/fleet")
    assert len(calls) == 3
    assert pauses == [0.2, 0.4]


def test_a_read_heals_when_the_second_try_is_answered():
    answers = iter([httpx.Response(502), httpx.Response(200, json={"ok": 1})])
    assert client(lambda _: next(answers)).get("/fleet") == {"ok": 1}


def test_a_change_is_never_sent_twice():
    calls = []

    def handler(request):
        calls.append(request)
        return httpx.Response(503, json={})

    with pytest.raises(UnreachableError):
        client(handler).send("PUT", "/x", {})
    assert len(calls) == 1


def test_pages_are_followed_to_the_last():
    def handler(request):
        token = request.url.params.get("page_token", "")
        return httpx.Response(
            200, json={"items": [len(token)], "next_page_token": token + "x" if len(token) < 3 else ""}
        )

    assert list(client(handler).pages("/twins")) == [0, 1, 2, 3]
    assert list(client(handler).pages("/twins", limit=2)) == [0, 1]


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, "TOKEN_INVALID", DeniedError),
        (403, "FORBIDDEN", DeniedError),
        (409, "MODEL_UNFIT", ConflictError),
        (422, "REQUEST_INVALID", InputError),
        (413, "LIMIT_EXCEEDED", TwinError),
    ],
)
def test_a_problem_becomes_the_error_it_tells(status, reason, kind):
    body = {"reason": reason, "detail": "so it is", "hint": "do this", "status": status}
    with pytest.raises(kind, match="so it is") as refused:
        client(lambda _: httpx.Response(status, json=body)).get("/x")
    assert refused.value.reason == reason


def test_a_reason_of_a_newer_coordinator_falls_back_to_the_status():
    with pytest.raises(ConflictError) as refused:
        client(lambda _: httpx.Response(409, json={"reason": "BRAND_NEW", "detail": "d"})).get("/x")
    assert refused.value.reason == "ALREADY_EXISTS"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
def test_another_server_at_the_address_is_no_coordinator(body):
    with pytest.raises(UnreachableError, match="not as a coordinator"):
        client(lambda _: httpx.Response(200, content=body)).get("/fleet")


def test_events_resume_after_the_last_id_when_the_stream_ends():
    asked = []

    def handler(request):
        asked.append(request.headers.get("last-event-id"))
        number = len(asked)
        text = f'retry: 1\nid: 0\n\n: alive\n\nid: {number}\nevent: twin\ndata: {{"twin":\ndata: "P{number}"}}\n\n'
        return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})

    events = client(handler).events(site="s")
    assert [next(events)["twin"] for _ in range(3)] == ["P1", "P2", "P3"]
    assert asked == [None, "1", "2"]


def test_events_wait_for_a_coordinator_that_went_away_but_not_for_one_that_never_was():
    answers = iter(
        [
            httpx.Response(200, text='id: 1\nevent: twin\ndata: {"n": 1}\n\n'),
            None,
            httpx.Response(200, text='id: 2\nevent: twin\ndata: {"n": 2}\n\n'),
        ]
    )

    def handler(request):
        answer = next(answers)
        if answer is None:
            raise httpx.ConnectError("refused", request=request)
        return answer

    pauses = []
    events = client(handler, pauses).events()
    assert [next(events)["n"], next(events)["n"]] == [1, 2]
    assert pauses == [0.5, 1.0]

    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(UnreachableError):
        next(client(refuse).events())


def test_a_refused_stream_raises_what_the_coordinator_says():
    body = {"reason": "TOKEN_INVALID", "detail": "expired"}
    with pytest.raises(DeniedError):
        next(client(lambda _: httpx.Response(401, json=body)).events())


def test_the_token_travels_in_the_header_alone():
    seen = []
    client(lambda request: seen.append(request) or httpx.Response(200, json={})).get("/fleet", site="a")
    assert seen[0].headers["authorization"] == "Bearer t"
    assert str(seen[0].url) == "http://plant:8420/api/v1/tenants/acme/fleet?site=a"


@pytest.mark.parametrize(("url", "token"), [("plant:8420", "t"), ("plant", "t"), ("http://127.0.0.1:1", "twt_a\nb")])
def test_a_malformed_address_or_token_is_a_wrong_request_that_shows_no_token(url, token):
    for ask in (lambda c: c.get("/fleet"), lambda c: next(c.events())):
        with pytest.raises(InputError) as refused:
            ask(Client(Context(url, "acme", token)))
        assert "twt_a" not in str(refused.value)
