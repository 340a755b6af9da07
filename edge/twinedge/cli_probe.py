"""Commands of who installs a gateway: look at devices, try them, trust them; nothing of it writes to a device."""

from __future__ import annotations

from pathlib import Path

import click

from twinedge.cli_options import emit, output_option, pairs, say, state_option


@click.group("trust")
def trust_group() -> None:
    """Certificates of OPC UA servers that this gateway trusts, and its own."""


@trust_group.command("list")
@state_option
@output_option
def trust_list(state: Path, output: str) -> None:
    """Servers' certificates: those a person has accepted, and those that wait for one."""
    from twinedge.probe import trust  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    rows = trust.listed(state, SystemClock())
    emit(output, rows, trust.listed_text(rows))


@trust_group.command("accept")
@click.argument("thumbprint")
@state_option
@output_option
def trust_accept(thumbprint: str, state: Path, output: str) -> None:
    """Trust the waiting certificate whose THUMBPRINT begins so; compare it with what the server shows first."""
    from twinedge.probe import trust  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    row = trust.accept(state, thumbprint, SystemClock())
    emit(output, row, pairs({"trusted": row["thumbprint"], "name": row["name"], "hosts": ", ".join(row["hosts"])}))
    say("a running agent uses it at its next attempt to connect, within seconds")


@trust_group.command("revoke")
@click.argument("thumbprint")
@state_option
@output_option
def trust_revoke(thumbprint: str, state: Path, output: str) -> None:
    """Trust a certificate no longer: it waits again, and the next connection to its server is refused."""
    from twinedge.probe import trust  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    row = trust.revoke(state, thumbprint, SystemClock())
    emit(output, row, pairs({"revoked": row["thumbprint"], "name": row["name"]}))
    say("a connection that stands is not cut; restart the agent to end it at once")


@trust_group.command("show")
@click.argument("thumbprint", required=False)
@state_option
@output_option
def trust_show(thumbprint: str | None, state: Path, output: str) -> None:
    """Show a server's certificate in full; without THUMBPRINT our own, which servers must trust."""
    from twinedge.probe import trust  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    clock = SystemClock()
    document = trust.one(state, thumbprint, clock) if thumbprint else trust.own(state, clock)
    emit(output, document, trust.described_text(document))
    if not thumbprint:
        say("on each server: put this file among its trusted client certificates, or accept the thumbprint there")


COMMANDS: tuple[click.Command, ...] = (trust_group,)
