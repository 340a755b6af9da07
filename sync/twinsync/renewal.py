"""The bytes a gateway signs with its old key to ask for a certificate of a new one."""

from __future__ import annotations

import hashlib

DOMAIN = b"hybridtwin-renew-1"


def renewal_bytes(certificate_der: bytes, csr_der: bytes, t_ns: int) -> bytes:
    """What a renewal's signature covers; both ends make it from what they hold, nothing of it travels.

    Args:
        certificate_der: the certificate held until now.
        csr_der: the signing request of the new key.
        t_ns: wall time of the request, so that one that was overheard does not last.
    """
    return (
        DOMAIN + hashlib.sha256(certificate_der).digest() + hashlib.sha256(csr_der).digest() + t_ns.to_bytes(8, "big")
    )
