"""Every failure a user can meet, as one tree of errors and one registry of reasons.

    TwinError
    ├── InputError          a file, a flag or a request is wrong: the user mends it
    │   ├── ConfigError         a YAML file (carries path, line, column)
    │   └── PackageError        a `.twin` model package
    ├── MissingError        the named thing does not exist
    ├── ConflictError       it exists, but its state forbids the request
    ├── DeniedError         identity or policy forbids it
    ├── UnreachableError    a peer, a broker or a device does not answer
    └── StorageError        a disk or a database refuses

A reason is stable and UPPER_SNAKE; programs match on it, people read the message and the hint. One
table maps a reason to the exit code, the HTTP status and the gRPC status, so that no caller guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes shared by every command of the project."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNHEALTHY = 3
    NOT_ALLOWED = 4
    UNREACHABLE = 5


@dataclass(frozen=True, slots=True)
class Reason:
    """How one reason is told to a shell, a browser and a gateway, and what to do about it.

    Attributes:
        exit: exit code of a command that ends with it.
        http: status of the problem document.
        grpc: name of the gRPC status code.
        hint: what to do, when the place that raised it knows nothing better.
    """

    exit: Exit
    http: int
    grpc: str
    hint: str


_INPUT = (Exit.USAGE, 422, "INVALID_ARGUMENT")
_MISSING = (Exit.FAILED, 404, "NOT_FOUND")
_CONFLICT = (Exit.FAILED, 409, "FAILED_PRECONDITION")
_DENIED = (Exit.NOT_ALLOWED, 403, "PERMISSION_DENIED")
_UNREACHABLE = (Exit.UNREACHABLE, 503, "UNAVAILABLE")
_STORAGE = (Exit.UNHEALTHY, 507, "RESOURCE_EXHAUSTED")


def _reason(kind: tuple[Exit, int, str], hint: str) -> Reason:
    return Reason(*kind, hint)


REASONS: dict[str, Reason] = {
    # files
    "FILE_MISSING": _reason(_INPUT, "check the path"),
    "YAML_INVALID": _reason(_INPUT, "correct the YAML at the line named"),
    "UNKNOWN_KEY": _reason(_INPUT, "remove the key or use the nearest valid name"),
    "VALUE_INVALID": _reason(_INPUT, "correct what is named"),
    "PROFILE_MISSING": _reason(_INPUT, "add the profile or correct its name in site.yaml"),
    # collections of other tools, imported as profiles
    "SOURCE_INVALID": _reason(_INPUT, "name the format the file really has, or mend it at the place named"),
    "POINT_AMBIGUOUS": _reason(_INPUT, "say what is missing with the option named, or write the point by hand"),
    "POINT_DUPLICATE": _reason(_INPUT, "use the point that reads the same already"),
    "POINT_NOT_READABLE": _reason(_INPUT, "add `write:` rules to a point that reads the same place, if there is one"),
    "POINT_RESERVED": _reason(_INPUT, "nothing: there is no value to carry"),
    "POINT_TYPE_UNKNOWN": _reason(_INPUT, "write the point by hand, as a type of docs/profiles.md"),
    "FIRMWARE_UNKNOWN": _reason(
        _INPUT, "add a profile for this firmware, or widen `firmware:` of the nearest once its points were compared"
    ),
    "CONFIG_REFUSED": _reason(
        _INPUT, "correct what `twinedge config validate` names, then `twinedge config reload`; what ran before goes on"
    ),
    "CONFIG_CONFLICT": _reason(
        _CONFLICT, "read what is in force now, apply your change to it, and send it again with its digest as the base"
    ),
    "PROBATION_FAILED": _reason(_CONFLICT, "the last good configuration runs again; mend what is named, send it anew"),
    "UNKNOWN_SIGNAL": _reason(_INPUT, "use `device.point` with a point of the device's profile"),
    "DUPLICATE_SIGNAL": _reason(_INPUT, "give each signal one name"),
    "UNIT_CLASH": _reason(_INPUT, "bind signals whose units have the model's dimension"),
    "UNIT_UNKNOWN": _reason(_INPUT, "use a unit of docs/models.md"),
    # model packages
    "PACKAGE_TRUNCATED": _reason(_INPUT, "fetch or build the package again"),
    "PACKAGE_ALTERED": _reason(_INPUT, "fetch the package again from the coordinator"),
    "PACKAGE_INVALID": _reason(_INPUT, "rebuild it with `twinctl model build`"),
    "KERNEL_TOO_LARGE": _reason(_CONFLICT, "use the generic kernel, tier vm"),
    "LINKER_MISSING": _reason(_CONFLICT, "install a C compiler or a linker, for example Debian's gcc or binutils"),
    "PACKAGE_UNSIGNED": _reason(_DENIED, "sign it with `twinctl model sign`"),
    "SIGNER_UNKNOWN": _reason(
        _DENIED, "register the key with `twinctl model trust`, then let the gateway join again to learn it"
    ),
    "EQUATION_INVALID": _reason(_INPUT, "correct the equation at the place named"),
    "PARITY_FAILED": _reason(_CONFLICT, "do not force it: report processor, versions and model"),
    # calibration
    "FIT_DATA_UNFIT": _reason(_INPUT, "give longer data in which the inputs move"),
    "FIT_NOT_IDENTIFIABLE": _reason(
        _CONFLICT, "hold one of the parameters named, give it a prior `sigma`, or measure while the input named moves"
    ),
    "FIT_FAILED": _reason(_CONFLICT, "correct start values, bounds and units of the model, then fit again"),
    "MODEL_UNSTABLE": _reason(_CONFLICT, "give a stable model, or another order"),
    # wire
    "BLOCK_CORRUPT": _reason(_INPUT, "the block goes to the dead letters; see `twinctl deadletter list`"),
    "BLOCK_UNSUPPORTED": _reason(
        _CONFLICT, "a newer build wrote it: upgrade this one, then `twinctl deadletter requeue`"
    ),
    "SCHEMA_UNKNOWN": _reason(_CONFLICT, "send the catalogue before blocks that name it"),
    "PROTOCOL_VIOLATION": _reason(_INPUT, "upgrade the older side"),
    "UPGRADE_REQUIRED": _reason(_CONFLICT, "upgrade the side with the older protocol; the agent buffers meanwhile"),
    "FENCED": _reason(_CONFLICT, "a newer session of this gateway is open; stop one of the two agents"),
    "IDENTITY_FORK": _reason(_CONFLICT, "re-provision one of the two gateways with `twinctl gateway invite`"),
    "SERVER_REGRESSED": _reason(_CONFLICT, "the coordinator was restored; the acked tail is sent again"),
    "BOOT_CHANGED": _reason(_UNREACHABLE, "nothing: the disk is back, and the session opens anew by itself"),
    "LIMIT_EXCEEDED": _reason((Exit.FAILED, 413, "RESOURCE_EXHAUSTED"), "send less at once"),
    # identity
    "CERT_EXPIRED": _reason(_DENIED, "run `twinedge join` with a new invitation"),
    "CERT_INVALID": _reason(_DENIED, "run `twinedge join` with a new invitation"),
    "CERT_UNTRUSTED": _reason(_DENIED, "compare the thumbprint with what the server shows, then trust its certificate"),
    "FINGERPRINT_MISMATCH": _reason(_DENIED, "copy the join line again; if it still differs, do not join"),
    "TOKEN_INVALID": _reason(
        (Exit.NOT_ALLOWED, 401, "UNAUTHENTICATED"), "use a token that `twincloud token create` printed"
    ),
    "INVITE_INVALID": _reason(_DENIED, "ask for a new line with `twinctl gateway invite`"),
    "NO_DEVICE_FOUND": _reason(_MISSING, "look closer with `twinedge probe`, or write site.yaml by hand"),
    "LOOP_STUCK": _reason(
        (Exit.UNHEALTHY, 503, "UNAVAILABLE"),
        "nothing: the supervisor restarts the agent; send a `twinedge doctor --bundle FILE`",
    ),
    "ROOT_NEEDED": _reason(_DENIED, "run it with sudo, or prepare an image with --root"),
    "SERVICE_REFUSED": _reason(
        _CONFLICT, "look at what the command said; `journalctl -u twinedge` tells why a start failed"
    ),
    "NOT_JOINED": _reason(_CONFLICT, "run the line that `twinctl gateway invite` printed"),
    "FORBIDDEN": _reason(_DENIED, "ask an administrator for the role named"),
    "SUSPENDED": _reason(_DENIED, "the gateway is suspended; ask its operator"),
    # things
    "NOT_FOUND": _reason(_MISSING, "list what exists with `twinctl ... list`"),
    "UNKNOWN_MODEL": _reason(_MISSING, "push the model with `twinctl model push`"),
    "UNKNOWN_TWIN": _reason(_MISSING, "see `twinctl twin list`"),
    "UNKNOWN_DEFINITION": _reason(_MISSING, "publish it with `twinctl twin define`"),
    "UNKNOWN_PROPERTY": _reason(_MISSING, "see `twinctl twin definition` for the properties it has"),
    "UNKNOWN_FLEET": _reason(_MISSING, "see `twinctl fleet list`"),
    "UNKNOWN_ALARM": _reason(_MISSING, "see `twinedge alarm list --all`, or `twinctl alarm list --all`"),
    "ALARM_CHANGED": _reason(_CONFLICT, "look at the alarm again: it came back since you did"),
    "UNKNOWN_GATEWAY": _reason(_MISSING, "see `twinctl gateway list`"),
    "ALREADY_EXISTS": _reason(_CONFLICT, "use another name or version"),
    "DEFINITION_CYCLE": _reason(_CONFLICT, "let one of the definitions named extend none of the others"),
    "DEFINITION_CONFLICT": _reason(_CONFLICT, "say the same as what is inherited, or something narrower"),
    "TRANSITION_FORBIDDEN": _reason(_CONFLICT, "see the table of states in docs/twins.md"),
    "TWIN_OUT_OF_SERVICE": _reason(_CONFLICT, "take the twin into service first with `twinctl twin set`"),
    "TWIN_IN_USE": _reason(_CONFLICT, "retire the twin, or remove what uses it"),
    "TWIN_UNREPORTED": _reason(_CONFLICT, "bind the twin in site.yaml of a gateway"),
    "NOT_WRITABLE": _reason(_CONFLICT, "desire a property whose definition says `desired: true`"),
    "RELATION_INVALID": _reason(_CONFLICT, "see `twinctl twin definition` for the relationships it has"),
    "MODEL_DIVERGED": _reason(
        _CONFLICT, "the model before it runs again; check the new one against data of this machine"
    ),
    "MODEL_UNFIT": _reason(_CONFLICT, "assign a model whose inputs, outputs and units the twin has"),
    "DEADLINE_PASSED": _reason(_CONFLICT, "assign the model again with a later deadline"),
    "DIRECTIVE_OPEN": _reason(_CONFLICT, "the gateway may still answer; see `twinctl directive list`"),
    # commands, as the coordinator refuses or ends them
    "GATEWAY_OFFLINE": _reason(_UNREACHABLE, "wait until the gateway is back: a command never waits for a session"),
    "OWN_APPROVAL": _reason(_DENIED, "let another person approve it, with a token of their own"),
    "COMMAND_CLOSED": _reason(_CONFLICT, "see what became of it with `twinctl command show`"),
    "COMMAND_CANCELLED": _reason(_CONFLICT, "issue it again when it is wanted after all"),
    "DIRECTIVE_REJECTED": _reason(_CONFLICT, "see `twinctl directive list` and the gateway's log"),
    "OPERATION_CANCELLED": _reason(_CONFLICT, "ask again when it is wanted after all"),
    "TWIN_CYCLE": _reason(_CONFLICT, "let one of the twins named be fed by measurements instead"),
    "OPERATION_LOST": _reason(_CONFLICT, "ask for less at once; see the log of the coordinator"),
    "KNOWN_AT_OPEN": _reason(_INPUT, "name a time that is over; what is known at it never changes"),
    "KNOWN_AT_EXPIRED": _reason(
        _MISSING, "name a later time: of what was known then, retention keeps no more; see `twinctl retention show`"
    ),
    "HISTORY_EXPIRED": _reason(
        _MISSING, "ask for a later time; `twinctl retention show` tells how long history is kept"
    ),
    "REQUEST_INVALID": _reason(_INPUT, "correct the field named"),
    "FILTER_INVALID": _reason(_INPUT, "correct the filter at the column named; its grammar is in docs/api.md"),
    "METHOD_NOT_ALLOWED": _reason((Exit.USAGE, 405, "UNIMPLEMENTED"), "use a method that the answer's Allow names"),
    "MEDIA_UNSUPPORTED": _reason((Exit.USAGE, 415, "INVALID_ARGUMENT"), "send `Content-Type: application/json`"),
    "PRECONDITION_FAILED": _reason(
        (Exit.FAILED, 412, "FAILED_PRECONDITION"), "read it again, apply your change to what it is now, and try again"
    ),
    "PRECONDITION_REQUIRED": _reason(
        (Exit.USAGE, 428, "FAILED_PRECONDITION"), "read it first and send its ETag as If-Match"
    ),
    "KEY_REUSED": _reason(_INPUT, "use a new Idempotency-Key for another request"),
    "IN_PROGRESS": _reason(_CONFLICT, "wait the seconds of Retry-After and send the same request again"),
    "ANSWER_LOST": _reason(
        _CONFLICT, "read what the request changes; when it did not happen, use a new Idempotency-Key"
    ),
    "RATE_LIMITED": _reason((Exit.UNREACHABLE, 429, "RESOURCE_EXHAUSTED"), "wait a few seconds and try again"),
    "NOT_READY": _reason(_UNREACHABLE, "wait until the coordinator has started, then see `twincloud doctor`"),
    "INTERNAL": _reason((Exit.FAILED, 500, "INTERNAL"), "see the log of the coordinator at this time and report it"),
    # places
    "PORT_IN_USE": _reason(_CONFLICT, "stop the other process or choose another port"),
    "STATE_LOCKED": _reason(_CONFLICT, "another process uses this state directory; stop it"),
    "STATE_INVALID": _reason(_STORAGE, "see docs/runbook.md"),
    "NOT_INITIALISED": _reason(_CONFLICT, "run the `init` command first"),
    "AGENT_NOT_RUNNING": _reason(_UNREACHABLE, "see that `twinedge run` is up on this state directory, as this user"),
    "EXTRA_MISSING": _reason(_CONFLICT, "install the extra named"),
    "TOOL_MISSING": _reason(_CONFLICT, "install the program named, of the version named or newer"),
    # storage
    "STORE_FULL": _reason(_STORAGE, "free disk space; the agent goes on and heals by itself"),
    "STORE_SYNC_FAILED": _reason(_STORAGE, "check the disk; the store is reopened by itself"),
    "STORE_CORRUPT": _reason(_STORAGE, "the damaged file was set aside; see docs/runbook.md"),
    "STORE_UNAVAILABLE": _reason(_UNREACHABLE, "see that the database server runs; gateways wait and nothing is lost"),
    "STORE_READ_ONLY": _reason(_STORAGE, "remount the file system read-write"),
    "ARCHIVE_DAMAGED": _reason(_STORAGE, "see `twincloud archive verify`; restore the object named from its backup"),
    "ARCHIVE_DENIED": _reason(_DENIED, "check key, secret, bucket and policy of `archive:`; nothing was deleted here"),
    "ARCHIVE_UNREACHABLE": _reason(_UNREACHABLE, "check endpoint and network of `archive:`; nothing was deleted here"),
    # commands
    "COMMAND_NOT_ALLOWED": _reason(
        _DENIED, "name it in `commands: {allow: [...]}` of site.yaml, once the profile has its rules"
    ),
    "COMMAND_INVALID": _reason(_INPUT, "send a value of the point's kind, or the method's arguments in their order"),
    "COMMAND_OUT_OF_RANGE": _reason(_INPUT, "send a value within the range of the profile's rules"),
    "COMMAND_STEP_TOO_LARGE": _reason(_CONFLICT, "go there in smaller steps"),
    "COMMAND_RATE_EXCEEDED": _reason(_CONFLICT, "wait until the rate of the profile's rules allows another one"),
    "COMMAND_UNAPPROVED": _reason(_DENIED, "have a second person approve it: class B needs two"),
    "COMMAND_INTERLOCKED": _reason(_CONFLICT, "see that what the interlock names holds, then send a new command"),
    "COMMAND_LATE": _reason(_CONFLICT, "send a new command with a longer deadline; nothing was done"),
    "COMMAND_SESSION_ENDED": _reason(_CONFLICT, "send a new command once the gateway is connected"),
    "COMMAND_FROZEN": _reason(_CONFLICT, "re-provision one of the two gateways that share this identity"),
    "COMMAND_QUEUE_FULL": _reason(_CONFLICT, "wait for the commands before it to end"),
    "COMMAND_SUPERSEDED": _reason(_CONFLICT, "nothing: another command for the same point took its place"),
    "COMMAND_LEDGER_UNAVAILABLE": _reason(_STORAGE, "free disk space: what cannot be recorded is not done"),
    "COMMAND_REFUSED_BY_DEVICE": _reason(_CONFLICT, "see the device's code and its own settings for remote control"),
    "COMMAND_NOT_TAKEN": _reason(
        _CONFLICT, "the device took the command and shows another value: look at its operating mode"
    ),
    "COMMAND_UNANSWERED": _reason(_UNREACHABLE, "look at the device before another command: it may have been done"),
    "COMMAND_INTERRUPTED": _reason(
        _UNREACHABLE, "look at the device before another command: the agent ended while it was done"
    ),
    # far ends
    "COORDINATOR_UNREACHABLE": _reason(_UNREACHABLE, "check the address and that the coordinator runs"),
    "AGENT_SUSPENDED": _reason(_UNREACHABLE, "keep the gateway's machine from sleeping"),
    "DEVICE_UNREACHABLE": _reason(_UNREACHABLE, "check the device's address, cable and power"),
    "DEVICE_REFUSED": _reason(_UNREACHABLE, "check the credentials and the certificate trust of the device"),
    "LISTEN_FAILED": _reason(_CONFLICT, "listen on an address of this machine, and a port this user may take"),
    "BROKER_UNREACHABLE": _reason(_UNREACHABLE, "check the broker's address, cable and power; it is tried on"),
    "BROKER_REFUSED": _reason(_UNREACHABLE, "check user, password file and certificates of `northbound.mqtt.security`"),
    "QUEUE_OVERFLOW": _reason(_UNREACHABLE, "raise `queue` of the points in the profile, or `every`"),
    "DEVICE_MISMATCH": _reason(_CONFLICT, "correct the profile, or use the one of the device's firmware"),
    "UNKNOWN_DEVICE": _reason(_MISSING, "name a device of site.yaml"),
}


class TwinError(Exception):
    """Root of all errors that carry a stable reason.

    Attributes:
        reason: UPPER_SNAKE key of `REASONS`.
        message: what went wrong and where, one sentence.
        hint: what to do about it.
        facts: named values of this occurrence (path, line, expected, found ...).
    """

    def __init__(self, reason: str, message: str, *, hint: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint if hint is not None else REASONS[reason].hint
        self.facts = facts

    @property
    def outcome(self) -> Reason:
        """The exit code, HTTP status and gRPC status of this reason."""
        return REASONS[self.reason]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class InputError(TwinError):
    """What a person or a program handed in is wrong."""


class ConfigError(InputError):
    """A YAML file is wrong; facts carry `path`, `line` and `column`, counted from 1."""

    def __str__(self) -> str:
        place = ":".join(str(self.facts[k]) for k in ("path", "line", "column") if self.facts.get(k) is not None)
        return f"{place}: {super().__str__()}" if place else super().__str__()


class PackageError(InputError):
    """A model package is refused; nothing of it was run."""


class MissingError(TwinError):
    """The thing named does not exist."""


class ConflictError(TwinError):
    """The thing exists, but its state forbids what was asked."""


class DeniedError(TwinError):
    """Identity or policy forbids what was asked."""


class UnreachableError(TwinError):
    """A far end does not answer; worth another try later."""


class StorageError(TwinError):
    """A disk or database refuses; nothing acknowledged is lost by it."""
