"""Plain CSV with a header."""

import pytest

from twinmodel.errors import InputError
from twinmodel.profile.importers.found import Wanted


def test_columns_are_keys_of_points(points_of):
    points, refused = points_of("csv")
    assert refused == {
        "mode": "VALUE_INVALID",
        "goal": "POINT_NOT_READABLE",
        "odd": "VALUE_INVALID",
        "twice": "POINT_DUPLICATE",
        "warm": "UNIT_UNKNOWN",
    }
    assert (points["level"].as_, points["level"].range, points["level"].description) == (
        "float32",
        (0, 4),
        "of the tank",
    )
    assert points["power"].scale == "10^@exp"
    assert (points["state"].as_, points["state"].states) == ("uint16", {0: "off", 1: "on"})
    assert points["trip"].as_ == "bit"


def test_other_protocols_need_what_their_profiles_need(points_of, bring):
    text = "name,at,as,unit\nflow,Pump/Flow,float64,m3/h\n"
    points, _ = points_of("csv", text, Wanted(protocol="opcua", namespace="urn:acme:pump"))
    assert points["flow"].at == "Pump/Flow"
    with pytest.raises(InputError, match="--namespace"):
        bring("csv", text, Wanted(protocol="opcua"))
    text = "name\tat\ttopic\nflow\t$.flow\t{root}/flow\nnone\t$.none\t\n"
    points, refused = points_of("csv", text, Wanted(protocol="mqtt"))
    assert (list(points), refused) == (["flow"], {"none": "VALUE_INVALID"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,adress\nx,holding 1\n", "did you mean `address`?"),
        ("name\nx\n", "needs `name` and `at`"),
        ("name,at,at\nx,holding 1,holding 1\n", "each once"),
        ("name,at\n", "no line"),
        ("", "needs `name` and `at`"),
        ('name,at\n"x,holding 1\n', "is no CSV"),
    ],
)
def test_a_header_that_is_none_is_refused_with_the_columns_there_are(bring, text, said):
    with pytest.raises(InputError) as error:
        bring("csv", text)
    assert said in f"{error.value.message} {error.value.hint}"


@pytest.mark.parametrize(
    "cells",
    [
        "holding 1,int16,0,1",
        "holding 1,int16,1e999,1",
        "holding 1,int16,nan,1",
        "holding 1,int16,1,x",
        "holding 1,int99,1,1",
        "holding 99999,int16,1,1",
        "hold 1,int16,1,1",
        "holding 1,int16,10^@none,1",
        "holding 1,int16,@,1",
        "holding 1",
    ],
)
def test_numbers_out_of_range_and_addresses_that_are_none_cost_one_point(points_of, cells):
    text = f"name,at,as,scale,absent\nbad,{cells}\ngood,holding 5,int16,1e-3,0x8000\n"
    points, refused = points_of("csv", text)
    assert list(points) == ["good"]
    assert refused == {"bad": "VALUE_INVALID"}


def test_names_are_made_unique_and_fit_with_a_note(bring):
    done = bring("csv", "name,at\na b,holding 1\na/b,holding 2\nlevel,holding 3\nlevel,holding 4\n")
    (one,) = done.profiles
    assert list(one.settled.profile.points) == ["a_b", "a_b_2", "level", "level_2"]
    assert [(n.point, n.text) for n in one.notes] == [
        ("a b", "is called a_b here: names are letters, digits, _ . -"),
        ("a/b", "is called a_b_2 here: a_b is taken"),
        ("level", "is called level_2 here: level is taken"),
    ]
