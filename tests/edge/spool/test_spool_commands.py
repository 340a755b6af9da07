"""`twinedge spool` as a person runs it: what it prints, and how it ends."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from twinedge.__main__ import main
from twinedge.cli import cli
from twinedge.spool.schema import FILE
from twinmodel.signal import Stream


@pytest.fixture
def spool(bench):
    spool = bench.open()
    bench.append(spool, Stream.TELEMETRY, 20, noisy=True)
    bench.append(spool, Stream.ALARM, 3)
    yield spool
    spool.close()


@pytest.fixture
def shell(bench, monkeypatch, capsys):
    """Function: arguments -> exit code, standard output, standard error."""

    def run(*args):
        monkeypatch.setattr("sys.argv", ["twinedge", "spool", *map(str, args), "--state", str(bench.folder)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


def test_status_beside_a_running_agent_is_a_table_or_json(shell, spool):
    code, out, err = shell("status", "-o", "json")
    document = json.loads(out)
    assert (code, err, document["backlog_samples"], document["boot"]) == (0, "", 23, spool.boot.id.hex())
    code, out, _ = shell("status")
    assert code == 0
    assert ["backlog_samples", "23"] in [line.split() for line in out.splitlines()]


def test_export_tells_on_standard_error_how_much_it_wrote_and_refuses_other_suffixes(shell, spool, tmp_path):
    code, out, err = shell("export", "--to", tmp_path / "all.csv")
    assert (code, out) == (0, "")
    assert "23 samples" in err
    code, out, err = shell("export", "--to", tmp_path / "all.txt")
    assert (code, out) == (2, "")
    assert err.startswith("error: VALUE_INVALID")


def test_verify_of_a_sound_spool_beside_a_running_agent_ends_with_0_and_of_a_damaged_one_with_its_reason(
    bench, shell, spool
):
    code, out, _ = shell("verify")
    assert (code, ["samples", "23"] in [line.split() for line in out.splitlines()]) == (0, True)
    payload = spool.unsent(bytes_max=1 << 20, items_max=9)[-1].content.payload
    spool.close()
    raw = (bench.folder / FILE).read_bytes()
    at = raw.index(payload) + len(payload) // 2
    (bench.folder / FILE).write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    code, out, err = shell("verify")
    assert (code, out) == (3, "")
    assert err.startswith("error: STORE_CORRUPT")


@pytest.mark.parametrize("verb", [["status"], ["verify"], ["export", "--to", "x.csv"]])
def test_missing_folder_or_file_ends_with_1_and_a_hint(shell, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = shell(*verb)
    assert (code, out) == (1, "")
    assert err.startswith("error: NOT_FOUND")
    assert "--state" in err
    assert not (tmp_path / "x.csv").exists()


def test_file_that_is_no_spool_is_told_as_damage(bench, shell):
    bench.folder.mkdir()
    (bench.folder / FILE).write_bytes(b"something else" * 1000)
    code, _, err = shell("status")
    assert (code, err.split()[1].rstrip(":")) == (3, "STORE_CORRUPT")


def test_every_command_of_the_group_has_help():
    for name in ("status", "export", "verify"):
        assert CliRunner().invoke(cli, ["spool", name, "--help"]).exit_code == 0
