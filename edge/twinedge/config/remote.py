"""The section `config:` of site.yaml: whether the coordinator may change the configuration, and how it is tried."""

from __future__ import annotations

from twinmodel.clock import SECOND_NS
from twinmodel.profile.schema import Duration, Strict


class Changes(Strict):
    """How the configuration may change: `config: {remote: true, probation: 60s}`.

    Attributes:
        remote: whether the coordinator may send another configuration; off unless it is written.
        probation: how long such a one has to prove itself before it stays.
    """

    remote: bool = False
    probation: Duration = 60 * SECOND_NS
