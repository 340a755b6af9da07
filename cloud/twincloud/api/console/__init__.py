"""The web console: pages that are clients of the public REST API, and every file they need from this host alone."""

from twincloud.api.console.pages import DEFAULT_TENANT, console_router

__all__ = ["DEFAULT_TENANT", "console_router"]
