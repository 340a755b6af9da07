"""`twinedge doctor`: what is wrong, what can be mended, and a bundle for whoever helps."""

from __future__ import annotations

from pathlib import Path

import click

from twinedge.cli_options import config_option, emit, end, output_option, quieten, say, state_option
from twinmodel.errors import Exit

_MARKS = {"ok": "ok   ", "warn": "WARN ", "bad": "BAD  "}


@click.command("doctor")
@config_option
@state_option
@click.option("--kernel-cache", type=click.Path(file_okay=False, path_type=Path), help="Folder of compiled kernels.")
@click.option("--fix", is_flag=True, help="Mend what can be mended safely: rights, folders, kernels, the unit.")
@click.option("--bundle", type=click.Path(dir_okay=False, path_type=Path), help="Write FILE.tar.gz for whoever helps.")
@output_option
def doctor_command(
    config: Path, state: Path, kernel_cache: Path | None, bundle: Path | None, output: str, *, fix: bool
) -> None:
    """Look at everything a gateway needs, and say what to do; exit code 3 when something keeps it from its work.

    Works beside a running agent and without one. --fix touches neither the configuration nor any data. --bundle holds
    configuration, clocks, certificates, spool, drivers, kernels and logs, with secrets and persons blanked.
    """
    from twinedge.doctor.bundle import write_bundle  # noqa: PLC0415 - --help stays fast
    from twinedge.doctor.examine import examine, sound  # noqa: PLC0415 - --help stays fast
    from twinedge.doctor.finding import Place  # noqa: PLC0415 - --help stays fast
    from twinedge.doctor.fixes import mend  # noqa: PLC0415 - --help stays fast
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - --help stays fast

    quieten()
    place = Place(config, state, kernel_cache, SystemClock())
    found = examine(place)
    if fix:
        for line in mend(place, found):
            say(f"mended: {line}")
        found = examine(place)
    rows = []
    for one in found:
        rows.append(f"{_MARKS[one.verdict.value]}{one.check:<18}{one.detail}")
        if one.hint and one.verdict.value != "ok":
            rows.append(f"{'':<23}{one.hint}{' (--fix does it)' if one.fix else ''}")
    emit(output, [one.document() for one in found], "\n".join(rows))
    if bundle is not None:
        names = write_bundle(place, found, bundle)
        say(f"{bundle} written: {len(names)} files, secrets and persons blanked; look at it before you send it")
    end(0 if sound(found) else Exit.UNHEALTHY)
