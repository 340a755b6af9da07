"""Where the coordinator's three listeners really are, once ports of 0 have become real ones."""

from __future__ import annotations

from dataclasses import dataclass

from twincloud.config import Settings


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses to hand out.

    Attributes:
        rest: URL of REST and console.
        sync: `host:port` of gRPC.
        enrol: URL of the enrolment listener.
    """

    rest: str
    sync: str
    enrol: str

    @staticmethod
    def of(
        settings: Settings, *, port: int | None = None, sync_port: int | None = None, enrol_port: int | None = None
    ) -> Addresses:
        """Addresses by the settings, with the real ports where they are known."""
        public = bracketed(settings.public_name)
        return Addresses(
            rest=f"http://{bracketed(settings.host)}:{settings.port if port is None else port}",
            sync=f"{public}:{settings.sync_port if sync_port is None else sync_port}",
            enrol=f"https://{public}:{settings.enrol_port if enrol_port is None else enrol_port}",
        )


def bracketed(host: str) -> str:
    """A host as it stands before a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host
