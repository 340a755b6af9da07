"""`twinctl model`: build, sign and inspect packages here; push, list and assign them there."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twinctl.commands.calibrate import fit, identify, reduce
from twinctl.commands.model_desk import diff, run, verify
from twinctl.commands.model_import import import_, reference
from twinctl.commands.model_source import FILE, named, opened, package_of, read_file, replace_file, write_file
from twinctl.options import FileVerb, Noun, client_of, confirm
from twinctl.paths import model_path
from twinctl.render import Column, Json, emit, field_of, instant, say, size
from twinmodel.errors import REASONS, ConflictError, InputError

if TYPE_CHECKING:
    from twinctl.client import Client

POLL_S = 0.5
_EQUATION_MAX = 400


@click.group(cls=Noun)
def model() -> None:
    """Model packages: made, checked, compared and run here; pushed, listed and assigned there."""


for _part in (verify, diff, run, import_, reference, fit, identify, reduce):
    model.add_command(_part)


@model.command(cls=FileVerb)
@click.argument("file", type=FILE)
@click.option("-o", "--out", type=FILE, help="Package to write; FILE with the suffix .twin.")
@click.pass_context
def build(ctx: click.Context, file: Path, out: Path | None) -> None:
    """Build the unsigned package of model FILE (YAML)."""
    from twinmodel.package.archive import inspect, model_id  # noqa: PLC0415 - numpy takes 100 ms `--help` does not pay
    from twinmodel.package.build import build as build_package  # noqa: PLC0415 - as above

    blob = build_package(file)
    target = out or file.with_suffix(".twin")
    write_file(ctx, target, blob)
    emit(ctx, {"model": inspect(blob).id, "model_id": model_id(blob), "file": str(target), "size": len(blob)}, _BUILT)
    say(f"next: twinctl model sign {target} --key KEY")


@model.command()
@click.argument("key", type=FILE)
@click.pass_context
def keygen(ctx: click.Context, key: Path) -> None:
    """Make a signing key: KEY, for its owner alone, and KEY.pub, to be trusted."""
    from twinmodel.package import signing  # noqa: PLC0415 - `cryptography` takes 60 ms that `--help` does not pay

    public = key.with_name(key.name + ".pub")
    if public.exists():
        raise ConflictError("ALREADY_EXISTS", f"{public} exists; it is not overwritten")
    made = signing.generate_key()
    signing.save_private_key(key, made)
    signing.save_public_key(public, made.public_key())
    row = {"key_id": signing.key_id(made.public_key()), "private": str(key), "public": str(public)}
    emit(ctx, row, [(name, field_of(name)) for name in row])
    say(f"next: twinctl model trust {public}")


@model.command(cls=FileVerb)
@click.argument("file", type=FILE)
@click.option("--key", required=True, type=FILE, help="Private key that `model keygen` made.")
@click.option("-o", "--out", type=FILE, help="Package to write; FILE itself.")
@click.pass_context
def sign(ctx: click.Context, file: Path, key: Path, out: Path | None) -> None:
    """Sign package FILE; a signature it had before is replaced."""
    from twinmodel.package import archive, signing  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay

    private = signing.load_private_key(key)
    with named(file):
        blob = signing.sign(read_file(file), private)
    target = out or file
    if out is None:
        replace_file(target, blob)
    else:
        write_file(ctx, target, blob)
    emit(ctx, {"model_id": archive.model_id(blob), "signer": archive.signer(blob), "file": str(target)}, _SIGNED)
    say(f"next: twinctl model push {target}")


@model.command()
@click.argument("model")
@click.pass_context
def inspect(ctx: click.Context, model: str) -> None:
    """Show what MODEL says of itself: a package file or a YAML file; or what is stored of NAME@VERSION."""
    if "@" in model and not Path(model).exists():
        emit(ctx, client_of(ctx).get(model_path(model)), _VERSION)
        return
    from twinmodel.detection_figures import drift_figures  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.package import archive  # noqa: PLC0415 - as above
    from twinmodel.rom.readable import equations  # noqa: PLC0415 - as above

    blob = package_of(ctx, model)
    package = opened(model, blob)
    detectors = [asdict(figures) for figures in drift_figures(package.manifest.drift, package.dt_ns)]
    manifest = package.manifest.model_dump(mode="json", by_alias=True)
    facts: Json = {"model_id": package.model_id, "signer": archive.signer(blob), "size": len(blob)}
    facts |= {"equations": equations(package), "detectors": detectors}
    emit(ctx, manifest | facts, _MANIFEST)


@model.command()
@click.argument("public_key", type=FILE)
@click.option("--name", default="", help="Whose key it is; the file's name.")
@click.pass_context
def trust(ctx: click.Context, public_key: Path, name: str) -> None:
    """Let the tenant's gateways run models signed by the owner of PUBLIC_KEY (PEM)."""
    from twinmodel.package import signing  # noqa: PLC0415 - `cryptography` takes 60 ms that `--help` does not pay

    key = signing.load_public_key(public_key)
    confirm(ctx, f"Gateways will run whatever key {signing.key_id(key)} signs. Trust it?")
    body = {"name": name or public_key.name.partition(".")[0], "public_key_pem": signing.public_pem(key).decode()}
    emit(ctx, client_of(ctx).send("POST", "/signers", body), [("key", field_of("key_id"))])


@model.command()
@click.argument("file", type=FILE)
@click.pass_context
def push(ctx: click.Context, file: Path) -> None:
    """Store signed package FILE at the coordinator."""
    emit(ctx, client_of(ctx).upload("/models", read_file(file)), _VERSION)


@model.command("list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List model versions of the coordinator."""
    emit(ctx, list(client_of(ctx).pages("/models")), _LIST, empty="no models")


@model.command()
@click.argument("twin")
@click.argument("model")
@click.option("--wait", is_flag=True, help="Wait until the gateway has answered.")
@click.option("--deadline", type=click.IntRange(10, 30 * 86_400), default=3_600, show_default=True, metavar="S")
@click.option("--wait-timeout", type=click.FloatRange(0.1), default=120.0, show_default=True, metavar="S")
@click.pass_context
def assign(ctx: click.Context, twin: str, model: str, *, wait: bool, deadline: int, wait_timeout: float) -> None:
    """Let TWIN run MODEL, given as NAME@VERSION.

    With --wait the exit code is 0 once the gateway runs it, and 1 when it refuses or does not answer in time.
    """
    client = client_of(ctx)
    site, name = client.twin(twin)
    if not all(model.partition("@")):
        raise InputError("REQUEST_INVALID", f"{model!r} is no model version", hint="write NAME@VERSION")
    client.twin_view(site, name)
    path = f"/sites/{site}/twins/{name}/model"
    opened = client.send("PUT", path, {"model": model, "deadline_s": deadline})
    if wait:
        opened = _settled(client, opened, wait_timeout)
    emit(ctx, opened, _DIRECTIVE)


def _settled(client: Client, directive: Json, wait_s: float) -> Json:
    """The directive once it ended; raises the reason of a refusal, DIRECTIVE_OPEN when time is over."""
    say(f"waiting for gateway {directive['site']}/{directive['gateway']}")
    for _ in range(max(1, round(wait_s / POLL_S))):
        rows = client.pages("/directives", target=directive["target"], limit=200)
        found = next((row for row in rows if row["id"] == directive["id"]), directive)
        if found["outcome"]:
            _check_outcome(found)
            return found
        time.sleep(POLL_S)
    text = f"gateway {directive['site']}/{directive['gateway']} has not answered within {wait_s:g} s"
    raise ConflictError("DIRECTIVE_OPEN", text)


def _check_outcome(directive: Json) -> None:
    if directive["outcome"] == "APPLIED":
        return
    said = directive["detail"] or directive["reason"] or directive["outcome"].lower()
    text = f"{directive['name']} does not run on {directive['site']}/{directive['target']}: {said}"
    reason = directive["reason"] if directive["reason"] in REASONS else "DIRECTIVE_REJECTED"
    raise ConflictError(reason, text)


def _cut(text: str) -> str:
    return text if len(text) <= _EQUATION_MAX else f"{text[:_EQUATION_MAX]} ..."


def _promise(figures: Json) -> str:
    """What a detector promises on one output that is measured at every tick."""
    told = ", ".join(f"{d['shift']:g} sigma after {d['seconds']:.0f} s" for d in figures["detections"])
    return f"{figures['detector']}: {figures['false_alarms_per_year']:.2g} false alarms a year; finds {told}"


def _ports(ports: Any) -> str:
    if isinstance(ports, dict):
        return ", ".join(f"{name} [{unit}]" for name, unit in ports.items())
    return ", ".join(f"{port['name']} [{port['unit']}]" for port in ports)


_BUILT: list[Column] = [
    ("model", field_of("model")),
    ("model id", field_of("model_id")),
    ("file", field_of("file")),
    ("size", lambda r: size(r["size"])),
]
_SIGNED: list[Column] = [
    ("model id", field_of("model_id")),
    ("signer", field_of("signer")),
    ("file", field_of("file")),
]
_VERSION: list[Column] = [
    ("model", lambda m: f"{m['name']}@{m['version']}"),
    ("model id", field_of("model_id")),
    ("digest", field_of("digest")),
    ("signer", field_of("signer")),
    ("size", lambda m: size(m["size"])),
    ("created", lambda m: instant(m["created"])),
    ("inputs", lambda m: _ports(m["inputs"])),
    ("outputs", lambda m: _ports(m["outputs"])),
]
_LIST: list[Column] = [
    _VERSION[0],
    ("signer", field_of("signer")),
    ("created", lambda m: instant(m["created"])),
    ("inputs", lambda m: _ports(m["inputs"])),
    ("outputs", lambda m: _ports(m["outputs"])),
]
_MANIFEST: list[Column] = [
    ("model", lambda m: f"{m['name']}@{m['version']}"),
    ("model id", field_of("model_id")),
    ("signer", lambda m: m["signer"] or "none: not signed"),
    ("size", lambda m: size(m["size"])),
    ("kernel", field_of("kernel")),
    ("tick", lambda m: f"{m['dt_ns'] / 1e9:g} s"),
    ("states", lambda m: _ports(m["states"])),
    ("inputs", lambda m: _ports(m["inputs"])),
    ("outputs", lambda m: _ports(m["outputs"])),
    ("parameters", lambda m: ", ".join(f"{p['name']} {p['value']:g} {p['unit']}".strip() for p in m["params"])),
    ("equations", lambda m: "\n".join(f"{left} = {_cut(right)}" for left, right in m["equations"].items())),
    ("drift", lambda m: "\n".join(map(_promise, m["detectors"]))),
    ("parity", lambda m: m["parity"]["sha256"]),
]
_DIRECTIVE: list[Column] = [
    ("directive", field_of("id")),
    ("target", lambda d: f"{d['site']}/{d['target']}"),
    ("model", field_of("name")),
    ("outcome", lambda d: d["outcome"] or "open"),
    ("deadline", lambda d: instant(d["deadline"])),
]
