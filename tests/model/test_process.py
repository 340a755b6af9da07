"""How commands end, and what a supervisor is told."""

from __future__ import annotations

import gc
import socket

import pytest

from twinmodel import process
from twinmodel.errors import DeniedError


def told(error):
    def command():
        raise error

    return process.outcome(command, extra="edge")


def test_a_twin_error_is_told_with_its_hint_and_its_exit_code(capsys):
    assert told(DeniedError("CERT_EXPIRED", "it ended yesterday", hint="join again")) == 4
    assert capsys.readouterr().err == "error: CERT_EXPIRED: it ended yesterday\n\nhint: join again\n"


def test_a_missing_library_names_the_extra(capsys):
    assert told(ModuleNotFoundError("No module named 'nowhere'", name="nowhere.sub")) == 1
    assert "EXTRA_MISSING: the module nowhere is not installed" in (err := capsys.readouterr().err)
    assert "hybridtwin[edge]" in err


def test_a_missing_module_of_ours_is_a_defect_and_not_a_missing_extra():
    with pytest.raises(ModuleNotFoundError):
        told(ModuleNotFoundError("No module named 'twinedge.nothing'", name="twinedge.nothing"))


@pytest.mark.parametrize(("raised", "code"), [(SystemExit(2), 2), (SystemExit(None), 0), (KeyboardInterrupt(), 1)])
def test_exits_of_the_command_line_keep_their_code(raised, code):
    assert told(raised) == code


@pytest.mark.parametrize("abstract", [False, True])
def test_a_supervisor_hears_the_state(tmp_path, monkeypatch, abstract):
    address = "@hybridtwin-test" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind("\0" + address[1:] if abstract else address)
        supervisor.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert process.notify("READY=1")
        assert supervisor.recv(100) == b"READY=1"


def test_without_or_with_a_deaf_supervisor_nothing_fails(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not process.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not process.notify("READY=1")


@pytest.mark.parametrize(("text", "period"), [("60000000", 30.0), ("", None), ("x", None)])
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(monkeypatch, text, period):
    monkeypatch.setenv("WATCHDOG_USEC", text)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert process.watchdog_period_s() == period
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert process.watchdog_period_s() is None


def test_imports_of_a_program_are_no_business_of_the_collector_and_what_comes_later_is():
    frozen = gc.get_freeze_count()
    with process.loading():
        assert not gc.isenabled()
    try:
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
