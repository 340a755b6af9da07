"""The Kalman filter of one signature as straight-line code: the reference kernel, written out for its sizes."""

from __future__ import annotations

from typing import Any

from twinmodel.kernel import reference
from twinmodel.kernel.arena import DRIFT, I32, WATCH
from twinmodel.kernel.generate.form import Form, TooLargeError
from twinmodel.kernel.generate.tiles import TracedTiles

# Beyond, the code outgrows the processor's cache of instructions and the generic kernel is as fast.
ORDER_MAX = 12


def linear_form(integers: I32, lanes: int | None = None) -> Form:
    """The step of a signature.

    Args:
        integers: I of the plans.
        lanes: distance of rows, when known beforehand; the yardstick in C needs it to become vector code.

    Raises:
        TooLargeError: the generic kernel serves it better.
    """
    n, m, p, own = (int(integers[k]) for k in (0, 1, 2, 5))
    if max(n, m, p) > ORDER_MAX:
        raise TooLargeError(f"{n} states, {m} inputs, {p} outputs")
    pairs = n * (n + 1) // 2
    head = DRIFT + 2 * n
    coefficients = p + 2 * pairs + (n + p) * (n + m + 1)
    rows = {"S": n + pairs + m + WATCH * p + 2, "Z": m + p + 3, "O": 6 * p + 1}
    form = Form()
    count = form.argument("W")
    width = count if lanes is None else form.value(lanes, "i")
    tiles = form.argument("K_")
    size = head if own else head + coefficients
    with form.loop(tiles) as t:
        at = {array: t * (width * k) for array, k in rows.items()}
        model = form.load("K", t) * size
        settings = [form.load("M", model + k) for k in range(head)]
        shared = [] if own else [form.load("M", model + (head + k)) for k in range(coefficients)]
        with form.loop(count, lanes=True) as w:
            if own:
                first = (form.argument("M_") - tiles * (width * coefficients)) + t * (width * coefficients)
                shared = [form.load("M", (first + width * k) + w) for k in range(coefficients)]
            traced: Any = TracedTiles(form, (n, m, p), at, w, width, (settings, shared))
            reference.kalman(traced)
            traced.flush()
    return form
