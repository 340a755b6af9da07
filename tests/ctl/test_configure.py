"""`twinctl gateway configure` looks at what it sends before anything is sent."""

from __future__ import annotations

import pytest

PROFILE = "profile: acme/press\nprotocol: modbus\nbase: 0\npoints:\n  p: {at: holding 0}\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("acme/press/1.0", "All about the press\n", "this is no firmware profile"),
        ("acme/press/1.0", "site: a\ndevices: {}\n", "this is no firmware profile"),
        ("acme/press/1.0", PROFILE + "a: [", "line 6"),
        ("acme/pump/1.0", PROFILE, "the profile of acme/press, not of acme/pump"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_before_anything_is_sent(shell, tmp_path, name, text, said):
    (tmp_path / "site.yaml").write_text("site: a\n")
    (tmp_path / "p.yaml").write_text(text)
    asked = list(shell.fake.requests)
    done = shell(
        "gateway",
        "configure",
        "mill/gw-1",
        tmp_path / "site.yaml",
        "--why",
        "x",
        "--profile",
        f"{name}={tmp_path}/p.yaml",
    )
    assert done.code == 2
    assert said in done.err
    assert str(tmp_path / "p.yaml") in done.err
    assert list(shell.fake.requests) == asked
