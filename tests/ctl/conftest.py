"""`twinctl` in this process, against a small coordinator on loopback."""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from twinctl.cli import cli


def load_fake():
    name = "fake_coordinator"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "fake_coordinator.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


fake_coordinator = load_fake()


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Shell:
    """Runs `twinctl` as a person would, with a home of its own."""

    def __init__(self, home: Path, url: str, fake) -> None:
        self.env = {"XDG_CONFIG_HOME": str(home), "HYBRIDTWIN_URL": url, "HYBRIDTWIN_TENANT": "acme"}
        self.env |= {"HYBRIDTWIN_TOKEN": fake_coordinator.TOKEN, "COLUMNS": "200"}
        self.home, self.url, self.fake = home, url, fake

    def __call__(self, *args: str, stdin: str = "", **env: str | None) -> Said:
        result = CliRunner().invoke(cli, [str(a) for a in args], input=stdin, env=self.env | env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def served():
    fake = fake_coordinator.FakeCoordinator()
    with fake_coordinator.Server(fake_coordinator.make_app(fake)) as url:
        yield fake, url


@pytest.fixture
def shell(served, tmp_path):
    fake, url = served
    fake.directives.clear()
    fake.outcome = "APPLIED"
    return Shell(tmp_path / "xdg", url, fake)
