"""Quality of a sample: good, uncertain or bad with its reason, in 16 bits.

The class stands in the high byte and the reason in the low byte, so that `q >> 8` gives the class, 0 is
plain good, and the larger of two codes of different class is the worse one. The classes are those of
OPC UA Part 8 (Good, Uncertain, Bad).
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache


class QualityClass(IntEnum):
    """The severity that decides whether a model may use a sample."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


class QualityReason(IntEnum):
    """Why a sample is not plainly good."""

    NONE = 0
    OUT_OF_RANGE = 1
    RATE = 2
    FROZEN = 3
    SPIKE = 4
    STALE = 5
    ABSENT = 6
    NOT_CONNECTED = 7
    DEVICE_FAULT = 8
    CLOCK = 9
    DECODE = 10
    SUBSTITUTED = 11
    BACKFILLED = 12
    LATE = 13
    SETTLING = 14
    REGIME = 15


GOOD = 0


def quality(klass: QualityClass, reason: QualityReason = QualityReason.NONE) -> int:
    """Packs class and reason into the code samples carry."""
    return (int(klass) << 8) | int(reason)


def good(reason: QualityReason = QualityReason.NONE) -> int:
    """Code of a good sample, with an annotation such as BACKFILLED where there is one."""
    return quality(QualityClass.GOOD, reason)


def uncertain(reason: QualityReason) -> int:
    """Code of a sample that a model may use, but a person should doubt."""
    return quality(QualityClass.UNCERTAIN, reason)


def bad(reason: QualityReason) -> int:
    """Code of a sample that no model may use; its value is NaN or the last one read."""
    return quality(QualityClass.BAD, reason)


def class_of(code: int) -> QualityClass:
    """The class of a code; an unknown class counts as bad."""
    return QualityClass(min(code >> 8, 2))


@lru_cache(maxsize=4_096)
def describe(code: int) -> str:
    """Text of a code for people and for REST: `good`, `bad(STALE)` ..."""
    name = class_of(code).name.lower()
    reason = code & 0xFF
    if reason == 0:
        return name
    label = QualityReason(reason).name if reason in QualityReason._value2member_map_ else str(reason)
    return f"{name}({label})"
