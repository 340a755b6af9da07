"""What steps of a scenario do to a plant that runs, and where expectations look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote

from twinmodel.errors import ConflictError, MissingError, TwinError, UnreachableError
from twinsim.deployment.running import Running
from twinsim.deployment.schema import Step


class Actor:
    """Does the steps of one run; remembers the commands it sent.

    Attributes:
        commands: name of a step -> path of its command in REST.
    """

    def __init__(self, plant: Running) -> None:
        self._plant = plant
        self.commands: dict[str, str] = {}

    def do(self, step: Step) -> str:
        """Does one step; returns what is to be said of it.

        Raises:
            TwinError: what refused it, unless that was what the step wants; STATE_INVALID when nothing did.
        """
        try:
            self._do(step)
        except TwinError as refused:
            if step.refused is None or refused.reason != step.refused:
                raise
            return f"refused as it must be: {refused.reason}"
        if step.refused is not None:
            raise ConflictError("STATE_INVALID", f"{step.do} {step.target} was taken, {step.refused} had to refuse it")
        return ""

    def _do(self, step: Step) -> None:
        plant = self._plant
        match step.do:
            case "kill":
                plant.kill(step.target)
            case "stop":
                plant.stop(step.target)
            case "start":
                plant.begin(step.target)
            case "restart":
                plant.stop(step.target)
                plant.begin(step.target)
            case "edit" | "reload":
                plant.edit(step.target, step.set or {})
            case "assign":
                site, _, twin = step.target.partition("/")
                plant.operator.call("PUT", f"sites/{site}/twins/{twin}/model", body={"model": step.model})
            case "command":
                self._command(step)
            case "alarm":
                found = find_alarm(plant, step.target)
                occurrence = {"occurrence": found["occurrence"]} if step.verb in {"ack", "shelve"} else {}
                body = {"comment": "scenario", **occurrence, **(step.body or {})}
                plant.operator.call("POST", f"alarms/{found['id']}:{step.verb}", body=body)

    def _command(self, step: Step) -> None:
        site, twin, name = step.target.split("/")
        body = {"property": name, **({} if step.value is None else {"value": step.value}), **(step.body or {})}
        path = f"sites/{quote(site)}/twins/{quote(twin)}/commands"
        sent = self._plant.operator.call("POST", path, body=body)
        if step.name is not None:
            self.commands[step.name] = f"{path}/{sent['id']}"


def find_alarm(plant: Running, name: str) -> dict[str, Any]:
    """An alarm `gateway/ALARM` as the coordinator shows it. Raises MissingError UNKNOWN_ALARM."""
    gateway, _, alarm = name.partition("/")
    site = plant.full_name(gateway).partition("/")[0]
    for found in plant.operator.pages(f"alarms?site={quote(site)}&gateway={quote(gateway)}"):
        if found["alarm"] == alarm:
            return dict(found)
    raise MissingError("NOT_FOUND", f"{gateway} has told of no alarm {alarm!r}")


def look(plant: Running, actor: Actor, subject: str, name: str) -> Any:
    """The document an expectation looks into.

    Raises:
        TwinError: NOT_FOUND and others of the coordinator; UnreachableError while nobody answers.
    """
    return _LOOKS[subject](plant, actor, name)


def _gateway(plant: Running, _: Actor, name: str) -> Any:
    return plant.operator.call("GET", _path(plant, name))


def _losses(plant: Running, _: Actor, name: str) -> Any:
    items = plant.operator.call("GET", f"{_path(plant, name)}/losses")["items"]
    return {"count": len(items), "items": items}


def _status(plant: Running, _: Actor, name: str) -> Any:
    try:
        return plant.status(plant.full_name(name))
    except OSError as silent:
        raise UnreachableError("AGENT_NOT_RUNNING", f"{name} says nothing: {silent}") from silent


def _twin(plant: Running, _: Actor, name: str) -> Any:
    site, _slash, twin = name.partition("/")
    return plant.operator.call("GET", f"sites/{quote(site)}/twins/{quote(twin)}")


def _directive(plant: Running, _: Actor, name: str) -> Any:
    items = plant.operator.call("GET", "directives", query={"target": name})["items"]
    return items[0] if items else {}


def _alarm(plant: Running, _: Actor, name: str) -> Any:
    return find_alarm(plant, name)


def _command(plant: Running, actor: Actor, name: str) -> Any:
    if name not in actor.commands:
        raise MissingError("NOT_FOUND", f"no command {name!r} was sent")
    return plant.operator.call("GET", actor.commands[name])


def _device(plant: Running, _: Actor, name: str) -> Any:
    return next(device for device in plant.fault({"do": "list"})["devices"] if device["name"] == name)


def _fleet(plant: Running, _: Actor, _name: str) -> Any:
    return plant.operator.call("GET", "fleet")


def _get(plant: Running, _: Actor, name: str) -> Any:
    path, _mark, query = name.partition("?")
    return plant.operator.call("GET", path, query=dict(parse_qsl(query)))


_LOOKS: Mapping[str, Callable[[Running, Actor, str], Any]] = {
    "gateway": _gateway,
    "losses": _losses,
    "status": _status,
    "twin": _twin,
    "directive": _directive,
    "alarm": _alarm,
    "command": _command,
    "device": _device,
    "fleet": _fleet,
    "get": _get,
}


def _path(plant: Running, name: str) -> str:
    site, _, gateway = plant.full_name(name).partition("/")
    return f"sites/{quote(site)}/gateways/{quote(gateway)}"
