"""What the harness asks of a coordinator that answers too late, or not at all."""

from __future__ import annotations

import io
from urllib.error import URLError

import pytest

from twinmodel.errors import UnreachableError
from twinsim.deployment import operator

LATE = TimeoutError("timed out")


@pytest.fixture
def asked(monkeypatch):
    """Requests so far; each takes the next of `answers`."""

    def open_one(request, timeout):
        assert timeout == operator.TIMEOUT_S
        found.append(request.get_method())
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)

    found, answers = [], []
    monkeypatch.setattr(operator, "urlopen", open_one)
    return found, answers


def test_pages_that_come_too_late_are_asked_for_again(asked):
    found, answers = asked
    page = b'{"items": [1], "next_page_token": "%s"}'
    answers += [LATE, page % b"7", URLError(LATE), LATE, page % b""]
    assert list(operator.Operator("http://c", "acme", "t").samples("north", "n1")) == [1, 1]
    assert found == ["GET"] * 5


def test_tries_are_bounded_and_only_for_what_is_late_and_only_read(asked):
    found, answers = asked
    client = operator.Operator("http://c", "acme", "t")
    answers += [LATE] * 9
    for method, tries, sent in (("GET", operator.TRIES, operator.TRIES), ("GET", 1, 1), ("POST", 4, 1)):
        found.clear()
        with pytest.raises(UnreachableError, match="does not answer: timed out"):
            client.call(method, "gateways", tries=tries)
        assert found == [method] * sent
    answers[:] = [URLError(ConnectionRefusedError(111, "refused"))]
    with pytest.raises(UnreachableError, match="refused"):
        client.call("GET", "gateways", tries=4)
    assert answers == []
