"""The session between a gateway and its coordinator: both sides as transition tables, without I/O."""

from twinsync.session.edge import EdgeLimits, EdgeSession, EdgeState
from twinsync.session.server import ServerLimits, ServerSession, ServerState

__all__ = ["EdgeLimits", "EdgeSession", "EdgeState", "ServerLimits", "ServerSession", "ServerState"]
