"""One deployment for all end-to-end tests; when one of them fails, every process's last words are printed."""

from __future__ import annotations

import pytest

from tests.e2e.plant import Plant, ended_together

_PLANT: pytest.StashKey[Plant] = pytest.StashKey()


@pytest.fixture(scope="session")
def plant(request, tmp_path_factory):
    made = Plant(tmp_path_factory.mktemp("plant"))
    request.config.stash[_PLANT] = made
    try:
        with ended_together(made.programs):
            made.start()
            yield made
    finally:
        made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    made = item.config.stash.get(_PLANT, None)
    if report.failed and made is not None and made.logs.exists() and "plant" in item.fixturenames:
        report.sections.append(("processes", made.tails()))
    return report
