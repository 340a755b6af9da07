"""The Kalman filter of one signature as straight-line code: the reference kernel, written out for its sizes."""

from __future__ import annotations

from typing import Any

from twinmodel.kernel import reference
from twinmodel.kernel.arena import DRIFT, I32, LANES, WATCH
from twinmodel.kernel.generate.form import Form, TooLargeError, Value
from twinmodel.kernel.generate.tiles import TracedTiles

# Beyond, the code outgrows the processor's cache of instructions and the generic kernel is as fast.
ORDER_MAX = 12


def linear_form(integers: I32, lanes: int | None = None) -> Form:
    """The step of a signature.

    Args:
        integers: I of the plans.
        lanes: the only number of lanes it is made for; None makes it for all.

    Raises:
        TooLargeError: the generic kernel serves it better.
    """
    n, m, p = (int(v) for v in integers[:3])
    if max(n, m, p) > ORDER_MAX:
        raise TooLargeError(f"{n} states, {m} inputs, {p} outputs")
    form = Form()
    tiles, count = form.argument("K_"), form.argument("W")
    if lanes is not None:
        _write(form, integers, tiles, form.value(lanes, "i"))
        return form
    # Full tiles are what a fleet is made of: for them the number of lanes is known to the compiler.
    full, nothing = count == LANES, form.value(0, "i")
    _write(form, integers, form.where(full, tiles, nothing), form.value(LANES, "i"))
    _write(form, integers, form.where(full, nothing, tiles), count)
    return form


def _write(form: Form, integers: I32, passes: Value, width: Value) -> None:
    """The loop over `passes` tiles of `width` lanes."""
    n, m, p, own = (int(integers[k]) for k in (0, 1, 2, 5))
    pairs = n * (n + 1) // 2
    head = DRIFT + 2 * n
    coefficients = p + 2 * pairs + (n + p) * (n + m + 1)
    rows = {"S": n + pairs + m + WATCH * p + 2, "Z": m + p + 3, "O": 6 * p + 1}
    tiles = form.argument("K_")
    size = head if own else head + coefficients
    with form.loop(passes) as t:
        at = {array: t * (width * k) for array, k in rows.items()}
        model = form.load("K", t) * size
        settings = [form.load("M", model + k) for k in range(head)]
        shared = [] if own else [form.load("M", model + (head + k)) for k in range(coefficients)]
        with form.loop(width, lanes=True) as w:
            if own:
                first = (form.argument("M_") - tiles * (width * coefficients)) + t * (width * coefficients)
                shared = [form.load("M", (first + width * k) + w) for k in range(coefficients)]
            traced: Any = TracedTiles(form, (n, m, p), at, w, width, (settings, shared))
            reference.kalman(traced)
            traced.flush()
