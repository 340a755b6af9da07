"""Only requests that can be read in one way are answered at the connection; the rest is left to the real parser."""

from __future__ import annotations

import pytest

from twincloud.api.express import parse

READ = b"GET /api/v1/tenants/acme/sites/n/twins/t HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\n\r\n"
HEAD = b"PATCH /api/v1/tenants/acme/sites/n/twins/t/record HTTP/1.1\r\ncontent-type: application/json\r\n"
CHANGE = HEAD + b'If-Match: "7"\r\nContent-Length: 2\r\n\r\n{}'


def test_plain_requests_are_read_whole():
    read, change = parse(READ), parse(CHANGE)
    assert read is not None
    assert change is not None
    assert (read.method, read.body, read.headers[b"authorization"]) == ("GET", b"", b"Bearer a")
    assert (change.method, change.body, change.headers[b"if-match"]) == ("PATCH", b"{}", b'"7"')


@pytest.mark.parametrize(
    "sent",
    [
        READ[:-1],
        READ + READ,
        READ.replace(b"1.1", b"1.0"),
        READ.replace(b"Host: x", b"Host: x\nHost: y"),
        READ.replace(b"Host: x", b"Host: x\rHost: y"),
        READ.replace(b"Host: x", b"Host : x"),
        READ.replace(b"Host: x", b"Host"),
        READ.replace(b"Host: x", b" Host: x"),
        READ.replace(b"Host: x", b"Host: x\r\nHost: y"),
        READ.replace(b"Host: x", b"Transfer-Encoding: chunked"),
        READ.replace(b"Host: x", b"Content-Length: 0"),
        READ.replace(b"Host: x", b"Connection: close"),
        READ.replace(b"Host: x", b"Host: \x00"),
        READ.replace(b"/t ", b"/t?x=1 "),
        READ.replace(b"/t ", b"/%74 "),
        CHANGE + b" ",
        CHANGE[:-1],
        CHANGE.replace(b"Length: 2", b"Length: +2"),
        CHANGE.replace(b"Length: 2", b"Length: 2\r\nIdempotency-Key: k"),
        b"POST" + CHANGE[5:],
    ],
)
def test_anything_else_is_left_to_the_server(sent):
    assert parse(sent) is None
