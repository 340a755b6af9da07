"""Why a connection to a broker of devices ended or never began, and what to do about it."""

from __future__ import annotations

from twinedge.refusals import hint_of


def told(lost: BaseException, where: str) -> tuple[str, str]:
    """Reason and text of what `leaf` found, at the broker `where`."""
    said, hint = f"{where}: {str(lost) or type(lost).__name__}", hint_of(lost)
    return ("DEVICE_REFUSED", f"{said}; {hint}") if hint else ("DEVICE_UNREACHABLE", said)
