"""`fields=`: of an answer only what is asked for, on every route that answers JSON.

    fields=twin,health,properties.name,properties.reported.value

Names are those of the answer, dotted for what lies inside; in a listing they are those of its items. A name that the
answer's shape does not have is refused with the nearest one, whatever happens to be in this answer.
"""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from types import UnionType
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twincloud.api.problems import problem_of
from twinmodel.errors import InputError, TwinError

PARAMETER = "fields"
CHARS_MAX = 1_000
FIELDS_MAX = 50
Tree = dict[str, "Tree"]


class Fields:
    """ASGI middleware around the routes; requests without `fields` pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        asked = _asked(scope)
        if asked is None:
            await self._app(scope, receive, send)
            return
        start: list[Message] = []
        body = bytearray()

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] != HTTPStatus.OK or not _is_json(message):
                    await send(message)
                    return
                start.append(message)
            elif not start:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await _send_part(scope, asked, start[0], bytes(body), receive, send)

        await self._app(scope, receive, keep)


async def _send_part(scope: Scope, asked: str, start: Message, body: bytes, receive: Receive, send: Send) -> None:
    try:
        wanted = tree_of(asked)
        model = getattr(scope.get("route"), "response_model", None)
        if model is not None:
            check(wanted, _item(model) or model)
        content = json.loads(body)
        if isinstance(content, dict) and isinstance(content.get("items"), list):
            content["items"] = [part(item, wanted) for item in content["items"]]
        else:
            content = part(content, wanted)
    except TwinError as error:
        await problem_of(error, scope["path"])(scope, receive, send)
        return
    packed = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    headers = [(name, text) for name, text in start["headers"] if name.lower() != b"content-length"]
    await send({**start, "headers": [*headers, (b"content-length", b"%d" % len(packed))]})
    await send({"type": "http.response.body", "body": packed})


def tree_of(asked: str) -> Tree:
    """Dotted names as a tree; raises REQUEST_INVALID."""
    names = [name.strip() for name in asked.split(",")]
    if len(asked) > CHARS_MAX or len(names) > FIELDS_MAX or not all(all(name.split(".")) for name in names):
        raise InputError(
            "REQUEST_INVALID",
            f"{PARAMETER}: it is no list of at most {FIELDS_MAX} names",
            hint="write names of the answer with commas between them, e.g. twin,health",
            field=PARAMETER,
        )
    tree: Tree = {}
    for name in names:
        branch = tree
        for word in name.split("."):
            branch = branch.setdefault(word, {})
    return tree


def check(wanted: Tree, shape: Any, place: str = "") -> None:
    """Raises REQUEST_INVALID for a name that a shape does not have, with the nearest one it has."""
    models = list(_models(shape))
    known = {field.alias or name: field.annotation for model in models for name, field in model.model_fields.items()}
    for name, inside in wanted.items():
        if not models:
            return  # names here are those of people: tags, units, series
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {place}{near[0]}?" if near else f"use one of {', '.join(sorted(known))}"
            raise InputError(
                "REQUEST_INVALID", f"{PARAMETER}: the answer has no {place}{name}", hint=hint, field=PARAMETER
            )
        if inside:
            check(inside, known[name], f"{place}{name}.")


def part(content: Any, wanted: Tree) -> Any:
    """What is wanted of JSON; lists are gone through item by item."""
    if isinstance(content, list):
        return [part(item, wanted) for item in content]
    if not isinstance(content, dict) or not wanted:
        return content
    return {name: part(content[name], inside) for name, inside in wanted.items() if name in content}


def _item(model: Any) -> Any:
    fields: Mapping[str, Any] = getattr(model, "model_fields", {})
    return fields["items"].annotation if "items" in fields else None


def _models(shape: Any) -> Iterable[type[BaseModel]]:
    """Models that a value of an annotation may be, in lists and unions too; mappings have names of their own."""
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        yield shape
    elif typing.get_origin(shape) in (list, tuple, UnionType, typing.Union, typing.Annotated):
        for one in typing.get_args(shape):
            yield from _models(one)


def _asked(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "GET" or b"fields=" not in scope["query_string"]:
        return None
    if not scope["path"].startswith("/api/"):
        return None
    found = [text for name, text in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
             if name == PARAMETER]  # fmt: skip
    return ",".join(found) if found else None


def _is_json(message: Message) -> bool:
    kinds = [text for name, text in message["headers"] if name.lower() == b"content-type"]
    return bool(kinds) and kinds[0].split(b";")[0].strip() == b"application/json"
