"""What a broker's refusal means: the first error of a group, its code of either version, and the step to take."""

from __future__ import annotations

import ssl

CLOSED = "the broker closed the connection before it answered"
REFUSED_CODES = frozenset({2, 4, 5, 0x85, 0x86, 0x87, 0x8A, 0x8C})


def leaf(lost: BaseException) -> BaseException:
    """The first error of a group of groups."""
    while isinstance(lost, BaseExceptionGroup):
        lost = lost.exceptions[0]
    return lost


def code_of(lost: BaseException) -> int | None:
    """The broker's reason code, of either version."""
    code = getattr(lost, "rc", None)
    return getattr(code, "value", code)


def other_version(lost: BaseException) -> bool:
    """Whether a broker refused or dropped the handshake of MQTT 5 as one does that speaks 3.1.1 only."""
    return code_of(lost) in {1, 0x84} or "timed out" in str(lost) or str(lost) == CLOSED


def hint_of(lost: BaseException) -> str:
    """What to do about a refusal, "" when it was none: nothing answers, or not any more."""
    text = (str(lost) or type(lost).__name__).lower()
    # paho turns a failed TLS handshake into text.
    if "certificate" in text or isinstance(lost, ssl.SSLError):
        return _certificate_hint(text)
    if code_of(lost) in REFUSED_CODES:
        return "check security.user, security.password_file and what the broker allows this client"
    return ""


def _certificate_hint(text: str) -> str:
    if "expired" in text:
        return "the broker's certificate or ours has expired: renew it, and check the clock of this machine"
    if "hostname" in text or "ip address mismatch" in text:
        return "the certificate is for another name: give the address as the certificate has it"
    return "give the authority of the broker's certificate as security.ca, and ours as security.certificate and key"
