"""The shape of a profile file: its JSON Schema for editors, and whether a text can be one at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twinmodel.profile.document import parse_document
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


def check_sort(text: str, name: str) -> None:
    """Whether a text can be the profile `vendor/device/version`; the rest is checked where it is used.

    Another release may know other keys, and what a profile inherits lies on the gateway.

    Raises:
        ConfigError: YAML_INVALID, or VALUE_INVALID for what is no profile, or is that of another device.
    """
    document = parse_document(text, Path(f"{name}.yaml"))
    content = document.content
    keys = content.keys() if isinstance(content, dict) else set()
    if not isinstance(content, dict) or not ({"profile", "points"} <= keys or {"profile", "inherits"} <= keys):
        hint = "a profile says `profile: vendor/device`, and `points` or what it `inherits`"
        raise document.error("VALUE_INVALID", (), "this is no firmware profile", hint=hint)
    if content["profile"] != name.rpartition("/")[0]:
        message = f"this is the profile of {content['profile']}, not of {name.rpartition('/')[0]}"
        raise document.error("VALUE_INVALID", ("profile",), message, hint="send it under its own name")
