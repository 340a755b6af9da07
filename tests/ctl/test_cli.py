"""Exit codes, streams and start-up of the tool as a whole."""

import socket
import subprocess
import sys

import pytest


def test_a_coordinator_that_does_not_answer_is_exit_code_5(shell):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        refused = shell("fleet", "--timeout", "2", HYBRIDTWIN_URL=url)
    assert refused.code == 5
    assert refused.err.startswith(f"error: COORDINATOR_UNREACHABLE {url} does not answer")
    assert "hint:" in refused.err
    assert refused.out == ""


@pytest.mark.parametrize("url", ["http://no-such-host.invalid:8420", "http://127.0.0.1:99999", "nonsense"])
def test_an_address_that_cannot_be_is_told_without_a_traceback(shell, url):
    refused = shell("fleet", "--timeout", "2", HYBRIDTWIN_URL=url)
    assert refused.code in (2, 5)
    assert refused.err.startswith("error: ")


def test_a_token_that_is_not_known_is_exit_code_4(shell):
    refused = shell("fleet", HYBRIDTWIN_TOKEN="wrong")
    assert refused.code == 4
    assert "hint: run `twinctl login`" in refused.err


def test_a_token_that_no_header_can_carry_is_told(shell):
    assert shell("fleet", HYBRIDTWIN_TOKEN="sch\u00f6n\n").code in (2, 4)


@pytest.mark.parametrize(
    "args", [["twin", "list", "-o", "xml"], ["twin", "shew"], ["twin", "show"], ["--timeout", "0", "fleet"]]
)
def test_a_wrong_use_is_exit_code_2(shell, args):
    assert shell(*args).code == 2


def test_global_options_stand_before_or_after_the_verb(shell):
    before = shell("-o", "json", "--fields", "site", "twin", "list")
    after = shell("twin", "list", "-o", "json", "--fields", "site")
    assert before.out == after.out != ""


def test_help_imports_nothing_heavy():
    heavy = {"httpx", "rich", "numpy", "pydantic", "cryptography", "twincloud", "twinedge"}
    code = f"import sys, twinctl.cli; print(sorted({heavy} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_output_has_no_colour_codes_when_it_is_no_terminal(shell):
    assert "\x1b" not in shell("twin", "list").out
