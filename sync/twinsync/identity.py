"""The one name of a gateway that its certificate carries: `spiffe://hybridtwin/t/<tenant>/s/<site>/gw/<gateway>`."""

from __future__ import annotations

import re
from typing import Final

from twinmodel.errors import DeniedError

DOMAIN: Final = "hybridtwin"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
_URI: Final = re.compile(rf"spiffe://{DOMAIN}/t/({_NAME})/s/({_NAME})/gw/({_NAME})")


def gateway_uri(tenant: str, site: str, gateway: str) -> str:
    """The URI of a gateway; raises DeniedError CERT_INVALID when a part is no plain name."""
    uri = f"spiffe://{DOMAIN}/t/{tenant}/s/{site}/gw/{gateway}"
    names_of(uri)
    return uri


def names_of(uri: str) -> tuple[str, str, str]:
    """Tenant, site and gateway of a URI; raises DeniedError CERT_INVALID for any other URI."""
    found = _URI.fullmatch(uri)
    if found is None:
        raise DeniedError("CERT_INVALID", f"{uri[:200]!r} is no name of a gateway", uri=uri[:200])
    return found[1], found[2], found[3]
