import pytest

from vgg_jax import InputError
from vgg_jax.sweep.points import (
    LONGEST_NAME,
    Axis,
    check_shared,
    flag_text,
    parse_axis,
    product,
    short_names,
    train_flags,
)


def test_an_axis_is_a_flag_and_a_list_in_json():
    assert parse_axis("config.seed=[0,1]") == Axis("config.seed", (0, 1))
    assert parse_axis("--config.chain=[[\"s256\"], \"('s256', 's384')\"]").values == (["s256"], "('s256', 's384')")


@pytest.mark.parametrize(
    "text, words",
    [
        ("config.seed", "--sweep=config.seed names no values: FLAG=LIST is expected"),
        ("=[0]", "names no values"),
        ("config.seed=[0,1", r"--sweep=config.seed=\[0,1: \[0,1 is not JSON \(.*\): a list is expected"),
        ("config.model.arch=[A,D]", "is not JSON"),
        ("config.seed=0", "0 is no list of values"),
        ("config.seed=[]", r"\[\] is no list of values"),
        ("config.seed=[null]", "null is no value of a flag"),
        ('config.seed=[[{"a": 1}]]', "is no value of a flag"),
    ],
)
def test_a_sweep_that_is_no_list_of_values(text, words):
    with pytest.raises(InputError, match=words):
        parse_axis(text)


@pytest.mark.parametrize(
    "value, text",
    [
        *((0.003, "0.003"), (1e-05, "1e-05"), (7, "7"), (True, "True"), ("D", "D"), ("a b/c", "a b/c")),
        *(([37, 74], "(37, 74)"), (["s256"], "('s256',)"), ([], "()"), ([[1, 2], [3]], "((1, 2), (3,))")),
    ],
)
def test_values_in_the_spelling_of_train(value, text):
    assert flag_text(value) == text


def test_the_product_has_every_combination_the_last_axis_fastest():
    points = product([Axis("config.stages.s256.learning_rate", (0.01, 0.003)), Axis("config.seed", (0, 1))])
    assert [point.name for point in points] == [
        *("learning_rate=0.01__seed=0", "learning_rate=0.01__seed=1"),
        *("learning_rate=0.003__seed=0", "learning_rate=0.003__seed=1"),
    ]
    assert points[1].fields == {"learning_rate": 0.01, "seed": 1}
    assert points[1].flags == ("--config.stages.s256.learning_rate=0.01", "--config.seed=1")


def test_names_say_as_much_of_the_field_as_tells_it_from_the_others():
    flags = ["config.stages.s256.learning_rate", "config.stages.s384.learning_rate", "config.seed", "config", "seed"]
    assert short_names(flags) == ["s256.learning_rate", "s384.learning_rate", "config.seed", "config", "seed"]
    assert short_names(["config.data.split_seed", "config.seed"]) == ["split_seed", "seed"]


def test_names_are_good_for_folders():
    paths = ["sets/a", "sets_a", "sets a", "x" * 300, "x" * 301, "../up"]
    names = [point.name for point in product([Axis("config.data.path", tuple(paths))])]
    assert names[1] == "path=sets_a"
    assert names[0].startswith("path=sets_a-") and names[2].startswith("path=sets_a-")
    assert len(set(names)) == len(names)
    assert all("/" not in name and "," not in name and len(name) <= LONGEST_NAME + 9 for name in names)
    assert product([Axis("config.data.path", ("sets/a",))])[0].name == names[0]  # the same in every sweep
    (scale,) = product([Axis("config.stages.s256.scale", ([37, 74],))])
    assert scale.name == "scale=37-74"


def test_a_flag_swept_twice_and_equal_points():
    with pytest.raises(InputError, match=r"--sweep names config\.seed twice"):
        product([Axis("config.seed", (0,)), Axis("config.seed", (1,))])
    with pytest.raises(InputError, match=r"two points of the sweep are the same \(seed=1\)"):
        product([Axis("config.seed", (1, 0, 1))])


def test_shared_flags_that_contradict_the_sweep():
    axes = [Axis("config.seed", (0,))]
    check_shared(["--config=x.py", "--config.seeds=1", "3"], axes)
    with pytest.raises(InputError, match=r"--config\.seed is given and swept"):
        check_shared(["--config=x.py", "--config.seed=3"], axes)
    for shared, swept in ((["--workdir=here"], axes), ([], [Axis("workdir", ("a", "b"))])):
        with pytest.raises(InputError, match="--workdir is chosen for each point of a sweep: give --runs"):
            check_shared(shared, swept)


def test_a_swept_config_comes_before_the_fields_that_override_it():
    (point,) = product([Axis("config.seed", (3,)), Axis("config", ("x.py:A",))])
    flags = train_flags(["--config.data.path=p"], point)
    assert flags == ["--config=x.py:A", "--config.data.path=p", "--config.seed=3"]
