"""Samples reach the models that read them, and no others are asked."""

import numpy as np

from twinedge.estimate.readers import Readers
from twinmodel.signal import Batch, Kind


class Wiring:
    def __init__(self, inputs, outputs):
        self.inputs, self.outputs = inputs, outputs


class Runner:
    def __init__(self, **wiring):
        self.wiring = Wiring(**wiring)


def batch(*signals):
    count = len(signals)
    return Batch(
        Kind.FLOAT,
        np.array(signals, np.uint32),
        np.zeros(count),
        np.zeros(count, np.uint16),
        np.zeros(count, np.int64),
    )


def test_a_batch_concerns_those_who_read_one_of_its_signals_in_the_order_of_the_twins():
    first = Runner(inputs={"pump": 3}, outputs={"level": 7})
    second = Runner(inputs={"pump": 3}, outputs={})
    third = Runner(inputs={}, outputs={"flow": 0})
    readers = Readers([first, second, third])
    assert readers.of(batch(7, 7, 1)) == [first]
    assert readers.of(batch(0, 3)) == [first, second, third]
    assert readers.of(batch(1, 2, 8, 4_000_000_000)) == []
    assert readers.of(batch()) == []


def test_without_models_nobody_is_asked():
    assert Readers([]).of(batch(0, 1)) == []
