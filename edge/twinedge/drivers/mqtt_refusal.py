"""Why a connection to a broker ended or never began, and what to do about it."""

from __future__ import annotations

import ssl

REFUSED_CODES = frozenset({2, 4, 5, 0x85, 0x86, 0x87, 0x8A, 0x8C})


def told(lost: BaseException, where: str) -> tuple[str, str]:
    """Reason and text of what `leaf` found, at the broker `where`."""
    text, code = str(lost) or type(lost).__name__, code_of(lost)
    hint = ""
    # paho turns a failed TLS handshake into text.
    if "certificate" in text.lower() or isinstance(lost, ssl.SSLError):
        hint = _certificate_hint(text.lower())
    elif code in REFUSED_CODES:
        hint = "check security.user, security.password_file and what the broker allows this client"
    said = f"{where}: {text}"
    return ("DEVICE_REFUSED", f"{said}; {hint}") if hint else ("DEVICE_UNREACHABLE", said)


def leaf(lost: BaseException) -> BaseException:
    """The first error of a group of groups."""
    while isinstance(lost, BaseExceptionGroup):
        lost = lost.exceptions[0]
    return lost


def code_of(lost: BaseException) -> int | None:
    """The broker's reason code, of either version."""
    code = getattr(lost, "rc", None)
    return getattr(code, "value", code)


def _certificate_hint(text: str) -> str:
    if "expired" in text:
        return "the broker's certificate or ours has expired: renew it, and check the clock of this machine"
    if "hostname" in text or "ip address mismatch" in text:
        return "the certificate is for another name: give the address as the certificate has it"
    return "give the authority of the broker's certificate as security.ca, and ours as security.certificate and key"
