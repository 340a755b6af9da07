"""How long history is kept, from a shell."""

from __future__ import annotations


def policies(shell):
    return {p["pattern"]: (p["raw_days"], p["archive_days"]) for p in shell("retention", "show", "-o", "json").json}


def test_policies_are_tried_set_changed_and_removed(shell):
    assert "kept for ever" in shell("retention", "show").err + shell("retention", "show").out
    tried = shell("retention", "set", "plc0.*", "--raw-days", 30, "--dry-run")
    assert (tried.code, policies(shell)) == (0, {})
    assert "1000000" in tried.out.replace(" ", "").replace(",", "")
    assert "2 archived files would be deleted" in tried.err
    assert shell("retention", "set", "plc0.*", "--raw-days", 30).code == 0
    # What is not named stays.
    assert shell("retention", "set", "plc0.*", "--archive-days", 365).code == 0
    assert shell("retention", "set", "*", "--bucket-days", 9).code == 0
    assert policies(shell) == {"plc0.*": (30, 365), "*": (0, 0)}
    assert [one["policy"]["pattern"] for one in shell("retention", "plan", "-o", "json").json] == ["plc0.*", "*"]
    assert "for ever" in shell("retention", "show").out
    assert shell("retention", "set", "plc0.*", "--remove").code == 0
    assert policies(shell) == {"*": (0, 0)}
    gone = shell("retention", "set", "plc0.*", "--remove")
    assert (gone.code, "NOT_FOUND" in gone.err) == (1, True)
    assert shell("retention", "set", "*", "--remove").code == 0
    assert shell("retention", "set", "*", "--raw-days", -1).code == 2
