"""The open directives of each gateway as messages of the session, and their outcomes back into the store."""

from __future__ import annotations

from twincloud.storage.contract import Directive, GatewayKey, Ingest
from twinmodel.clock import Clock
from twinsync.directive import Directive as WireDirective
from twinsync.directive import DirectiveKind, DirectiveState

DIRECTIVES_MAX = 256
_KINDS = {"model": DirectiveKind.MODEL, "config": DirectiveKind.CONFIG, "alarm": DirectiveKind.ALARM}


class Mailbox:
    """Reads and settles directives; blocking, so call it in a thread."""

    def __init__(self, store: Ingest, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def waiting(self, gateway: GatewayKey) -> tuple[WireDirective, ...]:
        """The oldest directives of a gateway that have no outcome yet, at most `DIRECTIVES_MAX`.

        Of one target the newest comes first: a gateway that has not begun with the older one then leaves it.
        """
        found = self._store.open_directives(gateway)[:DIRECTIVES_MAX]
        places = {directive.target: place for place, directive in reversed(list(enumerate(found)))}
        return tuple(map(_to_wire, sorted(found, key=lambda one: (places[one.target], -one.version))))

    def settle(self, gateway: GatewayKey, state: DirectiveState) -> None:
        """Keeps an outcome; the same outcome twice is no error.

        Raises:
            MissingError: the store knows no such directive of this gateway.
            StorageError: the store refuses; the gateway tells the outcome again in its next session.
        """
        self._store.settle_directive(
            gateway,
            state.id,
            state.outcome.name,
            reason=state.reason,
            detail=state.detail,
            running=state.running_digest.hex(),
            now_ns=self._clock.wall_ns(),
        )


def _to_wire(directive: Directive) -> WireDirective:
    return WireDirective(
        directive.id,
        _KINDS.get(directive.kind, DirectiveKind.UNSPECIFIED),
        directive.target,
        directive.version,
        bytes.fromhex(directive.digest),
        directive.size,
        directive.name,
        directive.deadline_ns,
        directive.content,
    )
