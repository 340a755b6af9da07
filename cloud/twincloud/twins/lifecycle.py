"""The life of a twin: its states, what each of them means, and which may follow which.

Whatever the state, ingest stores every sample that a gateway sends: a state never loses data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from twinmodel.errors import ConflictError


class State(StrEnum):
    """States of a twin."""

    DRAFT = "draft"
    COMMISSIONED = "commissioned"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a state allows.

    Attributes:
        listed: shown in lists that do not ask for it.
        alarming: its health counts, and stands in "needs attention".
        estimated: a twin with `run: cloud` is computed.
        assignable: a model may be assigned.
        changeable: desired values and relationships may be changed.
    """

    text: str
    listed: bool = True
    alarming: bool = False
    estimated: bool = False
    assignable: bool = True
    changeable: bool = True


MEANING: Final[dict[State, Meaning]] = {
    State.DRAFT: Meaning("being described; may not exist yet"),
    State.COMMISSIONED: Meaning("complete and on trial", estimated=True),
    State.ACTIVE: Meaning("in service", alarming=True, estimated=True),
    State.SUSPENDED: Meaning("out of service for a while", assignable=False),
    State.RETIRED: Meaning("out of service for good", listed=False, assignable=False, changeable=False),
}

TRANSITIONS: Final[dict[State, tuple[State, ...]]] = {
    State.DRAFT: (State.COMMISSIONED, State.RETIRED),
    State.COMMISSIONED: (State.DRAFT, State.ACTIVE, State.RETIRED),
    State.ACTIVE: (State.SUSPENDED, State.RETIRED),
    State.SUSPENDED: (State.ACTIVE, State.RETIRED),
    State.RETIRED: (State.COMMISSIONED,),
}
"""State -> states that may follow it; staying as it is is always allowed."""

FIRST: Final = (State.DRAFT, State.COMMISSIONED, State.ACTIVE)
"""States a twin may be created in."""

LISTED: Final = tuple(str(state) for state, meaning in MEANING.items() if meaning.listed)
ESTIMATED: Final = tuple(str(state) for state, meaning in MEANING.items() if meaning.estimated)


def check_transition(twin: str, before: State, after: State) -> None:
    """Lets a twin change its state; raises ConflictError TRANSITION_FORBIDDEN with those that are allowed."""
    if after is before or after in TRANSITIONS[before]:
        return
    allowed = ", ".join(TRANSITIONS[before])
    raise ConflictError(
        "TRANSITION_FORBIDDEN",
        f"twin {twin!r} is {before} and cannot become {after}",
        hint=f"from {before} it may become {allowed}",
        state=str(before),
        allowed=allowed,
    )


def check_assignable(twin: str, state: State) -> None:
    """Lets a model be assigned; raises ConflictError TWIN_OUT_OF_SERVICE."""
    if not MEANING[state].assignable:
        hint = f"make it {TRANSITIONS[state][0]} first: `twinctl twin set {twin} --state {TRANSITIONS[state][0]}`"
        raise ConflictError("TWIN_OUT_OF_SERVICE", f"twin {twin!r} is {state}: no model is assigned to it", hint=hint)


def check_changeable(twin: str, state: State, what: str) -> None:
    """Lets desired values or relationships change; raises ConflictError TWIN_OUT_OF_SERVICE."""
    if not MEANING[state].changeable:
        text = f"twin {twin!r} is {state}: its {what} stay as they are"
        raise ConflictError("TWIN_OUT_OF_SERVICE", text, hint=f"make it {TRANSITIONS[state][0]} first")


def table() -> str:
    """States, what they mean and what may follow, as the table of docs/twins.md."""
    head = "| state | means | listed | alarms | cloud estimates | model may be assigned | desired may change | next |"
    lines = [head, "|---" * 8 + "|"]
    for state, meaning in MEANING.items():
        flags = (meaning.listed, meaning.alarming, meaning.estimated, meaning.assignable, meaning.changeable)
        cells = [f"`{state}`", meaning.text, *("yes" if flag else "no" for flag in flags)]
        cells.append(", ".join(f"`{after}`" for after in TRANSITIONS[state]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
