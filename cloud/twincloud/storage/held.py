"""Facts that never change once they are committed, the most recently used ones in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Committed facts, the most recently used ones; safe to use from any thread.

    Args:
        weight_max: facts that are held, or what they may weigh together.
        weigh: what one weighs, 1 when it is not given.
    """

    def __init__(self, weight_max: int, weigh: Callable[[V], int] | None = None) -> None:
        self.weight = 0
        self._weight_max = weight_max
        self._weigh = weigh or _one
        self._facts: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The fact, None when it is not held."""
        with self._lock:
            fact = self._facts.get(key)
            if fact is not None:
                self._facts.move_to_end(key)
            return fact

    def put(self, key: K, fact: V) -> V:
        """Holds a fact and gives it back."""
        with self._lock:
            if key in self._facts:
                self.weight -= self._weigh(self._facts[key])
            self._facts[key] = fact
            self.weight += self._weigh(fact)
            while self.weight > self._weight_max:
                self.weight -= self._weigh(self._facts.popitem(last=False)[1])
        return fact

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._facts.clear()
            self.weight = 0


def _one(_fact: object) -> int:
    return 1
