"""Runs or checks the scenario of a whole plant from its file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import InputError, MissingError
from twinmodel.package.build import build
from twinmodel.profile.document import Document, read_document
from twinsim.deployment.play import Play
from twinsim.deployment.processes import ended_together, rss_bytes, run
from twinsim.deployment.running import Ports, Running, find_folder, find_profiles
from twinsim.deployment.schema import Deployment, read_deployment
from twinsim.deployment.site_file import site_content, yaml_text
from twinsim.image.device import ProfileDevice
from twinsim.virtual import check_devices, fleets_of

MARK = ".hybridtwin-scenario"
SUFFIX = ".yaml"


def shipped() -> Iterator[tuple[Path, Deployment]]:
    """The scenarios that come along, in the order of their names."""
    for path in sorted((find_folder("examples") / "scenarios").glob(f"*{SUFFIX}")):
        yield path, read_deployment(path)


def find_scenario(name: str) -> Path:
    """The file a person means: a path, or the name of a scenario that comes along. Raises MissingError FILE_MISSING."""
    if name.endswith((SUFFIX, ".yml")) or "/" in name:
        return Path(name)
    folder = find_folder("examples") / "scenarios"
    path = folder / f"{name}{SUFFIX}"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in folder.glob(f"*{SUFFIX}")))
        raise MissingError("FILE_MISSING", f"no scenario is called {name!r}", hint=f"use a path, or one of {known}")
    return path


def make_anew(state: Path, mark: str = MARK) -> None:
    """Removes what an earlier run left in its state directory, and nothing else.

    Raises:
        InputError: VALUE_INVALID when something else lies there.
    """
    if state.exists() and any(state.iterdir()) and not (state / mark).exists():
        raise InputError(
            "VALUE_INVALID", f"{state} is not empty and was not made by an earlier run", hint="choose another --state"
        )
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True, mode=0o700)
    (state / mark).touch()


def run_scenario(
    path: Path,
    state: Path,
    clock: Clock,
    say: Callable[[str], object],
    *,
    seconds: float | None = None,
    seed: int | None = None,
    port: int = 0,
) -> dict[str, Any]:
    """Runs a scenario in an empty state directory and returns its report.

    Args:
        path: the file.
        state: where everything of the run lies.
        clock: what times are counted by.
        say: is told what happens.
        seconds: how long it lasts instead of `lasts`.
        seed: of the devices, instead of that of the file.
        port: of the console; gateways are served beside it; 0 for free ones.

    Raises:
        ConfigError: for a wrong file.
        TwinError: when a program does not start, or ends by itself.
    """
    plan = read_deployment(path)
    if not plan.gateways:
        hint = f"`twinsim run scenario {path}` runs devices alone"
        raise InputError("VALUE_INVALID", f"{path} has no gateways", hint=hint)
    document = read_document(path)
    check_devices(plan, document)
    _check_models(plan, document)
    if seed is not None:
        plan = plan.model_copy(update={"seed": seed})
    plant = Running(plan, path.parent, state, clock, Ports.from_console(port))
    lasts_ns = plan.lasts if seconds is None else round(seconds * SECOND_NS)
    with ended_together(plant.programs):
        say(f"{path.stem}: {plan.description or 'no description'}")
        plant.start()
        say(f"     0.0 s  everything is up: {plant.operator.url}, {state}")
        outcome = Play(plant, say).run(lasts_ns)
        memory = {p.name: rss_bytes(p.pid) for p in plant.programs if p.running}
    say(f"{'passed' if outcome.passed else 'FAILED'}: {path.stem}")
    report = {"scenario": path.stem, "seed": plan.seed, "state": str(state), "rss_bytes": memory}
    return report | outcome.document()


def check_scenario(path: Path) -> None:
    """Looks a scenario through without starting anything of it.

    Raises:
        ConfigError: for the file, a profile, a model, or a fault that its device cannot have, with the line.
        ConflictError: STATE_INVALID with the words of twinedge about a site.yaml.
    """
    plan, document = read_deployment(path), read_document(path)
    check_devices(plan, document)
    _check_models(plan, document)
    announced = _imagined(plan)
    with tempfile.TemporaryDirectory() as folder:
        for name in plan.gateways:
            config = Path(folder) / f"{name.replace('/', '-')}{SUFFIX}"
            config.write_text(yaml_text(site_content(plan, name, announced, find_profiles())))
            run(f"validate-{config.stem}", ["twinedge", "config", "validate", "--config", str(config)], Path(folder))


def _check_models(plan: Deployment, document: Document) -> None:
    for number, name in enumerate(plan.models):
        path = document.path.parent / name
        if not path.is_file():
            raise document.error("FILE_MISSING", ("models", number), f"no file {path}")
        build(path)


def _imagined(plan: Deployment) -> dict[str, Any]:
    """What a simulation would announce, with addresses that are none."""
    schemes = {"modbus": "tcp://127.0.0.1:1", "opcua": "opc.tcp://127.0.0.1:2/twinsim", "mqtt": "mqtt://127.0.0.1:3"}
    addresses: dict[str, str] = {**schemes, **dict.fromkeys(plan.link_names(), "127.0.0.1:4")}
    devices: dict[str, dict[str, Any]] = {}
    for number, device in enumerate((d for fleet, _ in fleets_of(plan) for d in fleet), start=1):
        entry: dict[str, Any] = {"protocol": device.protocol, "unit_id": device.number}
        if isinstance(device, ProfileDevice):
            entry |= {"address": schemes[device.protocol], "profile": device.profile}
            entry |= {"unit_id": 1 + number % 247, "root": device.name}
        devices[device.name] = entry
    return {"addresses": addresses, "devices": devices, "links": sorted(plan.link_names())}
