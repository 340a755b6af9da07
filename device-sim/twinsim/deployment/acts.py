"""What steps of a scenario do to a plant that runs, and where expectations look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote

from twinmodel.errors import ConflictError, TwinError, UnreachableError
from twinsim.deployment.running import Running
from twinsim.deployment.schema import Step


class Actor:
    """Does the steps of one run; remembers the commands it sent.

    Attributes:
        commands: name of a step -> what the coordinator answered.
    """

    def __init__(self, plant: Running) -> None:
        self._plant = plant
        self.commands: dict[str, Mapping[str, Any]] = {}

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
            case "command" | "alarm":
                raise ConflictError("STATE_INVALID", f"{step.do} is not known yet")


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
    "device": _device,
    "fleet": _fleet,
    "get": _get,
}


def _path(plant: Running, name: str) -> str:
    site, _, gateway = plant.full_name(name).partition("/")
    return f"sites/{quote(site)}/gateways/{quote(gateway)}"
