"""`twincloud` as people type it: data on stdout, talk on stderr, exit codes of the registry."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

import pytest

from twincloud.__main__ import run
from twincloud.config import load_settings
from twinmodel.errors import TwinError


@pytest.fixture
def twincloud(capsys, tmp_path, monkeypatch):
    """Function: arguments -> (exit code, stdout, stderr), with the state directory of this test."""

    monkeypatch.setattr("twinmodel.logs.configure_logs", lambda _: None)  # it would keep this test's stderr

    def call(*arguments: str, state: bool = True):
        code = run([*arguments, *(["--state", str(tmp_path / "state")] if state else [])])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_init_prints_the_admin_token_once_and_refuses_to_overwrite(twincloud, tmp_path):
    code, out, err = twincloud("init", "--name", "twins.example")
    assert code == 0
    assert out.startswith("twt_")
    assert len(out.splitlines()) == 1
    assert out.strip() not in err
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    code, out, err = twincloud("init")
    assert (code, out) == (1, "")
    assert err.startswith("error: ALREADY_EXISTS: ")
    assert "\n\nhint: " in err


def test_tokens_are_made_listed_and_revoked(twincloud):
    twincloud("init")
    code, out, _ = twincloud("token", "create", "desk", "--role", "viewer", "--ttl", "12h")
    assert code == 0
    assert out.startswith("twt_")
    rows = json.loads(twincloud("token", "list", "-o", "json")[1])
    assert [(r["name"], r["tenant"], r["role"], r["state"]) for r in rows] == [
        ("admin", "*", "admin", "valid"), ("desk", "default", "viewer", "valid"),
    ]  # fmt: skip
    assert twincloud("token", "revoke", "desk")[0] == 0
    assert json.loads(twincloud("token", "list", "-o", "json")[1])[1]["state"] == "revoked"
    assert "revoked" in twincloud("token", "list")[1]
    assert twincloud("token", "revoke", "desk")[0] == 1
    assert twincloud("token", "create", "x", "--role", "king")[0] == 2
    assert twincloud("token", "create", "x", "--role", "viewer", "--ttl", "soon")[0] == 2


def test_authority_database_and_doctor_report(twincloud, tmp_path):
    twincloud("init")
    rows = json.loads(twincloud("ca", "show", "-o", "json")[1])
    assert [r["kind"] for r in rows] == ["root", "issuing", "server"]
    facts = json.loads(twincloud("db", "status", "-o", "json")[1])
    assert facts["samples"] == 0
    config = tmp_path / "twincloud.yaml"
    config.write_text("port: 0\nsync_port: 0\nenrol_port: 0\n")
    code, out, _ = twincloud("doctor", "-o", "json", "--config", str(config))
    assert code == 0, out
    assert all(row["ok"] for row in json.loads(out))
    (tmp_path / "state" / "identity" / "root.key").chmod(0o644)
    code, out, _ = twincloud("doctor", "-o", "json", "--config", str(config))
    assert code == 3
    (wrong,) = [row for row in json.loads(out) if not row["ok"]]
    assert wrong["hint"].startswith("chmod 600")


def test_commands_before_init_say_so(twincloud):
    for command in (("serve",), ("token", "list"), ("ca", "show"), ("db", "status")):
        code, out, err = twincloud(*command)
        assert (code, out) == (1, ""), command
        assert "NOT_INITIALISED" in err
        assert "twincloud init" in err


def test_explain_tells_a_reason_and_finds_near_ones(twincloud):
    code, out, _ = twincloud("explain", "fenced", "-o", "json", state=False)
    assert (code, json.loads(out)["http"]) == (0, 409)
    assert "fix" in twincloud("explain", "FENCED", state=False)[1]
    code, _, err = twincloud("explain", "FENCE", state=False)
    assert code == 1
    assert "did you mean FENCED?" in err


def test_usage_errors_end_with_two(twincloud):
    code, out, err = twincloud("token", "create", state=False)
    assert (code, out) == (2, "")
    assert "Usage" in err


def test_missing_extra_is_named(twincloud, monkeypatch):
    monkeypatch.setattr("twinmodel.process.find_spec", lambda _: None)
    monkeypatch.setattr(
        "twincloud.cli.settings_of", lambda *_, **__: (_ for _ in ()).throw(ModuleNotFoundError(name="fastapi.x"))
    )
    code, _, err = twincloud("serve")
    assert code == 1
    assert "EXTRA_MISSING" in err
    assert "hybridtwin[cloud]" in err


def test_help_starts_without_the_heavy_libraries():
    script = (
        "import sys; from twincloud.__main__ import run; run(['--help']);"
        "heavy = {'fastapi', 'grpc', 'sqlalchemy', 'numpy', 'cryptography', 'rich', 'structlog'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_settings_join_file_and_flags_and_complain_with_the_line(tmp_path):
    path = tmp_path / "twincloud.yaml"
    path.write_text("host: 0.0.0.0\nport: 9000\nnames: [twins.example]\n")
    settings = load_settings(path, {"port": 9001, "host": None}, {"HOME": str(tmp_path)})
    assert (settings.host, settings.port, settings.public_name) == ("0.0.0.0", 9001, "twins.example")
    for text, reason in (("prot: 1\n", "UNKNOWN_KEY"), ("port: 70000\n", "VALUE_INVALID"), ("- a\n", "VALUE_INVALID")):
        path.write_text(text)
        with pytest.raises(TwinError, match=reason) as wrong:
            load_settings(path, {}, {"HOME": str(tmp_path)})
        assert wrong.value.facts["line"] == 1
    with pytest.raises(TwinError, match="FILE_MISSING"):
        load_settings(tmp_path / "none.yaml", {}, {"HOME": str(tmp_path)})
    with pytest.raises(TwinError, match="VALUE_INVALID"):
        load_settings(None, {"port": -1}, {"HOME": str(tmp_path)})
