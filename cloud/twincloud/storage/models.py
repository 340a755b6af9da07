"""Models and their signers; the packages' bytes lie beside the database, named by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, tuple_

from twincloud.filters import Filter
from twincloud.registry.packages import key_id_of
from twincloud.storage import schema as t
from twincloud.storage.contract import ModelVersion, Page
from twincloud.storage.packing import pack_ports, unpack_ports
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import News, Part, limited, nearest, record
from twincloud.storage.selection import MODEL_COLUMNS
from twinmodel.errors import ConflictError, MissingError, StorageError


class ModelStore(Part):
    """Keeps models; see `Registry`."""

    def add_signer(self, tenant: str, name: str, public_pem: bytes, now_ns: int) -> str:
        """See `Registry.add_signer`."""
        key_id = key_id_of(public_pem)
        row = {"tenant": tenant, "key_id": key_id, "name": name, "public_pem": public_pem, "created_ns": now_ns}
        with self._database.write(tenant) as connection:
            check_tenant(connection, tenant)
            self._database.upsert(connection, t.signers, [row])
        return key_id

    def signers(self, tenant: str) -> Mapping[str, bytes]:
        """See `Registry.signers`."""
        with self._database.read(tenant) as connection:
            rows = connection.execute(_SIGNERS, {"tenant": tenant}).all()
        return {row.key_id: row.public_pem for row in rows}

    def put_model(self, tenant: str, blob: bytes, now_ns: int) -> ModelVersion:
        """See `Registry.put_model`; raises PackageError or DeniedError for a package that cannot be trusted."""
        described = self._verify(blob, self.signers(tenant))
        digest = hashlib.sha256(blob).hexdigest()
        wanted = {"tenant": tenant, "name": described.name, "version": described.version}
        row = {
            **wanted,
            "digest": digest,
            "model_id": described.model_id,
            "signer": described.signer,
            "size": len(blob),
            "created_ns": now_ns,
            "ports": pack_ports(described.inputs, described.outputs),
        }
        self._keep(blob)
        with self._database.write(tenant) as connection:
            check_tenant(connection, tenant)
            found = connection.execute(_MODEL, wanted).mappings().first()
            if found is None:
                connection.execute(insert(t.models), row)
                reference = f"{described.name}@{described.version}"
                record(connection, [News(tenant, "", "model", reference, now_ns, {"digest": digest})])
            elif found["digest"] != digest:
                raise ConflictError(
                    "ALREADY_EXISTS",
                    f"model {described.name}@{described.version} exists with another content",
                    hint="give the new content a new version",
                    digest=found["digest"],
                )
            return _version(row if found is None else found)

    def models(
        self, tenant: str, *, chosen: Filter | None = None, limit: int = 100, token: str = ""
    ) -> Page[ModelVersion]:
        """See `Registry.models`."""
        c = t.models.c
        statement = select(t.models).where(c.tenant == tenant)
        if chosen is not None:
            statement = statement.where(chosen.sql(MODEL_COLUMNS))
        if token:
            statement = statement.where(tuple_(c.name, c.version) > tuple_(*place_of(token, str, str)))
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(c.name, c.version), limit)).mappings().all()
        return page_of([_version(row) for row in rows], limit, lambda m: (m.name, m.version))

    def model(self, tenant: str, reference: str) -> ModelVersion:
        """See `Registry.model`."""
        with self._database.read(tenant) as connection:
            return find_model(connection, tenant, reference)

    def artifact(self, tenant: str, digest: str) -> bytes:
        """See `Ingest.artifact`; only what belongs to a model of this tenant."""
        with self._database.read(tenant) as connection:
            found = connection.execute(_ARTIFACT, {"tenant": tenant, "digest": digest}).first()
        if found is None:
            raise MissingError("NOT_FOUND", f"no artifact {digest}", hint="see `twinctl model list`", digest=digest)
        return self._blobs.get(digest)

    def _keep(self, blob: bytes) -> None:
        """The bytes go to disk before the row that names them; bytes without a row harm nobody."""
        digest = self._blobs.put(blob)
        try:
            self._blobs.get(digest)
        except StorageError as error:
            if error.reason != "STORE_CORRUPT":
                raise
            self._blobs.remove_damaged(digest)
            self._blobs.put(blob)


def find_model(connection: Connection, tenant: str, reference: str) -> ModelVersion:
    """A model by `name@version`; raises MissingError UNKNOWN_MODEL with the nearest name."""
    name, _, version = reference.partition("@")
    row = connection.execute(_MODEL, {"tenant": tenant, "name": name, "version": version}).mappings().first()
    if row is None:
        known = [f"{r.name}@{r.version}" for r in connection.execute(_NAMES, {"tenant": tenant})]
        raise MissingError("UNKNOWN_MODEL", f"no model {reference!r}{nearest(reference, known)}")
    return _version(row)


def check_tenant(connection: Connection, tenant: str) -> None:
    """Raises MissingError NOT_FOUND when there is no such tenant."""
    if connection.execute(_TENANT, {"tenant": tenant}).first() is None:
        raise MissingError("NOT_FOUND", f"no tenant {tenant!r}", hint="make it with `twincloud tenant create`")


def _version(row: RowMapping | Mapping[str, object]) -> ModelVersion:
    facts = dict(row)
    inputs, outputs = unpack_ports(facts.pop("ports"))
    return ModelVersion(**facts, inputs=inputs, outputs=outputs)


_TENANT = select(t.tenants.c.tenant).where(t.tenants.c.tenant == bindparam("tenant"))
_SIGNERS = select(t.signers).where(t.signers.c.tenant == bindparam("tenant")).order_by(t.signers.c.created_ns)
_MODEL = select(t.models).where(
    t.models.c.tenant == bindparam("tenant"),
    t.models.c.name == bindparam("name"),
    t.models.c.version == bindparam("version"),
)
_NAMES = select(t.models.c.name, t.models.c.version).where(t.models.c.tenant == bindparam("tenant"))
_ARTIFACT = select(t.models.c.digest).where(
    t.models.c.tenant == bindparam("tenant"), t.models.c.digest == bindparam("digest")
)
