"""`twinctl model import` and `reference`: models of other tools, turned into ours or run to be compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinctl.commands.model_source import FILE, write_file
from twinctl.options import FileVerb
from twinctl.render import Column, Json, emit, field_of, say, size
from twinmodel.errors import InputError

if TYPE_CHECKING:
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
