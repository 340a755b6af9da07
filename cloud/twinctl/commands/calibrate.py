"""`twinctl model fit|identify|reduce`: models from measured data and from larger models, at the desk."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click

from twinctl.commands.model_source import FILE, replace_file, write_file
from twinctl.options import FileVerb
from twinctl.render import Column, Json, emit, field_of, say
from twinmodel.errors import ConflictError, InputError

if TYPE_CHECKING:
    from twinmodel.fit.publish import Outcome
    from twinmodel.importers.dataset import Dataset, Ports

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class Part(click.ParamType):
    """A part of a whole: `30%` or `0.3`."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The part as a number from 0 to below 1."""
        found = _PERCENT.fullmatch(str(value).strip())
        try:
            part = float(found[1]) / 100.0 if found else float(value)
        except ValueError:
            part = -1.0
        if not 0.0 <= part <= 0.9:
            self.fail(f"{value!r} is no part of the data; write 30% or 0.3, at most 90%", param, ctx)
        return part


def _mapping(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        port, equals, column = value.partition("=")
        if not (port and equals and column):
            raise click.BadParameter(f"{value!r}: write PORT=COLUMN")
        found[port] = column
    return found


def _data_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--data", required=True, type=FILE, help="Measured data (CSV): time, then a column a signal."),
        click.option(
            "--map", "mapping", multiple=True, callback=_mapping, metavar="PORT=COLUMN", help="Column of a port."
        ),
        click.option(
            "--holdout", type=Part(), default="30%", show_default=True, help="Latest part, kept from the fit."
        ),
    ):
        command = option(command)
    return command


@click.command(cls=FileVerb)
@click.argument("file", metavar="MODEL", type=FILE)
@_data_options
@click.option("--only", multiple=True, metavar="PARAM", help="Fit these instead of those marked `calibrate: true`.")
@click.option("--starts", type=click.IntRange(1, 256), default=8, show_default=True, help="Descents.")
@click.option("--seed", type=int, default=0, show_default=True, help="Where the starts are drawn from.")
@click.option("--robust", is_flag=True, help="Outliers count less.")
@click.option("--noise/--no-noise", default=True, show_default=True, help="Estimate Q and R too.")
@click.option("--version", "version", metavar="X.Y.Z", help="Version of the new model; the next minor one.")
@click.option("--report", type=click.Path(file_okay=False, path_type=Path), help="Folder of the report; beside OUT.")
@click.option("-o", "--out", type=FILE, help="Model file to write; NAME-VERSION.yaml beside MODEL.")
@click.pass_context
def fit(
    ctx: click.Context,
    file: Path,
    data: Path,
    mapping: dict[str, str],
    holdout: float,
    only: tuple[str, ...],
    starts: int,
    seed: int,
    version: str | None,
    report: Path | None,
    out: Path | None,
    *,
    robust: bool,
    noise: bool,
) -> None:
    """Fit the parameters of MODEL (YAML) to measured data.

    Writes a new model file, its unsigned package, and a report. Refuses when the data cannot tell the parameters.
    """
    _require_fit()
    from twinmodel.equations.load import load  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.fit.calibrate import Settings  # noqa: PLC0415 - as above
    from twinmodel.fit.publish import fit_model, step_for, write_report  # noqa: PLC0415 - as above

    document = load(file)
    measured = _read(document, data, mapping)
    settings = Settings(starts=starts, robust=robust, only=only)
    step = step_for("auto") if noise else None
    random = Random(seed)  # noqa: S311 - starts of a search, the same for a seed
    outcome = fit_model(document, measured, random, settings, holdout=holdout, version=version, step=step)
    name = outcome.figures["model"].replace("@", "-")
    target = out or file.with_name(f"{name}.yaml")
    _write_model(ctx, target, outcome.text, outcome.package)
    folder = report or target.with_suffix(".report")
    try:
        page = write_report(outcome, folder)
    except OSError as cause:
        raise InputError("FILE_MISSING", f"cannot write the report to {folder}: {cause.strerror}") from cause
    files = {"file": str(target), "package": str(target.with_suffix(".twin")), "report": str(page)}
    emit(ctx, outcome.figures | files, _FITTED)
    _tell(outcome)
    say(f"next: look at {page}, then twinctl model sign {target.with_suffix('.twin')} --key KEY")


@click.command(cls=FileVerb)
@click.option("--name", required=True, help="Name of the new model.")
@click.option("--input", "inputs", multiple=True, required=True, metavar="NAME[:UNIT]", help="An input.")
@click.option("--measured", "outputs", multiple=True, required=True, metavar="NAME[:UNIT]", help="An output.")
@click.option("--dt", required=True, metavar="500ms|1s", help="Distance of the model's ticks.")
@_data_options
@click.option("--order", type=click.IntRange(1, 16), help="Number of states; chosen by the part held out.")
@click.option("--version", "version", metavar="X.Y.Z", default="1.0.0", show_default=True)
@click.option("-o", "--out", type=FILE, help="Model file to write; NAME.yaml.")
@click.pass_context
def identify(
    ctx: click.Context,
    name: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    dt: str,
    data: Path,
    mapping: dict[str, str],
    holdout: float,
    order: int | None,
    version: str,
    out: Path | None,
) -> None:
    """Find a linear model in measured data: OKID and ERA, the order chosen by the part held out."""
    _require_fit()
    from twinmodel.fit.linear import Wanted, identify_model  # noqa: PLC0415 - numpy takes 100 ms `--help` does not pay

    wanted = Wanted(name, version, dt, _ports(inputs), _ports(outputs))
    measured = _read_ports(wanted.ports(), data, mapping)
    text, package, figures = identify_model(wanted, measured, holdout=holdout, order=order)
    target = out or Path(f"{name}.yaml")
    _write_model(ctx, target, text, package)
    files = {"file": str(target), "package": str(target.with_suffix(".twin"))}
    emit(ctx, figures | files, _IDENTIFIED)


@click.command(cls=FileVerb)
@click.argument("file", metavar="FILE", type=FILE)
@click.option("--order", type=click.IntRange(1, 16), help="States to keep.")
@click.option("--error", type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True), help="Largest relative error.")
@click.option("--name", help="Name of the new model; that of FILE with `-reduced`.")
@click.option("--version", "version", metavar="X.Y.Z", default="1.0.0", show_default=True)
@click.option("--dt", metavar="500ms|1s", help="Distance of the ticks, where FILE does not say it.")
@click.option("--input", "inputs", multiple=True, metavar="NAME[:UNIT]", help="An input, where FILE does not name it.")
@click.option("--measured", "outputs", multiple=True, metavar="NAME[:UNIT]", help="An output, likewise.")
@click.option("-o", "--out", type=FILE, help="Model file to write; NAME.yaml beside FILE.")
@click.pass_context
def reduce(
    ctx: click.Context,
    file: Path,
    order: int | None,
    error: float | None,
    name: str | None,
    version: str,
    dt: str | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    out: Path | None,
) -> None:
    """Cut a stable linear model by balanced truncation.

    FILE is a linear model (YAML), or A, B, C and D as .npz or .safetensors. The error bound goes into the provenance.
    """
    _require_fit()
    from twinmodel.fit.linear import Wanted, reduce_model  # noqa: PLC0415 - numpy takes 100 ms `--help` does not pay

    wanted = Wanted(name or "", version, dt or "", _ports(inputs), _ports(outputs))
    text, package, figures = reduce_model(file, wanted, order=order, error=error)
    target = out or file.with_name(f"{figures['model'].partition('@')[0]}.yaml")
    _write_model(ctx, target, text, package)
    files = {"file": str(target), "package": str(target.with_suffix(".twin"))}
    emit(ctx, figures | files, _REDUCED)


def _require_fit() -> None:
    """Raises ConflictError EXTRA_MISSING when the libraries of calibration are not installed."""
    from importlib.util import find_spec  # noqa: PLC0415 - only these commands need it

    lacking = [name for name in ("scipy", "matplotlib", "pymor") if find_spec(name) is None]
    if lacking:
        hint = "install hybridtwin[fit]"
        raise ConflictError("EXTRA_MISSING", f"{', '.join(lacking)} not installed", hint=hint)


def _ports(texts: Sequence[str]) -> dict[str, str]:
    """Name and unit of each `NAME[:UNIT]`."""
    found = {}
    for text in texts:
        name, _, unit = text.partition(":")
        if name in found:
            raise InputError("VALUE_INVALID", f"{name} is given twice")
        found[name] = unit
    return found


def _read(document: Any, data: Path, mapping: dict[str, str]) -> Dataset:
    from twinmodel.package.archive import inspect  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.package.build import build_document  # noqa: PLC0415 - as above

    return _read_ports(inspect(build_document(document)), data, mapping)


def _read_ports(ports: Ports, data: Path, mapping: dict[str, str]) -> Dataset:
    from twinmodel.importers.dataset import read_dataset  # noqa: PLC0415 - numpy takes 100 ms `--help` does not pay

    found = read_dataset(data, ports, mapping)
    if found.unused:
        say(f"not used: {', '.join(found.unused)}")
    return found


def _write_model(ctx: click.Context, target: Path, text: str, package: bytes) -> None:
    write_file(ctx, target, text.encode())
    replace_file(target.with_suffix(".twin"), package)


def _tell(outcome: Outcome) -> None:
    for warning in outcome.figures["warnings"]:
        say(f"warning: {warning}")


def _rmse(kind: str) -> Callable[[Json], str]:
    def cell(row: Json) -> str:
        known = {name: value for name, value in row["rmse"][kind].items() if value is not None}
        return ", ".join(f"{name} {value:.4g}" for name, value in known.items()) or "none measured"

    return cell


def _parameters(row: Json) -> str:
    return "\n".join(
        f"{p['name']} {p['before']:.4g} to {p['after']:.4g} +- {p['sigma']:.2g} {p['unit']}" for p in row["params"]
    )


def _covered(row: Json) -> str:
    covered = row.get("noise", {}).get("covered_90", {})
    told = {kind: value for kind, value in covered.items() if value is not None}
    return ", ".join(f"{100 * value:.1f} % {kind}" for kind, value in told.items()) or "not estimated"


_FITTED: list[Column] = [
    ("model", field_of("model")),
    ("parameters", _parameters),
    ("error before", _rmse("before")),
    ("error after", _rmse("seen")),
    ("error held out", _rmse("hidden")),
    ("in 90 % interval", _covered),
    ("file", field_of("file")),
    ("package", field_of("package")),
    ("report", field_of("report")),
]
_IDENTIFIED: list[Column] = [
    ("model", field_of("model")),
    ("states", field_of("order")),
    ("error seen", _rmse("seen")),
    ("error held out", _rmse("hidden")),
    ("file", field_of("file")),
    ("package", field_of("package")),
]
_REDUCED: list[Column] = [
    ("model", field_of("model")),
    ("states", lambda r: f"{r['order_before']} to {r['order']}"),
    ("error bound", lambda r: f"{r['error_bound']:.3g} (gain {r['gain']:.3g})"),
    ("file", field_of("file")),
    ("package", field_of("package")),
]
