"""The OpenAPI document: what every route has in common is said here once.

Refusals are problem documents, whichever route they come from; changes may carry an Idempotency-Key; documents that
people write are changed under a condition; what answers JSON can be asked for a part of it; and a token is a bearer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from twincloud.api.fields import CHARS_MAX, PARAMETER
from twincloud.api.idempotency import METHODS, openapi_parameter
from twincloud.api.problems import MEDIA_TYPE
from twincloud.api.v1.schemas import Problem

_PROBLEM = {"description": "refused", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_FAILED = {**_PROBLEM, "description": "failed; nothing that was acknowledged is lost"}
_FIELDS = {
    "name": PARAMETER,
    "in": "query",
    "required": False,
    "description": "names of the answer, of its items in a listing, with commas; dotted for what lies inside",
    "schema": {"type": "string", "maxLength": CHARS_MAX, "default": ""},
}
_CONDITIONAL = ("/record", "/desired", "/relationships/{type}/{target_site}/{target}", "/fleets/{f}", "/retention")
"""Ends of paths of documents that people write."""
_CONDITIONS = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": text,
        "schema": {"type": "string", "maxLength": 4096},
    }
    for name, text in (("If-Match", "ETags it may have, or *"), ("If-None-Match", "* where it must not be there yet"))
]


def install(app: FastAPI) -> None:
    """Gives an app its document; made once, when it is first asked for."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = completed(plain())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # FastAPI's own way to extend the document


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what all routes share."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, method, operation in _operations(document):
        _lift_definitions(operation, schemas)
        operation["responses"].pop("422", None)
        operation["responses"] |= {"4XX": _PROBLEM, "5XX": _FAILED}
        if path.startswith("/api/"):
            operation["security"] = [{"token": []}]
        parameters = operation.setdefault("parameters", [])
        names = {(one["in"], one["name"]) for one in parameters}
        if method.upper() in METHODS and "/tenants/" in path:
            parameters.append(openapi_parameter())
            if path.endswith(_CONDITIONAL) and method in ("put", "patch", "delete"):
                parameters += _CONDITIONS
        json_answer = "application/json" in operation["responses"].get("200", {}).get("content", {})
        if method == "get" and json_answer and path.startswith("/api/") and ("query", PARAMETER) not in names:
            parameters.append(_FIELDS)
    return document


def _lift_definitions(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Moves what the schema of a body brings along to where its references point."""
    for kind in operation.get("requestBody", {}).get("content", {}).values():
        schemas.update(kind["schema"].pop("$defs", {}))


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation
