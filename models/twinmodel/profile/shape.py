"""The JSON Schema of a profile file, for editors and for programs that write profiles."""

from __future__ import annotations

from typing import Any

from twinmodel.profile.schema import FirmwareProfile

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) that every profile file fits, also one that inherits and says only what differs."""
    schema: dict[str, Any] = {"$schema": _DIALECT} | FirmwareProfile.model_json_schema(by_alias=True)
    points = schema["properties"]["points"]
    points["additionalProperties"] = {"anyOf": [points["additionalProperties"], {"type": "null"}]}
    schema["required"] = ["profile"]
    schema["anyOf"] = [{"required": ["protocol", "points"]}, {"required": ["inherits", "firmware"]}]
    return schema
