"""The script that installs a gateway without internet: what is damaged or in the way is refused, nothing is changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "deploy/wheelhouse"


@pytest.fixture
def house(tmp_path):
    """A wheelhouse without wheels: enough for whatever is refused before a wheel is looked at."""
    made = tmp_path / "house"
    (made / "wheels").mkdir(parents=True)
    (made / "install.sh").write_bytes((SCRIPTS / "install.sh").read_bytes())
    (made / "requirements.txt").write_text("")
    names = ("requirements.txt", "install.sh")
    sums = [f"{hashlib.sha256((made / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (made / "SHA256SUMS").write_text("".join(sums))
    return made


STAND_IN = """\
#!/bin/sh
# An interpreter whose environments cannot install anything.
[ "$1" = -m ] || exit 0
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho no such wheel >&2\\nexit 1\\n' > "$3/bin/python"
chmod +x "$3/bin/python"
"""


def install(house, target, python="python3"):
    command, environment = ["bash", house / "install.sh", target], {**os.environ, "PYTHON": str(python)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


@pytest.mark.parametrize("script", ["build.sh", "install.sh"])
def test_the_scripts_are_bash(script):
    subprocess.run(["bash", "-n", SCRIPTS / script], check=True)


def test_a_damaged_file_is_refused_before_anything_is_made(house, tmp_path):
    (house / "requirements.txt").write_text("altered")
    ended = install(house, tmp_path / "opt")
    assert (ended.returncode, (tmp_path / "opt").exists()) == (1, False)
    assert "damaged" in ended.stderr


def test_a_folder_of_something_else_is_left_alone(house, tmp_path):
    other = tmp_path / "opt"
    other.mkdir()
    (other / "mine").write_text("precious")
    ended = install(house, other)
    assert (ended.returncode, (other / "mine").read_text()) == (1, "precious")
    assert "something else" in ended.stderr


def test_an_installation_that_fails_gives_the_one_before_back(house, tmp_path):
    target = tmp_path / "opt"
    (target / "bin").mkdir(parents=True)
    (target / "bin/twinedge").write_text("#!/bin/sh\necho old\n")
    (target / "bin/twinedge").chmod(0o755)
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    ended = install(house, target, python)
    assert "no such wheel" in ended.stderr
    assert ended.returncode != 0
    assert (target / "bin/twinedge").read_text() == "#!/bin/sh\necho old\n"
    assert not (tmp_path / "opt.before").exists()
    assert "nothing was changed" in ended.stderr
