"""Facts that never change once they are committed, the most recently used ones in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Committed facts, the most recently used ones; safe to use from any thread."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
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
            self._facts[key] = fact
            while len(self._facts) > self._count_max:
                self._facts.popitem(last=False)
        return fact

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._facts.clear()
