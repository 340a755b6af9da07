"""What feeds a twin in the cloud, as it is typed."""

from __future__ import annotations

import pytest

from twinctl.commands.cloud_twin import _feeds
from twinmodel.errors import InputError


def test_feed_is_sent_as_the_service_takes_it():
    found = _feeds(("pump=mill/tanks.pump", "level=tanks.level2#estimate"))
    assert found == {
        "pump": {"site": "mill", "twin": "tanks", "property": "pump"},
        "level": {"twin": "tanks", "property": "level2", "role": "estimate"},
    }


def test_text_that_is_no_feed_is_refused_by_name():
    with pytest.raises(InputError, match="'pump' is no PORT=FEED"):
        _feeds(("pump",))
