"""Where the commands of a gateway look when nobody says."""

from __future__ import annotations

import os

import pytest

from twinedge import cli_options


@pytest.mark.parametrize(("mine", "wanted"), [(True, "system"), (False, "home/twinedge")])
def test_the_user_of_the_service_looks_into_the_state_of_the_service(tmp_path, monkeypatch, mine, wanted):
    (tmp_path / "system").mkdir()
    monkeypatch.setattr(cli_options, "SYSTEM_STATE", tmp_path / "system")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(cli_options, "_is_mine", lambda folder: mine and folder.is_dir())
    assert cli_options.default_state() == tmp_path / wanted


def test_without_a_service_a_person_has_a_state_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(cli_options, "SYSTEM_STATE", tmp_path / "system")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    assert cli_options.default_state() == tmp_path / "home/twinedge"
