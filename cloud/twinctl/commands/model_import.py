"""`twinctl model import` and `reference`: models of other tools, turned into ours or run to be compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinctl.commands.model_source import FILE, mapping_of, write_file
from twinctl.options import FileVerb, Verb
from twinctl.render import Column, Json, emit, field_of, say, size
from twinmodel.errors import DeniedError, InputError

if TYPE_CHECKING:
    from twinmodel.importers.fmu import Description
    from twinmodel.importers.model_file import Imported, Wanted


@click.command("import", cls=FileVerb)
@click.argument("form", metavar="FORMAT", type=click.Choice(["onnx", "npz", "safetensors"]))
@click.argument("file", type=FILE)
@click.option(
    "-o", "--out", required=True, type=FILE, help="Model file (.yaml), or unsigned package (.twin), to write."
)
@click.option("--name", default="", help="Name of the model; that of OUT.")
@click.option("--model-version", default="1.0.0", show_default=True, metavar="X.Y.Z", help="Its version.")
@click.option("--dt", default="", metavar="1s", help="Length of a tick.")
@click.option("--kind", type=click.Choice(["continuous", "discrete"]), help="What A and B are.")
@click.option("--x", "states", multiple=True, metavar="'NAME [UNIT] MIN..MAX'", help="A state, in order.")
@click.option("--u", "inputs", multiple=True, metavar="'NAME [UNIT] MIN..MAX'", help="An input, in order.")
@click.option("--y", "outputs", multiple=True, metavar="'NAME [UNIT] MIN..MAX'", help="An output, in order.")
@click.option("--process", multiple=True, metavar="STATE=SIGMA", help="Process noise, per square root of a second.")
@click.option("--noise", multiple=True, metavar="OUTPUT=SIGMA", help="What a measurement scatters.")
@click.pass_context
def import_(
    ctx: click.Context,
    form: str,
    file: Path,
    out: Path,
    name: str,
    model_version: str,
    dt: str,
    kind: str | None,
    states: tuple[str, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    process: tuple[str, ...],
    noise: tuple[str, ...],
) -> None:
    """Turn FILE of another tool into a model file.

    onnx: a multi-layer perceptron. npz, safetensors: arrays A, B, C, D of a linear model, with dt when it is discrete.
    What cannot be carried is refused with the node or the array.
    """
    from twinmodel.importers.labels import read_sigmas  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.importers.model_file import Wanted  # noqa: PLC0415 - as above

    wanted = Wanted(
        name=name or out.stem,
        version=model_version,
        dt_ns=_nanoseconds(dt),
        kind="continuous" if kind == "continuous" else "discrete" if kind else None,
        states=states,
        inputs=inputs,
        outputs=outputs,
        process=read_sigmas(process, "--process"),
        measurement=read_sigmas(noise, "--noise"),
        source=f"imported from {file.name}",
    )
    made = _imported(form, file, wanted)
    if out.suffix.lower() == ".twin":
        write_file(ctx, out, made.package)
    else:
        if made.weights:
            write_file(ctx, out.with_name(made.weights_name), made.weights)
        write_file(ctx, out, made.text.encode())
    from twinmodel.package.archive import model_id, open_at_desk  # noqa: PLC0415 - as above

    package = open_at_desk(made.package)
    row: Json = {
        "model": package.manifest.id,
        "model_id": model_id(made.package),
        "file": str(out),
        "weights": str(out.with_name(made.weights_name)) if made.weights and out.suffix.lower() != ".twin" else None,
        "inputs": [port.name for port in package.inputs],
        "outputs": [port.name for port in package.outputs],
        "package_size": len(made.package),
    }
    emit(ctx, row, _IMPORTED)
    if out.suffix.lower() != ".twin":
        say(f"next: correct names, units and noise in {out}, then twinctl model build {out}")


@click.command(cls=Verb)
@click.argument("fmu", type=FILE)
@click.option("--data", type=FILE, help="CSV with a column of times and columns named like inputs and outputs.")
@click.option("--out", type=FILE, help="CSV to write: inputs and what the FMU gave, data for `model fit`.")
@click.option("--map", "pairs", multiple=True, metavar="PORT=COLUMN", help="Column of a variable, or of `time`.")
@click.option("--gap", type=click.FloatRange(0, min_open=True), metavar="S", help="Silence that parts the data.")
@click.option("--dt", default="", metavar="1s", help="Length of a tick; that of the FMU.")
@click.option("--as", "kind", type=click.Choice(["CoSimulation", "ModelExchange"]), help="What it is run as.")
@click.option("--set", "parameters", multiple=True, metavar="NAME=VALUE", help="Start value of a parameter.")
@click.option(
    "--limit", type=click.FloatRange(1, 3_600), default=60.0, show_default=True, metavar="S", help="Its time."
)
@click.option("--run-foreign-code", is_flag=True, help="Let the machine code within FMU run with your rights.")
@click.pass_context
def reference(
    ctx: click.Context,
    fmu: Path,
    data: Path | None,
    out: Path | None,
    pairs: tuple[str, ...],
    gap: float | None,
    dt: str,
    kind: str | None,
    parameters: tuple[str, ...],
    limit: float,
    *,
    run_foreign_code: bool,
) -> None:
    """Describe FMU (FMI 2 or 3), or run it over measured inputs as a reference to compare with and to fit against.

    An FMU is a program of whoever made it: with --run-foreign-code it runs on this machine with your rights, in a
    process of limited time and memory, which stops a mistake and no malice. Without it, it is only described.
    """
    from twinmodel.importers import fmu as fmus  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay

    found = fmus.describe(fmu)
    if data is None:
        emit(ctx, _facts(found), _DESCRIBED)
        return
    if not run_foreign_code:
        hint = f"if you trust {found.generator or 'its maker'}, add --run-foreign-code; without --data it is described"
        raise DeniedError("FORBIDDEN", f"{fmu} is a program; it does not run unless you say so", hint=hint)
    ports = replace(found, dt_ns=_nanoseconds(dt) or found.dt_ns)
    if not ports.dt_ns:
        raise InputError("REQUEST_INVALID", f"{fmu} names no step", hint="give --dt, such as 1s")
    wanted = kind or found.kinds[0]
    if wanted not in found.kinds:
        raise InputError("REQUEST_INVALID", f"{fmu} is for {', '.join(found.kinds)} only")
    from twinmodel.importers.dataset import read_dataset  # noqa: PLC0415 - as above
    from twinmodel.rom.run import compared, score  # noqa: PLC0415 - as above

    gap_ns = None if gap is None else round(gap * 1e9)
    dataset = read_dataset(data, ports, mapping_of(pairs), gap_ns=gap_ns, measured=False)
    simulated = fmus.simulate(fmu, dataset, kind=wanted, start_values=_start_values(parameters, found), limit_s=limit)
    if out is not None:
        from twinmodel.rom.table import reference_text  # noqa: PLC0415 - as above

        write_file(ctx, out, reference_text(dataset, simulated).encode())
    scores = score(compared(dataset, simulated))
    row: Json = {
        "fmu": found.name,
        "run_as": wanted,
        "ticks": len(dataset.t_ns),
        "segments": len(dataset.segments),
        "rmse": {name: s.rmse for name, s in zip(dataset.outputs, scores, strict=True) if s.measured},
        "file": None if out is None else str(out),
    }
    emit(ctx, row, [(name.replace("_", " "), field_of(name)) for name in row])


def _start_values(pairs: tuple[str, ...], found: Description) -> dict[str, float]:
    values: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            values[name] = float(text)
        except ValueError as error:
            raise InputError("REQUEST_INVALID", f"--set {pair}: write NAME=VALUE") from error
        if name not in found.parameters:
            known = ", ".join(sorted(found.parameters)[:20]) or "none"
            raise InputError("REQUEST_INVALID", f"--set names {name!r}; the parameters are {known}")
    return values


def _facts(found: Description) -> Json:
    return {
        "name": found.name,
        "fmi_version": found.fmi_version,
        "generator": found.generator,
        "kinds": list(found.kinds),
        "step_s": found.dt_ns / 1e9 if found.dt_ns else None,
        "inputs": {v.name: v.unit for v in found.inputs},
        "outputs": {v.name: v.unit for v in found.outputs},
        "parameters": dict(found.parameters),
    }


def _named(units: dict[str, str]) -> str:
    return ", ".join(f"{name} [{unit}]" if unit else name for name, unit in units.items())


def _imported(form: str, file: Path, wanted: Wanted) -> Imported:
    from twinmodel.importers.model_file import from_matrices, from_network  # noqa: PLC0415 - see above

    if form == "onnx":
        from twinmodel.importers.onnx_graph import read_network  # noqa: PLC0415 - as above

        return from_network(read_network(file), wanted)
    from twinmodel.equations.arrays import read_arrays  # noqa: PLC0415 - as above

    return from_matrices(read_arrays(file), wanted, str(file))


def _nanoseconds(text: str) -> int | None:
    if not text:
        return None
    from twinmodel.profile.schema import parse_duration  # noqa: PLC0415 - pydantic takes 60 ms `--help` does not pay

    try:
        found = parse_duration(text)
    except ValueError as error:
        raise InputError("REQUEST_INVALID", f"--dt: {error}") from error
    return int(str(found))


_IMPORTED: list[Column] = [
    ("model", field_of("model")),
    ("model id", field_of("model_id")),
    ("file", field_of("file")),
    ("weights", field_of("weights")),
    ("inputs", lambda r: ", ".join(r["inputs"])),
    ("outputs", lambda r: ", ".join(r["outputs"])),
    ("package", lambda r: size(r["package_size"])),
]
_DESCRIBED: list[Column] = [
    ("name", field_of("name")),
    ("FMI", field_of("fmi_version")),
    ("made by", field_of("generator")),
    ("runs as", lambda r: ", ".join(r["kinds"])),
    ("step", lambda r: None if r["step_s"] is None else f"{r['step_s']:g} s"),
    ("inputs", lambda r: _named(r["inputs"])),
    ("outputs", lambda r: _named(r["outputs"])),
    ("parameters", lambda r: ", ".join(f"{name} = {value}" for name, value in r["parameters"].items())),
]
