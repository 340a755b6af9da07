"""gRPC between the tiers: options of both ends, mTLS credentials, and who a certificate says its holder is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
from cryptography import x509

from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, DeniedError
from twinsync import limits
from twinsync.identity import names_of

METADATA_BYTES_MAX = 16 << 10
MESSAGE_SLACK_BYTES = 64 << 10
HANDSHAKE_TIMEOUT_MS = 20_000
"""After a restart thousands of gateways stand in line, and a handshake lasts as long as the line before it; a silent
socket is let go after that time too."""

_COMMON: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX + MESSAGE_SLACK_BYTES),
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX + MESSAGE_SLACK_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    # Blocks are compressed already, and a bomb must not unfold below our own bounds: identity only.
    ("grpc.default_compression_algorithm", 0),
    ("grpc.compression_enabled_algorithms_bitset", 1),
)

CLIENT_OPTIONS: tuple[tuple[str, int], ...] = (
    *_COMMON,
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # The retry loop of the session decides when to come back, not the library's own backoff of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long one attempt to connect may take: after a restart a fleet stands in line before the coordinator.
    ("grpc.min_reconnect_backoff_ms", HANDSHAKE_TIMEOUT_MS),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *_COMMON,
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
    # The default cancels streams at random when a fleet comes back at once.
    ("grpc.server.max_pending_requests", 16_384),
    ("grpc.server.max_pending_requests_hard_limit", 32_768),
    ("grpc.max_concurrent_streams", 8),
    # A connection without a stream is of no use to anybody.
    ("grpc.max_connection_idle_ms", 10_000),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one end shows and whom it trusts, all PEM.

    Attributes:
        roots: certificates of the authorities the peer's certificate must come from.
        chain: own certificate, then those between it and the root.
        key: private key of the own certificate.
    """

    roots: bytes
    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Credentials(...)"

    @staticmethod
    def read(roots: Path, chain: Path, key: Path) -> Credentials:
        """Reads three files; raises ConflictError NOT_JOINED when one is not there."""
        parts = []
        for path in (roots, chain, key):
            try:
                parts.append(path.read_bytes())
            except FileNotFoundError as error:
                raise ConflictError("NOT_JOINED", f"{path} does not exist", path=str(path)) from error
        return Credentials(*parts)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a gateway's certificate says it is.

    Attributes:
        serial: serial number, lower-case hexadecimal.
        until_ns: last moment it is valid.
    """

    tenant: str
    site: str
    gateway: str
    serial: str
    until_ns: int


def peer_identity(pem: bytes) -> Identity:
    """Who the holder of a verified leaf certificate is.

    The chain of trust is the TLS handshake's business; this only reads names.

    Raises:
        DeniedError: CERT_INVALID when the certificate does not carry exactly one URI name of the form
            `spiffe://hybridtwin/t/<tenant>/s/<site>/gw/<gateway>`.
    """
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise DeniedError("CERT_INVALID", f"the certificate carries no name of a gateway: {error}") from error
    if len(uris) != 1:
        raise DeniedError("CERT_INVALID", f"the certificate carries {len(uris)} URI names, not one")
    tenant, site, gateway = names_of(uris[0])
    return Identity(tenant, site, gateway, f"{leaf.serial_number:x}", _nanoseconds(leaf.not_valid_after_utc))


def valid_until_ns(chain_pem: bytes) -> int:
    """Last moment the first certificate of a chain is valid; raises DeniedError CERT_INVALID when there is none."""
    try:
        return _nanoseconds(x509.load_pem_x509_certificate(chain_pem).not_valid_after_utc)
    except ValueError as error:
        raise DeniedError("CERT_INVALID", f"the certificate cannot be read: {error}") from error


def open_channel(address: str, credentials: Credentials, *, server_name: str = "") -> grpc.aio.Channel:
    """A channel to a coordinator over mTLS; connects with its first call.

    Args:
        address: `host:port`.
        credentials: own certificate, and the authority of the coordinator's.
        server_name: name to expect in the coordinator's certificate when it differs from the host.
    """
    options: list[tuple[str, int | str]] = list(CLIENT_OPTIONS)
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    ours = grpc.ssl_channel_credentials(credentials.roots, credentials.key, credentials.chain)
    return grpc.aio.secure_channel(address, ours, options=options)


def server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    """Server side of mTLS: a client without a certificate of the trusted roots does not get through the handshake."""
    pair = (credentials.key, credentials.chain)
    return grpc.ssl_server_credentials([pair], credentials.roots, require_client_auth=True)


def _nanoseconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp()) * SECOND_NS
