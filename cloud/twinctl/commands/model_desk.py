"""`twinctl model verify`, `diff` and `run`: what a package is and does, on this machine, before any gateway has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twinctl.commands.model_source import (
    FILE,
    keys_of,
    logs_to_stderr,
    mapping_of,
    named,
    opened,
    outside_of,
    package_of,
    read_file,
    replace_file,
)
from twinctl.options import Verb
from twinctl.render import Column, Json, emit, field_of, from_ns, say, text_of
from twinmodel.errors import REASONS, ConflictError, InputError, PackageError

if TYPE_CHECKING:
    from twinmodel.estimator import Estimator
    from twinmodel.importers.dataset import Dataset
    from twinmodel.rom.run import Trace


@click.command(cls=Verb)
@click.argument("model")
@click.option("--trust", multiple=True, type=FILE, help="Public key whose signature counts; may stand more than once.")
@click.option("--tier", "tiers", multiple=True, help="Only this tier; may stand more than once.")
@click.pass_context
def verify(ctx: click.Context, model: str, trust: tuple[Path, ...], tiers: tuple[str, ...]) -> None:
    """Check package MODEL completely: content, signature, and its bits on every tier this machine has.

    MODEL is a package file, a YAML file, or NAME@VERSION of the coordinator.
    The exit code is 0 when it is sound and every tier gives the bits of its parity run; with --trust it must be signed
    by one of those keys as well.
    """
    from twinmodel.clock import SystemClock  # noqa: PLC0415 - for symmetry with the next
    from twinmodel.rom.examine import TIERS, examine  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay

    logs_to_stderr()
    wanted = [_known(tier, TIERS) for tier in tiers] or TIERS
    blob = package_of(ctx, model)
    if len(wanted) > 1:
        say(f"checking the bits on {', '.join(wanted)}; the first time, kernels are compiled for up to a minute")
    keys = keys_of(trust)
    with named(model):
        found = examine(blob, keys, SystemClock(), tiers=wanted)
    refusals = [reason for reason in found.refusals if trust or reason == "PARITY_FAILED"]
    row: Json = {
        "model": found.package.manifest.id,
        "model_id": found.package.model_id,
        "verdict": "refused" if refusals else "sound",
        "reasons": list(found.refusals),
        "signature": found.signature,
        "signer": found.signer,
        "tiers": {check.tier: check.bits for check in found.tiers},
        "notes": {check.tier: check.why for check in found.tiers if check.why},
        "verify_load_ms": round(found.load_ns / 1e6, 4),
        "file": model,
    }
    emit(ctx, row, _VERIFIED)
    if refusals:
        raise PackageError(refusals[0], f"{model} is refused: {_WORDS[refusals[0]]}")
    for reason in found.refusals:
        say(f"note: a gateway would refuse it: {_WORDS[reason]}")


@click.command(cls=Verb)
@click.argument("old")
@click.argument("new")
@click.pass_context
def diff(ctx: click.Context, old: str, new: str) -> None:
    """Show what differs between models OLD and NEW: package files, YAML files, or NAME@VERSION of the coordinator.

    The exit code is 0 when they are the same model and 1 when they differ.
    """
    from twinmodel.rom.difference import differences  # noqa: PLC0415 - numpy takes 100 ms `--help` does not pay

    packages = [opened(model, package_of(ctx, model)) for model in (old, new)]
    changes = [asdict(change) for change in differences(*packages)]
    emit(ctx, changes, _CHANGES, empty="the same model: equal ids")
    if packages[0].model_id != packages[1].model_id:
        say(f"{len(changes)} differences between {packages[0].manifest.id} and {packages[1].manifest.id}")
        ctx.exit(1)


@click.command(cls=Verb)
@click.argument("model")
@click.option("--data", type=FILE, help="CSV with a column of times and columns named like inputs and outputs.")
@click.option("--map", "pairs", multiple=True, metavar="PORT=COLUMN", help="Column of a port, or of `time`.")
@click.option("--gap", type=click.FloatRange(0, min_open=True), metavar="S", help="Silence that parts the data.")
@click.option("--free", is_flag=True, help="Open loop: measurements are compared with, never used.")
@click.option("--warm-up", type=click.FloatRange(0), default=0.0, metavar="S", help="Filtered before an open loop.")
@click.option("--tier", default="auto", show_default=True, help="What computes: interpreted, vm or jit.")
@click.option("--out", type=FILE, help="Every tick, as CSV or (.json) JSON.")
@click.option("--checkpoint", type=FILE, help="State to go on from where it exists, and to leave at the end.")
@click.option("--record", type=FILE, help="File to record frames and state hashes in.")
@click.option("--replay", "replayed", type=FILE, help="Recorded run to run again, instead of --data.")
@click.pass_context
def run(
    ctx: click.Context,
    model: str,
    data: Path | None,
    pairs: tuple[str, ...],
    gap: float | None,
    *,
    free: bool,
    warm_up: float,
    tier: str,
    out: Path | None,
    checkpoint: Path | None,
    record: Path | None,
    replayed: Path | None,
) -> None:
    """Run MODEL over measured data: a package file, a YAML file, or NAME@VERSION of the coordinator.

    Times are ISO 8601 or seconds; values are in the model's units, or in the unit a header names: `level [cm]`.
    """
    if (data is None) == (replayed is None):
        raise InputError("REQUEST_INVALID", "give either --data or --replay")
    if (replayed or free) and (checkpoint or record):
        raise InputError("REQUEST_INVALID", "--checkpoint and --record go with a filtered run of --data")
    outside_of([Path(model), data, replayed], [out, checkpoint, record])
    from twinmodel.estimator import TIERS, Estimator  # noqa: PLC0415 - numpy takes 100 ms that `--help` does not pay
    from twinmodel.package.archive import signer  # noqa: PLC0415 - as above

    logs_to_stderr()
    blob = package_of(ctx, model)
    package = opened(model, blob)
    if not signer(blob):
        say("note: the package is not signed; it runs here, a gateway would refuse it")
    estimator = Estimator(package, tier=_known(tier, TIERS))
    if replayed is not None:
        _replay(ctx, estimator, replayed)
        return
    from twinmodel.importers.dataset import read_dataset  # noqa: PLC0415 - as above

    assert data is not None
    dataset = read_dataset(data, package, mapping_of(pairs), gap_ns=None if gap is None else round(gap * 1e9))
    if checkpoint is not None and checkpoint.exists():
        estimator.restore(read_file(checkpoint))
        dataset = dataset.after(estimator.last_ns)
        if not len(dataset.t_ns):
            say(f"note: no tick of {data} is newer than {checkpoint}")
    if free:
        from twinmodel.rom.free import simulated  # noqa: PLC0415 - as above

        trace = simulated(package, dataset, warm_up=round(warm_up * 1e9) // package.dt_ns, tier=tier)
    else:
        trace = _filtered(estimator, dataset, checkpoint, record)
    if out is not None:
        from twinmodel.rom.table import trace_text  # noqa: PLC0415 - as above

        replace_file(out, trace_text(trace, dataset.outputs, out).encode())
    emit(ctx, _summary(estimator, dataset, trace, data), _RUN)


def _filtered(estimator: Estimator, dataset: Dataset, checkpoint: Path | None, record: Path | None) -> Trace:
    from twinmodel.rom.record import Recorder  # noqa: PLC0415 - with the model runtime
    from twinmodel.rom.run import filtered  # noqa: PLC0415 - as above

    recorder = Recorder(estimator, dataset) if record is not None else None
    trace = filtered(estimator, dataset, recorder.tick if recorder is not None else None)
    if checkpoint is not None:
        replace_file(checkpoint, estimator.checkpoint())
    if record is not None and recorder is not None:
        replace_file(record, recorder.content())
    return trace


def _summary(estimator: Estimator, dataset: Dataset, trace: Trace, data: Path) -> Json:
    from twinmodel.rom.run import score  # noqa: PLC0415 - with the model runtime

    units = {port.name: port.unit for port in estimator.outputs}
    scores = {
        name: {"unit": units[name], **asdict(found)} for name, found in zip(dataset.outputs, score(trace), strict=True)
    }
    ticks = len(trace.t_ns)
    return {
        "model": estimator.package.manifest.id,
        "model_id": estimator.package.model_id,
        "mode": "free" if trace.free else "filter",
        "tier": estimator.tier,
        "data": str(data),
        "data_sha256": dataset.sha256,
        "ticks": ticks,
        "segments": len(dataset.segments),
        "from": from_ns(int(trace.t_ns[0])) if ticks else None,
        "to": from_ns(int(trace.t_ns[-1])) if ticks else None,
        "outputs": scores,
        "drifting_ticks": int(trace.drifting.sum()),
        "outside_regime_ticks": int((~trace.in_regime).sum()),
        "restarts": estimator.resets,
        "estimates_sha256": trace.sha256,
        "state_hash": None if trace.free else estimator.state_hash().hex(),
    }


def _replay(ctx: click.Context, estimator: Estimator, path: Path) -> None:
    from twinmodel.rom.record import replay  # noqa: PLC0415 - with the model runtime

    found = replay(path, estimator)
    same = found.differs_at_ns is None
    row: Json = {
        "model": estimator.package.manifest.id,
        "replay": "exact" if same else "different",
        "tier": estimator.tier,
        "ticks": found.ticks,
        "differs_at": None if found.differs_at_ns is None else from_ns(found.differs_at_ns),
        "state_hash": found.state_hash,
    }
    emit(ctx, row, [(name.replace("_", " "), field_of(name)) for name in row])
    if not same:
        raise ConflictError("PARITY_FAILED", f"{path}: the states differ from {row['differs_at']} on")


def _known(tier: str, tiers: Sequence[str]) -> str:
    if tier not in tiers:
        raise InputError("REQUEST_INVALID", f"no tier {tier!r}; there are {', '.join(tiers)}")
    return tier


def _met(row: Json) -> str:
    lines = []
    for name, s in row["outputs"].items():
        if not s["measured"]:
            lines.append(f"{name}: not measured")
            continue
        text = f"{name}: RMSE {s['rmse']:.6g} {s['unit']}, bias {s['bias']:.3g}"
        if s["nis"] is not None:
            text += f", NIS {s['nis']:.3g}, 90 % interval holds {100 * s['coverage_90']:.1f} %"
        lines.append(f"{text} ({s['measured']} measured)")
    return "\n".join(lines)


def _place(change: Json) -> str:
    return str(change["place"])


def _share(change: Json) -> str:
    return "" if change["relative"] is None else f"{100 * change['relative']:+.3g} %"


def _pairs(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


_WORDS = {
    "PACKAGE_UNSIGNED": "it is not signed",
    "SIGNER_UNKNOWN": "no key that is trusted here has signed it",
    "PARITY_FAILED": "this machine computes other bits than the one that built it",
}
assert set(_WORDS) <= set(REASONS)
_VERIFIED: list[Column] = [
    ("model", field_of("model")),
    ("model id", field_of("model_id")),
    ("verdict", field_of("verdict")),
    ("signature", lambda r: f"{r['signature']} {r['signer']}".strip()),
    ("bits", lambda r: _pairs(r["tiers"])),
    ("notes", lambda r: _pairs(r["notes"])),
    ("verify and load", lambda r: f"{r['verify_load_ms']:.3g} ms"),
]
_CHANGES: list[Column] = [
    ("what", _place),
    ("old", lambda c: text_of(c["before"])),
    ("new", lambda c: text_of(c["after"])),
    ("change", _share),
]
_RUN: list[Column] = [
    ("model", field_of("model")),
    ("run", lambda r: f"{r['mode']}, {r['ticks']} ticks in {r['segments']} segments, tier {r['tier']}"),
    ("from", field_of("from")),
    ("to", field_of("to")),
    ("outputs", _met),
    ("drifting", lambda r: f"{r['drifting_ticks']} ticks"),
    ("outside regime", lambda r: f"{r['outside_regime_ticks']} ticks"),
    ("restarts", field_of("restarts")),
    ("state hash", field_of("state_hash")),
]
