"""`twinctl model reduce` and what `fit` and `identify` say to wrong requests; fits themselves: tests/model/fit."""

import numpy as np
import pytest


@pytest.fixture
def rod(tmp_path):
    A = -2 * np.eye(20) + np.eye(20, k=1) + np.eye(20, k=-1)
    B, C = np.zeros((20, 1)), np.zeros((1, 20))
    B[0], C[0, -1] = 1, 1
    np.savez(tmp_path / "rod.npz", A=A, B=B, C=C)
    return tmp_path / "rod.npz"


LABELS = ("--kind", "continuous", "--dt", "1s", "--u", "heat [kW]", "--y", "T [K]", "--noise", "T=0.1")


def test_a_large_model_is_cut_to_a_file_and_a_package(shell, rod):
    said = shell("model", "reduce", rod, *LABELS, "--order", "3", "--output", "json")
    assert said.code == 0
    assert (said.json["order_before"], said.json["order"]) == (20, 3)
    assert 0 < said.json["error_bound"] < said.json["gain"]
    assert shell("model", "inspect", rod.with_name("rod-reduced.twin")).code == 0


def test_arrays_without_kind_are_refused_with_what_to_write(shell, rod):
    said = shell("model", "reduce", rod, "--u", "heat", "--y", "T")
    assert said.code == 2
    assert "--kind continuous or discrete" in said.err


def test_a_part_that_is_none_and_columns_that_are_missing_are_refused(shell, tmp_path):
    data = tmp_path / "week.csv"
    data.write_text("time,other\n0,1\n1,2\n")
    model = tmp_path / "tank.yaml"
    model.write_text(
        "model: tank\nversion: 1.0.0\nfamily: ode\ndt: 1s\nstates: {h: {unit: m, start: 1}}\n"
        "inputs: {pump: {unit: V, min: 0, max: 10}}\nparams: {k: {value: 0.1, unit: m/(V s), calibrate: true}}\n"
        'equations: {"h\'": k*pump}\noutputs: {level: {value: h, unit: m, min: 0, max: 5}}\n'
    )
    said = shell("model", "fit", model, "--data", data, "--holdout", "120%")
    assert said.code == 2
    assert "write 30% or 0.3" in said.err
    said = shell("model", "fit", model, "--data", data)
    assert said.code == 2
    assert "no column for input pump" in said.err
    said = shell("model", "identify", "found", "--u", "pump", "--y", "level", "--dt", "soon", "--data", data)
    assert said.code == 2
    assert "--dt" in said.err
