"""`twinctl model fit|identify|reduce`: models from measured data and from larger models, at the desk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import click

from twinctl.commands.model_source import FILE, mapping_of, replace_file, write_file
from twinctl.options import FileVerb
from twinctl.render import Column, Json, emit, field_of, say
from twinmodel.errors import ConflictError, InputError

if TYPE_CHECKING:
    from twinmodel.fit.linear import Made, Wanted
    from twinmodel.fit.publish import Outcome
    from twinmodel.importers.dataset import Dataset, Ports

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class Part(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on, older ones are not
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


def _data_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--data", required=True, type=FILE, help="Measured data (CSV): time, then a column a signal."),
        click.option("--map", "mapping", multiple=True, metavar="PORT=COLUMN", help="Column of a port."),
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
    mapping: tuple[str, ...],
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
    from twinmodel.fit.noise import kernel_of  # noqa: PLC0415 - as above
    from twinmodel.fit.publish import fit_model, write_report  # noqa: PLC0415 - as above

    document = load(file)
    measured = _read(document, data, mapping)
    settings = Settings(starts=starts, robust=robust, only=only)
    step = kernel_of() if noise else None
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


_LABEL = "'NAME [UNIT] MIN..MAX'"


@click.command(cls=FileVerb)
@click.argument("name", metavar="NAME")
@click.option("--u", "inputs", multiple=True, required=True, metavar=_LABEL, help="An input of the model.")
@click.option("--y", "outputs", multiple=True, required=True, metavar=_LABEL, help="An output of the model.")
@click.option("--dt", required=True, metavar="1s", help="Length of a tick.")
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
    mapping: tuple[str, ...],
    holdout: float,
    order: int | None,
    version: str,
    out: Path | None,
) -> None:
    """Find a linear model NAME in measured data: OKID and ERA, the order chosen by the part held out."""
    _require_fit()
    from twinmodel.fit.linear import identify_model  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.fit.noise import kernel_of  # noqa: PLC0415 - as above

    wanted = _wanted(name, version, dt, inputs, outputs)
    measured = _read_ports(wanted, data, mapping)
    made = identify_model(wanted, measured, holdout=holdout, order=order, step=kernel_of())
    _emit_made(ctx, out or Path(f"{name}.yaml"), made, _IDENTIFIED)


@click.command(cls=FileVerb)
@click.argument("file", metavar="FILE", type=FILE)
@click.option("--order", type=click.IntRange(1, 16), help="States to keep.")
@click.option("--error", type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True), help="Largest relative error.")
@click.option("--name", default="", help="Name of the new model; that of FILE with `-reduced`.")
@click.option("--version", "version", metavar="X.Y.Z", default="1.0.0", show_default=True)
@click.option("--kind", type=click.Choice(["continuous", "discrete"]), help="Of arrays that do not tell it.")
@click.option("--dt", default="", metavar="1s", help="Length of a tick, where FILE does not tell it.")
@click.option("--u", "inputs", multiple=True, metavar=_LABEL, help="An input of arrays, in order.")
@click.option("--y", "outputs", multiple=True, metavar=_LABEL, help="An output of arrays, in order.")
@click.option("--noise", multiple=True, metavar="OUTPUT=SIGMA", help="Scatter of an output's sensor.")
@click.option("-o", "--out", type=FILE, help="Model file to write; NAME.yaml beside FILE.")
@click.pass_context
def reduce(
    ctx: click.Context,
    file: Path,
    order: int | None,
    error: float | None,
    name: str,
    version: str,
    kind: Literal["continuous", "discrete"] | None,
    dt: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    noise: tuple[str, ...],
    out: Path | None,
) -> None:
    """Cut a stable linear model by balanced truncation.

    FILE is a linear model (YAML), or A, B, C and D as .npz or .safetensors. The error bound goes into the provenance.
    """
    _require_fit()
    from twinmodel.fit.linear import reduce_model  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.importers.labels import read_sigmas  # noqa: PLC0415 - as above

    wanted = _wanted(name, version, dt, inputs, outputs)
    sigmas = read_sigmas(noise, "--noise")
    made = reduce_model(file, wanted, kind=kind, order=order, error=error, measurement=sigmas)
    _emit_made(ctx, out or file.with_name(f"{made.figures['model'].partition('@')[0]}.yaml"), made, _REDUCED)


def _wanted(name: str, version: str, dt: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Wanted:
    from twinmodel.fit.linear import Wanted  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.importers.labels import read_labels  # noqa: PLC0415 - as above
    from twinmodel.profile.schema import parse_duration  # noqa: PLC0415 - as above

    try:
        dt_ns = parse_duration(dt) if dt else 0
    except ValueError as error:
        raise InputError("REQUEST_INVALID", f"--dt: {error}") from error
    if not isinstance(dt_ns, int) or dt_ns < 0:
        raise InputError("REQUEST_INVALID", f"--dt {dt!r} is no duration", hint="write e.g. 500ms or 1s")
    labels = (
        read_labels(texts, len(texts), letter, f"--{letter}") for texts, letter in ((inputs, "u"), (outputs, "y"))
    )
    return Wanted(name, version, dt_ns, *labels)


def _emit_made(ctx: click.Context, target: Path, made: Made, columns: list[Column]) -> None:
    _write_model(ctx, target, made.text, made.package)
    package = target.with_suffix(".twin")
    emit(ctx, made.figures | {"file": str(target), "package": str(package)}, columns)
    say(f"next: twinctl model sign {package} --key KEY")


def _require_fit() -> None:
    """Raises ConflictError EXTRA_MISSING when the libraries of calibration are not installed."""
    from importlib.util import find_spec  # noqa: PLC0415 - only these commands need it

    lacking = [name for name in ("scipy", "matplotlib", "pymor") if find_spec(name) is None]
    if lacking:
        hint = "install hybridtwin[fit]"
        raise ConflictError("EXTRA_MISSING", f"{', '.join(lacking)} not installed", hint=hint)


def _read(document: Any, data: Path, mapping: tuple[str, ...]) -> Dataset:
    from twinmodel.package.archive import inspect  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.package.build import build_document  # noqa: PLC0415 - as above

    return _read_ports(inspect(build_document(document)), data, mapping)


def _read_ports(ports: Ports, data: Path, mapping: tuple[str, ...]) -> Dataset:
    from twinmodel.importers.dataset import read_dataset  # noqa: PLC0415 - numpy takes 100 ms `--help` does not pay

    found = read_dataset(data, ports, mapping_of(mapping))
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
