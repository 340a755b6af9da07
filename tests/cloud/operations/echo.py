"""A child that adds up what it is told, refuses what is negative, and dies of 99."""

from __future__ import annotations

import os

from twincloud.operations.child import serve
from twinmodel.errors import InputError

seen: list[int] = []


def answer(message):
    n = message.get("n", 0)
    if n < 0:
        raise InputError("REQUEST_INVALID", "n: is negative")
    if n == 99:
        os._exit(3)
    seen.append(n)
    return {"sum": sum(seen)}


if __name__ == "__main__":
    serve(answer)
