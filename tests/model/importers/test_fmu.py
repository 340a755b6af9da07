"""FMUs: described without running them, run in a process of their own, refused when the file is hostile."""

from __future__ import annotations

import importlib.util
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twinmodel.errors import ConfigError, InputError
from twinmodel.importers import fmu
from twinmodel.importers.dataset import read_dataset

HERE = Path(__file__).parent
DESCRIPTION = """<?xml version="1.0" encoding="UTF-8"?>
<fmiModelDescription fmiVersion="2.0" modelName="Lag" guid="{0}" generationTool="a compiler of C">
<CoSimulation modelIdentifier="lag"/><ModelExchange modelIdentifier="lag"/>
<UnitDefinitions><Unit name="K"/><Unit name="cubits"/></UnitDefinitions>
<DefaultExperiment stepSize="0.5"/>
<ModelVariables>
<ScalarVariable name="x" valueReference="0" causality="output" initial="exact">
<Real start="0" unit="K"/></ScalarVariable>
<ScalarVariable name="der(x)" valueReference="1" causality="local"><Real derivative="1"/></ScalarVariable>
<ScalarVariable name="u" valueReference="2" causality="input"><Real start="0" unit="cubits"/></ScalarVariable>
<ScalarVariable name="k" valueReference="3" causality="parameter" variability="fixed"><Real start="1"/></ScalarVariable>
</ModelVariables>
<ModelStructure><Outputs><Unknown index="1"/></Outputs><Derivatives><Unknown index="2"/></Derivatives>
<InitialUnknowns><Unknown index="1"/></InitialUnknowns></ModelStructure>
</fmiModelDescription>"""


def packed(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


@pytest.fixture(scope="session")
def lag(tmp_path_factory, service_path):
    """The unit of lag.c, compiled here."""
    place = tmp_path_factory.mktemp("fmu")
    headers = Path(importlib.util.find_spec("fmpy").origin).parent / "c-code"
    library = place / "lag.so"
    subprocess.run(
        [service_path("compiler"), "-shared", "-fPIC", "-O1", f"-I{headers}", HERE / "lag.c", "-o", library], check=True
    )
    path = place / "lag.fmu"
    packed(path, **{"modelDescription.xml": DESCRIPTION, "binaries__linux64__lag.so": library.read_bytes()})
    return path


@pytest.fixture
def steps(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("time,u,x\n" + "".join(f"{k / 2},{1.0 if k < 10 else -1.0},\n" for k in range(20)))
    return path


def exact(k):
    x, found = 0.0, []
    for tick in range(20):
        found.append(x)
        x += (1 - np.exp(-0.5 * k)) * ((1.0 if tick < 10 else -1.0) - x)
    return np.array(found)


def test_an_fmu_is_described_without_running_it(tmp_path):
    found = fmu.describe(packed(tmp_path / "a.fmu", **{"modelDescription.xml": DESCRIPTION}))
    assert (found.name, found.fmi_version, found.kinds) == ("Lag", "2.0", ("CoSimulation", "ModelExchange"))
    assert (found.inputs, found.outputs) == ((fmu.Variable("u", ""),), (fmu.Variable("x", "K"),))
    assert (found.parameters, found.dt_ns) == ({"k": "1"}, 500_000_000)


@pytest.mark.service("compiler")
@pytest.mark.parametrize("kind", ["CoSimulation", "ModelExchange"])
def test_an_fmu_gives_its_outputs_at_the_ticks_of_the_data(lag, steps, kind):
    found = fmu.describe(lag)
    dataset = read_dataset(steps, found, measured=False)
    y = fmu.simulate(lag, dataset, kind=kind, start_values={"k": 2.0})
    np.testing.assert_allclose(y[:, 0], exact(2.0), atol=2e-3)


@pytest.mark.service("compiler")
def test_each_segment_begins_at_the_start(lag, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("time,u\n" + "".join(f"{k / 2},1\n" for k in (0, 1, 2, 100, 101, 102, 500)))
    dataset = read_dataset(path, fmu.describe(lag), measured=False)
    y = fmu.simulate(lag, dataset, kind="CoSimulation", start_values={})[:, 0]
    assert len(dataset.segments) == 3
    np.testing.assert_array_equal(y[3:6], y[:3])
    assert y[6] == 0.0


@pytest.mark.service("compiler")
def test_an_fmu_that_crashes_or_never_ends_ends_alone(lag, steps):
    dataset = read_dataset(steps, fmu.describe(lag), measured=False)
    with pytest.raises(ConfigError, match="signal 6"):
        fmu.simulate(lag, dataset, kind="CoSimulation", start_values={"k": 666.0})
    with pytest.raises(InputError) as caught:
        fmu.simulate(lag, dataset, kind="CoSimulation", start_values={"k": 777.0}, limit_s=2.5)
    assert caught.value.reason in {"LIMIT_EXCEEDED", "VALUE_INVALID"}


def test_more_data_than_a_run_can_take_is_refused_before_it_runs(steps, tmp_path):
    path = packed(tmp_path / "a.fmu", **{"modelDescription.xml": DESCRIPTION})
    dataset = read_dataset(steps, fmu.describe(path), measured=False)
    many = replace(dataset, segments=tuple((k, k) for k in range(300)))
    with pytest.raises(InputError, match="too many"):
        fmu.simulate(path, many, kind="CoSimulation", start_values={})


ENTITY = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
HOSTILE = {
    "nothing": {}, "no XML": {"modelDescription.xml": "<oh"}, "no model": {"modelDescription.xml": "<a/>"},
    "entities": {"modelDescription.xml": DESCRIPTION.replace("<fmi", f"{ENTITY}<fmi", 1)},
    "a file outside": {"modelDescription.xml": DESCRIPTION, "..__..__evil": b""},
    "an absolute file": {"modelDescription.xml": DESCRIPTION, "__tmp__evil": b""},
    "no output": {"modelDescription.xml": DESCRIPTION.replace('causality="output"', 'causality="local"')},
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_fmu_is_refused(tmp_path, what):
    with pytest.raises(ConfigError) as caught:
        fmu.describe(packed(tmp_path / "a.fmu", **HOSTILE[what]))
    assert caught.value.reason == "VALUE_INVALID"
    assert not (tmp_path / "evil").exists()


def test_bombs_and_files_that_are_no_zip_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.fmu").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match="VALUE_INVALID"):
        fmu.describe(tmp_path / "a.fmu")
    with pytest.raises(ConfigError, match="FILE_MISSING"):
        fmu.describe(tmp_path / "none.fmu")
    path = packed(tmp_path / "b.fmu", **{"modelDescription.xml": DESCRIPTION})
    for limit in ("UNPACKED_MAX", "ENTRIES_MAX", "XML_MAX", "FILE_MAX"):
        with monkeypatch.context() as patch:
            patch.setattr(fmu, limit, 0)
            with pytest.raises(ConfigError, match="VALUE_INVALID"):
                fmu.describe(path)
