"""Settings of the coordinator: defaults, then the YAML file, then flags.

host: 127.0.0.1          # REST and console
gateway_host: 0.0.0.0    # gRPC and enrolment, both behind TLS
names: [twins.plant.example, 10.0.0.5]
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConfigError, InputError
from twinmodel.profile.document import read_document

SYSTEM_CONFIG = Path("/etc/hybridtwin/twincloud.yaml")
DATABASE_VARIABLE = "TWINCLOUD_DATABASE"


class Settings(BaseModel):
    """Everything `twincloud serve` can be told.

    Attributes:
        state: directory of the database, the CA and the tokens.
        host: address REST and console listen on.
        gateway_host: address gRPC and enrolment listen on.
        port, sync_port, enrol_port: REST, gRPC, enrolment; 0 takes a free one.
        names: public names and addresses; the first one stands in join lines, all stand in the server certificate.
        leaf_days: lifetime of a gateway's certificate.
        renew_grace_days: how long after its end a gateway's certificate may still be renewed.
        period_s: nominal distance of a twin's newest values; older than three of them is stale.
        threads: workers that read the store for REST.
        watchers_max: event streams served at once.
        model_bytes_max: largest model package accepted.
        decoded_samples: newest samples kept decoded in memory for those who read history, about 25 bytes each.
        archive: where days of history go as Parquet, `file:///FOLDER` or `s3://BUCKET/PREFIX?endpoint=URL`; `archive`
            in the state directory by default.
        archive_days: age at which a day goes there, 0 for never.
        database: URI of the PostgreSQL that several coordinators share; "" for a file of this one alone. Its password
            may stand in it, in PGPASSFILE, in PGPASSWORD or in the next one.
        database_password_file: holds the password of the database's user.
        role: what this process serves: `api` people and their long work, `ingest` gateways and their enrolment, `all`
            both. Several processes with roles share one PostgreSQL.
        log: `debug`, `info`, `warning` or `error`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Path
    host: str = "127.0.0.1"
    gateway_host: str = "127.0.0.1"
    port: int = Field(8420, ge=0, le=65_535)
    sync_port: int = Field(8421, ge=0, le=65_535)
    enrol_port: int = Field(8422, ge=0, le=65_535)
    names: tuple[str, ...] = ()
    leaf_days: float = Field(30.0, gt=0, le=825)
    renew_grace_days: float = Field(90.0, ge=0, le=365)
    period_s: float = Field(10.0, gt=0, le=86_400)
    threads: int = Field(8, ge=1, le=64)
    watchers_max: int = Field(100, ge=1, le=10_000)
    model_bytes_max: int = Field(16 << 20, ge=1 << 10, le=256 << 20)
    decoded_samples: int = Field(3_000_000, ge=0, le=1_000_000_000)
    archive: str = Field("", max_length=1_000)
    archive_days: float = Field(30.0, ge=0, le=36_500)
    database: SecretStr = SecretStr("")
    database_password_file: Path | None = None
    role: Literal["all", "api", "ingest"] = "all"
    log: str = Field("info", pattern="^(debug|info|warning|error)$")

    @property
    def serves_people(self) -> bool:
        """Whether REST, console, operations and upkeep run here."""
        return self.role != "ingest"

    @property
    def serves_gateways(self) -> bool:
        """Whether gateways and their enrolment are served here."""
        return self.role != "api"

    def check_role(self) -> None:
        """Raises InputError VALUE_INVALID for a part of the work where nobody could do the rest."""
        if self.role != "all" and not self.database.get_secret_value():
            raise InputError(
                "VALUE_INVALID",
                f"role: {self.role} shares a PostgreSQL with other processes, a file has one process alone",
                hint="leave `role:` out, or set `database:`; see docs/scaling.md",
                field="role",
            )

    @property
    def database_url(self) -> str:
        """Where the shared database is, with its password; "" when the store is a file of the state directory.

        Raises:
            ConfigError: FILE_MISSING when the password's file cannot be read.
            InputError: VALUE_INVALID when it is no URI.
        """
        url = self.database.get_secret_value()
        if not url:
            return ""
        if not url.startswith(("postgresql://", "postgres://")):
            raise InputError("VALUE_INVALID", "database: it is no postgresql:// URI", field="database")
        if self.database_password_file is None:
            return url
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415 start-up time

        try:
            password = self.database_password_file.read_text().strip()
        except OSError as error:
            path = str(self.database_password_file)
            raise ConfigError("FILE_MISSING", f"the password cannot be read: {error.strerror}", path=path) from error
        return make_conninfo(url, password=password)

    @property
    def public_name(self) -> str:
        """The name gateways use to come here."""
        if self.names:
            return self.names[0]
        return "127.0.0.1" if self.gateway_host in {"0.0.0.0", "::", ""} else self.gateway_host  # noqa: S104 compared

    @property
    def stale_ns(self) -> int:
        """Age beyond which a twin's newest value is stale."""
        return round(3 * self.period_s * SECOND_NS)


def default_state(environ: Mapping[str, str], *, root: bool) -> Path:
    """/var/lib/twincloud as root, else the XDG state directory."""
    if root:
        return Path("/var/lib/twincloud")
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/")) / ".local" / "state")
    return Path(base) / "twincloud"


def load_settings(
    path: Path | None = None, flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Joins defaults, file and flags (those that are not None).

    Raises:
        ConfigError: FILE_MISSING, YAML_INVALID, UNKNOWN_KEY, VALUE_INVALID with the place in the file.
        InputError: VALUE_INVALID when a flag is wrong.
    """
    environ = os.environ if environ is None else environ
    chosen = path or next((p for p in (SYSTEM_CONFIG, _user_config(environ)) if p.is_file()), None)
    given: dict[str, object] = {"state": default_state(environ, root=os.geteuid() == 0)}
    if chosen is not None:
        document = read_document(chosen)
        content = document.content if document.content is not None else {}
        if not isinstance(content, dict):
            raise ConfigError("VALUE_INVALID", "the file is no mapping of settings", path=str(chosen), line=1, column=1)
        if content:
            document.validate(_FileSettings)
        given |= content
    if environ.get(DATABASE_VARIABLE):
        given["database"] = environ[DATABASE_VARIABLE]
    given |= {key: value for key, value in (flags or {}).items() if value not in (None, ())}
    try:
        return Settings.model_validate(given)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError("VALUE_INVALID", f"{name}: {first['msg']}", field=name) from None


class _FileSettings(Settings):
    """What a file may hold; the state directory may come from elsewhere."""

    state: Path = Path()


def _user_config(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    return Path(base) / "hybridtwin" / "twincloud.yaml"
