"""The verdict over a plant: what a device refused to tell is no sample it gave out."""

import pytest

from twinmodel.clock import SECOND_NS
from twinmodel.quality import GOOD, QualityReason, bad
from twinsim.deployment.audit import audit
from twinsim.served import ServedLog

PROTOCOLS = {"T-1": "modbus"}


class Coordinator:
    """Answers as REST does, with these samples of one gateway."""

    def __init__(self, samples):
        self.rows = samples

    def pages(self, path, _tries):
        return [{"site": "north", "gateway": "n1"}] if path == "gateways" else []

    def samples(self, _site, _gateway):
        return [
            {"signal": f"T-1.{point}", "t_ns": t * SECOND_NS, "value": value, "quality": quality}
            for t, quality, number in self.rows
            for point, value in (("level", 0.5), ("sample_no", number))
        ]


@pytest.fixture
def served(tmp_path):
    log = ServedLog(tmp_path)
    for t in (1, 2, 5):
        log.add("modbus", "T-1", "peer", t, t * SECOND_NS, ("level", "sample_no"))
    log.close()
    return tmp_path


@pytest.mark.parametrize("reason", [QualityReason.DEVICE_FAULT, QualityReason.DECODE, QualityReason.NOT_CONNECTED])
def test_what_a_device_refused_for_a_while_is_no_duplicate(served, reason):
    rows = [(1, GOOD, 1), (2, GOOD, 2), (3, bad(reason), 0), (4, bad(reason), 0), (5, GOOD, 5)]
    found = audit(Coordinator(rows), served, PROTOCOLS)
    assert (found.samples_acquired, found.samples_stored, found.lost, found.duplicates) == (6, 6, 0, 0)


def test_a_value_that_came_and_was_stored_as_refused_is_lost(served):
    rows = [(1, GOOD, 1), (2, bad(QualityReason.DEVICE_FAULT), 2), (5, GOOD, 5)]
    assert audit(Coordinator(rows), served, PROTOCOLS).lost == 2


def test_one_number_stored_twice_is_a_duplicate_and_a_doubted_value_counts_as_stored(served):
    out_of_range = bad(QualityReason.OUT_OF_RANGE)
    rows = [(1, GOOD, 1), (2, out_of_range, 2), (3, GOOD, 2), (5, GOOD, 5)]
    found = audit(Coordinator(rows), served, PROTOCOLS)
    assert (found.lost, found.duplicates) == (0, 2)
