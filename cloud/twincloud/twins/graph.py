"""Circles in a graph of relationships."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def first_cycle(edges: Iterable[tuple[K, K]]) -> tuple[K, ...]:
    """One circle along the edges, first and last the same; empty when there is none. Takes no recursion."""
    following: dict[K, list[K]] = {}
    for source, target in edges:
        following.setdefault(source, []).append(target)
    done: set[K] = set()
    for start, first in following.items():
        if start in done:
            continue
        path, on_path = [start], {start: 0}
        ways = [iter(first)]
        while ways:
            try:
                target = next(ways[-1])
            except StopIteration:
                ways.pop()
                last = path.pop()
                del on_path[last]
                done.add(last)
                continue
            if target in on_path:
                return (*path[on_path[target] :], target)
            if target not in done:
                on_path[target] = len(path)
                path.append(target)
                ways.append(iter(following.get(target, ())))
    return ()
