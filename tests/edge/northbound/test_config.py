"""`northbound:` in site.yaml: what is refused, with its line, and what is safe without being said."""

from __future__ import annotations

import pytest

from twinedge.config.northbound import Northbound, OpcuaServer, check_northbound, parse_listen
from twinmodel.errors import ConfigError
from twinmodel.profile.document import parse_document
from twinmodel.profile.schema import Strict


class Page(Strict):
    northbound: Northbound | None = None


def read(folder, text):
    document = parse_document("northbound:\n" + text, folder / "site.yaml")
    check_northbound(document, document.validate(Page).northbound)


def test_security_is_on_and_only_this_machine_is_served_without_being_told():
    plain = OpcuaServer(certificates="trusted")
    assert (plain.host, plain.port, plain.loopback) == ("127.0.0.1", 4840, True)
    assert (plain.mode, plain.insecure, plain.anonymous) == ("sign_and_encrypt", False, False)
    assert plain.policies == ["Basic256Sha256", "Aes256Sha256RsaPss"]


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("  opcua: {}", "VALUE_INVALID", "nobody may connect"),
        ("  opcua: {listen: '4840', anonymous: true}", "VALUE_INVALID", "no address to listen on"),
        ("  opcua: {listen: '0.0.0.0:4840', anonymous: true, insecure: true}", "VALUE_INVALID", "loopback only"),
        ("  opcua: {anonymous: true, policies: [None]}", "VALUE_INVALID", "input should be"),
        ("  opcua: {anonymous: true, polices: [Basic256Sha256]}", "UNKNOWN_KEY", "policies"),
        ("  opcua: {anonymous: true, publish: 1ms}", "VALUE_INVALID", "greater than or equal"),
        ("  opcua:\n    users: {scada: {password_file: none.pw}}", "FILE_MISSING", "none.pw"),
        ("  opcua: {certificates: nowhere}", "FILE_MISSING", "nowhere"),
        ("  opcua: {users: {scada: {password: secret}}}", "UNKNOWN_KEY", "password_file"),
        ("  mqtt: {to: 'broker:1883'}", "VALUE_INVALID", "mqtts://host:port"),
        ("  mqtt: {to: 'mqtt://me:secret@broker'}", "VALUE_INVALID", "security.password_file"),
        ("  mqtt: {to: 'mqtt://broker', topic: 'a/#'}", "VALUE_INVALID", "no beginning of a topic"),
        ("  mqtt: {to: 'mqtt://broker', topic: 'a/{twin}'}", "VALUE_INVALID", "no beginning of a topic"),
        ("  mqtt: {to: 'mqtt://broker', qos: 2}", "VALUE_INVALID", "input should be"),
        ("  mqtt:\n    to: mqtt://broker\n    security: {certificate: c.pem}", "VALUE_INVALID", "belong together"),
        ("  mqtt:\n    to: mqtt://broker\n    security: {ca: ca.pem}", "FILE_MISSING", "ca.pem"),
    ],
)
def test_a_mistake_is_refused_with_its_line(tmp_path, text, reason, said):
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text)
    assert refused.value.reason == reason
    assert said in f"{refused.value.message} {refused.value.hint}"
    assert refused.value.facts["line"] >= 2


def test_what_the_pages_show_is_accepted(tmp_path):
    (tmp_path / "scada.pw").write_text("x")
    (tmp_path / "trusted").mkdir()
    read(
        tmp_path,
        "  opcua: {listen: '[::1]:4840', users: {scada: {password_file: scada.pw}}, certificates: trusted}\n"
        "  mqtt: {to: 'mqtts://broker:8883', discovery: home-assistant, every: 5s, version: 5}\n",
    )
    assert parse_listen("[::1]:4840") == ("::1", 4840)
