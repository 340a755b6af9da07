"""The quality gate: stamps what looks wrong, drops nothing, improves nothing."""

from twinedge.gate.gate import Gate
from twinedge.gate.rules import Labels, Rules, rules_of

__all__ = ["Gate", "Labels", "Rules", "rules_of"]
