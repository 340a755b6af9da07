"""The store contract: everything the coordinator keeps, as methods over plain frozen records.

Every method is one transaction. Methods are synchronous and thread-safe: readers may run in any thread, writers are
serialised by the implementation. Tenant and site are part of every key. Errors are `TwinError`s with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from twincloud.filters import Filter
from twincloud.storage.contract_alarms import Alarms
from twincloud.storage.contract_archives import Archives
from twincloud.storage.contract_cloud import Clouds
from twincloud.storage.contract_commands import Commands
from twincloud.storage.contract_exports import Exports
from twincloud.storage.contract_fleets import Fleets
from twincloud.storage.contract_hours import Hours
from twincloud.storage.contract_listings import Listings
from twincloud.storage.contract_operations import Operations
from twincloud.storage.contract_requests import Requests
from twincloud.storage.contract_retention import Retention
from twincloud.storage.contract_sharing import Sharing
from twincloud.storage.contract_tracks import Tracks
from twincloud.storage.contract_twins import TwinsOfPeople
from twincloud.storage.contract_versions import Versions
from twincloud.storage.records import (
    Arrival,
    Beat,
    Commit,
    DeadLetter,
    Directive,
    Event,
    Gateway,
    GatewayKey,
    Hello,
    Invite,
    Loss,
    ModelVersion,
    Opened,
    Origin,
    Page,
    Principal,
    Property,
    Running,
    Series,
    StoreStatus,
    Twin,
    TwinKey,
    TwinModel,
    Value,
    Wish,
)
from twincloud.storage.tiers import KNOWN_ALL
from twinmodel.errors import MissingError, TwinError
from twinmodel.signal import Batch, Catalogue

__all__ = [
    "Arrival",
    "Beat",
    "Commit",
    "DeadLetter",
    "Directive",
    "Event",
    "Gateway",
    "GatewayKey",
    "Hello",
    "Identity",
    "Ingest",
    "Invite",
    "Loss",
    "ModelVersion",
    "Opened",
    "Origin",
    "Page",
    "Principal",
    "Property",
    "Registry",
    "Running",
    "Series",
    "Store",
    "StoreStatus",
    "Twin",
    "TwinKey",
    "TwinModel",
    "Twins",
    "Value",
    "Wish",
]


class Ingest(Protocol):
    """What the session with a gateway needs."""

    def open_session(self, gateway: GatewayKey, hello: Hello, now_ns: int) -> Opened:
        """Grants a session and fences the older one; raises IDENTITY_FORK, SUSPENDED, UNKNOWN_GATEWAY."""
        ...

    def open_sessions(self, hellos: Sequence[tuple[GatewayKey, Hello]], now_ns: int) -> list[Opened | TwinError]:
        """Grants sessions of several gateways in one transaction: after a restart a whole fleet comes at once.

        An answer per hello, in their order; one that is refused alone gets the error that `open_session` would raise,
        and leaves the others as they are. Raises StorageError when nothing was granted.
        """
        ...

    def close_session(self, gateway: GatewayKey, session: int, now_ns: int) -> None:
        """Marks the gateway as away, when `session` is still its current one."""
        ...

    def end_sessions(self, now_ns: int) -> None:
        """Marks every gateway as away, when the service starts: one that was killed could not say so."""
        ...

    def put_catalogue(self, gateway: GatewayKey, session: int, catalogue: Catalogue, now_ns: int) -> None:
        """Keeps a catalogue and makes or updates the twins it binds; raises FENCED."""
        ...

    def catalogue(self, gateway: GatewayKey, digest: bytes) -> Catalogue:
        """A catalogue by its digest; raises SCHEMA_UNKNOWN. Cached: called for each block."""
        ...

    def commit(self, gateway: GatewayKey, session: int, arrivals: Sequence[Arrival], received_ns: int) -> Commit:
        """Dedupes and commits items in one durable transaction; raises FENCED."""
        ...

    def commit_many(
        self, requests: Sequence[tuple[GatewayKey, int, Sequence[Arrival]]], received_ns: int
    ) -> list[Commit | TwinError]:
        """Commits items of several gateways, (gateway, session, arrivals) each, in one durable transaction.

        An answer per request, in their order; a request refused alone (FENCED, PROTOCOL_VIOLATION, UNKNOWN_GATEWAY)
        gets its error. Raises StorageError when nothing of any request was committed.
        """
        ...

    def heartbeats(self, beats: Sequence[Beat]) -> list[TwinError | None]:
        """Keeps what gateways say of themselves, all of them in one transaction.

        An answer per beat, in their order: None, or the error of that beat alone (FENCED, so that a superseded writer
        finds out; UNKNOWN_GATEWAY). Raises StorageError when nothing was kept.
        """
        ...

    def assign_defaults(self, tenant: str, *, gateway: GatewayKey | None, now_ns: int) -> tuple[Directive, ...]:
        """Opens a directive for every twin that was never assigned a model and whose site.yaml names one that is here.

        The desired state of the coordinator wins ever after. Models that are unknown or do not fit are passed over.

        Args:
            tenant: whose twins.
            gateway: only its twins, None for all.
            now_ns: server time.
        """
        ...

    def open_directives(self, gateway: GatewayKey) -> tuple[Directive, ...]:
        """Directives that have no outcome yet, oldest first."""
        ...

    def settle_directive(
        self, gateway: GatewayKey, directive: str, outcome: str, *, reason: str, detail: str, running: str, now_ns: int
    ) -> None:
        """Keeps the outcome (APPLIED, REJECTED, SUPERSEDED); the same outcome twice is no error."""
        ...

    def wishes(self, gateway: GatewayKey, now_ns: int) -> tuple[Wish, ...]:
        """Coarser periods that are asked of the gateway at `now_ns`, by stream and signal."""
        ...

    def artifact(self, tenant: str, digest: str) -> bytes:
        """The bytes of an artifact; raises NOT_FOUND."""
        ...


class Twins(Protocol):
    """What people and programs read."""

    def twins(
        self,
        tenant: str,
        *,
        site: str = "",
        state: str = "",
        chosen: Filter | None = None,
        limit: int = 100,
        token: str = "",
    ) -> Page[Twin]:
        """Twins by site and name; of `chosen` what its columns say, see `storage.selection`."""
        ...

    def twin(self, key: TwinKey) -> Twin:
        """One twin; raises UNKNOWN_TWIN."""
        ...

    def twins_of(
        self, tenant: str, names: Sequence[tuple[str, str]]
    ) -> list[tuple[Twin, Gateway | None] | MissingError]:
        """Twins with their gateways, of one moment, (site, name) each; UNKNOWN_TWIN in the place of one."""
        ...

    def history(
        self,
        key: TwinKey,
        prop: str,
        roles: Sequence[str],
        from_ns: int,
        to_ns: int,
        points_max: int,
        known: int = KNOWN_ALL,
    ) -> Mapping[str, Series]:
        """History of a property by role (`measured`, `estimate`, `sigma`, `prediction`, `innovation`, `drift`).

        Longer runs than `points_max` keep the newest points and say `truncated`. `known`: the last commit that counts.
        """
        ...

    def samples(self, gateway: GatewayKey, *, after: int = 0, limit: int = 10_000) -> Page[tuple[str, Batch]]:
        """Every stored sample of a gateway in commit order, for audits and tests."""
        ...

    def gateways(
        self, tenant: str, *, site: str = "", chosen: Filter | None = None, limit: int = 100, token: str = ""
    ) -> Page[Gateway]:
        """Gateways by site and name; of `chosen` what its columns say."""
        ...

    def gateway(self, key: GatewayKey) -> Gateway:
        """One gateway; raises UNKNOWN_GATEWAY."""
        ...

    def losses(self, key: GatewayKey) -> tuple[Loss, ...]:
        """The loss ledger: every declared hole."""
        ...

    def dead_letters(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[DeadLetter]:
        """Dead letters, newest first."""
        ...

    def requeue_dead_letter(self, tenant: str, letter: int, now_ns: int) -> int:
        """Reads a dead letter again and takes it into history; returns its samples."""
        ...

    def events(self, tenant: str, *, after: int, limit: int = 500) -> tuple[Event, ...]:
        """Outbox rows after an id."""
        ...

    def first_event(self) -> int:
        """The id of the oldest outbox row that is kept, 0 when there is none."""
        ...

    def last_event(self) -> int:
        """The id of the newest outbox row, 0 when there is none."""
        ...


class Registry(Protocol):
    """Models, their signers, and what should run where."""

    def add_signer(self, tenant: str, name: str, public_pem: bytes, now_ns: int) -> str:
        """Trusts a public key for the tenant's models; returns the key id."""
        ...

    def signers(self, tenant: str) -> Mapping[str, bytes]:
        """Trusted public keys (PEM) by key id."""
        ...

    def put_model(self, tenant: str, blob: bytes, now_ns: int) -> ModelVersion:
        """Verifies and keeps a package; the same bytes twice are no error, another content is ALREADY_EXISTS."""
        ...

    def models(
        self, tenant: str, *, chosen: Filter | None = None, limit: int = 100, token: str = ""
    ) -> Page[ModelVersion]:
        """Model versions by name and version."""
        ...

    def model(self, tenant: str, reference: str) -> ModelVersion:
        """`name@version`; raises UNKNOWN_MODEL with the nearest name."""
        ...

    def assign_model(self, key: TwinKey, reference: str, *, by: str, now_ns: int, deadline_ns: int) -> Directive:
        """Sets the desired model of a twin and opens a directive; raises MODEL_UNFIT, UNKNOWN_MODEL, UNKNOWN_TWIN."""
        ...

    def wish(self, gateway: GatewayKey, wanted: Wish) -> None:
        """Asks for a coarser period in the place of the one before for the same stream and signal; 0 ends it.

        Raises REQUEST_INVALID (alarms, and signals a twin reads or a model says), UNKNOWN_SIGNAL, UNKNOWN_GATEWAY,
        LIMIT_EXCEEDED.
        """
        ...

    def open_directive(
        self,
        gateway: GatewayKey,
        kind: str,
        target: str,
        *,
        name: str,
        content: bytes,
        by: str,
        now_ns: int,
        deadline_ns: int = 0,
    ) -> Directive:
        """Tells a gateway what is desired of it, in the place of what was for the same target and is still open.

        Args:
            gateway: who is told.
            kind: `config` or `alarm`.
            target: begins with `@`, as no twin does.
            name: what is desired, for people.
            content: the same, for the gateway.
            by: who desires it.
            now_ns: when.
            deadline_ns: its end, 0 for never.

        Raises:
            MissingError: UNKNOWN_GATEWAY.
            InputError: VALUE_INVALID for another target, LIMIT_EXCEEDED for more than a session carries.
        """

    def directives(self, tenant: str, *, target: str = "", limit: int = 100) -> tuple[Directive, ...]:
        """Directives, newest first."""
        ...

    def configurations(self, gateway: GatewayKey, limit: int = 50) -> tuple[Directive, ...]:
        """Configurations a gateway was sent, newest first, their content cut; digests say what was in force then."""
        ...


class Identity(Protocol):
    """Gateways that may come, and people who may ask."""

    def create_tenant(self, tenant: str, now_ns: int) -> None:
        """Makes a tenant; the same twice is no error."""
        ...

    def tenants(self) -> tuple[str, ...]:
        """Names of all tenants, the oldest first."""
        ...

    def create_site(self, tenant: str, site: str, now_ns: int) -> None:
        """Makes a site; the same twice is no error."""
        ...

    def sites(self, tenant: str) -> tuple[str, ...]:
        """Names of the tenant's sites."""
        ...

    def create_invite(self, gateway: GatewayKey, token_hash: bytes, now_ns: int, expires_ns: int) -> None:
        """Keeps the hash of a one-time token; makes site and gateway where they are new."""
        ...

    def redeem_invite(self, token_hash: bytes, now_ns: int) -> GatewayKey:
        """Uses the token once; raises INVITE_INVALID when it is unknown, used or expired."""
        ...

    def create_token(self, name: str, tenant: str, role: str, token_hash: bytes, now_ns: int, expires_ns: int) -> None:
        """Keeps the hash of an API token; `expires_ns` 0 means it does not expire."""
        ...

    def principal(self, token_hash: bytes, now_ns: int) -> Principal:
        """Who a token is; raises TOKEN_INVALID."""
        ...


class Store(
    Ingest,
    Twins,
    Registry,
    Identity,
    Requests,
    Versions,
    Operations,
    Clouds,
    Commands,
    Alarms,
    Archives,
    Exports,
    Hours,
    Listings,
    Retention,
    TwinsOfPeople,
    Fleets,
    Sharing,
    Tracks,
    Protocol,
):
    """All of it, over one database."""

    def status(self) -> StoreStatus:
        """Facts about the store."""
        ...

    def close(self) -> None:
        """Ends all connections; what is committed stays."""
        ...
