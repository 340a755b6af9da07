"""Twin definitions from YAML files, each complaint with its line."""

from __future__ import annotations

from pathlib import Path

from twinmodel.definition.schema import DefinitionSpec
from twinmodel.profile.document import read_document


def load_definition(path: Path | str) -> DefinitionSpec:
    """Reads one definition; what it extends is looked up where it is published.

    Raises:
        ConfigError: FILE_MISSING, LIMIT_EXCEEDED, YAML_INVALID, UNKNOWN_KEY or VALUE_INVALID, with path, line and
            column; it lists every finding.
    """
    return read_document(path).validate(DefinitionSpec)
