"""Old directives are forgotten in the background."""

from __future__ import annotations

from twincloud.upkeep.directives import KEPT_NS, ROWS_MAX, DirectiveTask


class Store:
    """Says how many went."""

    def __init__(self, *gone):
        self.gone, self.asked = list(gone), []

    def forget_directives(self, before_ns, limit):
        self.asked.append((before_ns, limit))
        return self.gone.pop(0)


def test_it_goes_on_at_once_while_there_are_more_than_one_step_forgets():
    store = Store(ROWS_MAX, 3)
    task = DirectiveTask(store)
    assert [task.run(KEPT_NS + 5), task.run(KEPT_NS + 6)] == [1, 0]
    assert store.asked == [(5, ROWS_MAX), (6, ROWS_MAX)]
