"""Parameters: what a Checkpoint declares is what its demos may set."""

from __future__ import annotations

from tryitnow.api.hooks import Parameter, parameter_problems, parameter_values

DECLARED = (
    Parameter(name="title", required=True),
    Parameter(name="color", values=("red", "blue"), default="red"),
)


def test_a_typo_is_refused_with_the_names_that_there_are() -> None:
    [problem] = parameter_problems(DECLARED, {"title": "x", "colour": "red"})
    assert problem == (
        "spec.parameters.colour is not declared by the Checkpoint; it declares: color, title"
    )


def test_a_value_that_is_not_offered_is_refused_with_those_that_are() -> None:
    [problem] = parameter_problems(DECLARED, {"title": "x", "color": "green"})
    assert problem == "spec.parameters.color is 'green'; it may be: red, blue"


def test_what_is_required_must_be_there() -> None:
    [problem] = parameter_problems(DECLARED, {})
    assert problem == "spec.parameters.title is required by the Checkpoint"


def test_nothing_may_be_set_where_nothing_is_declared() -> None:
    [problem] = parameter_problems((), {"title": "x"})
    assert problem.endswith("it declares: none")


def test_hooks_find_values_and_defaults_and_nothing_for_what_has_neither() -> None:
    declared = (*DECLARED, Parameter(name="sub-title"))
    assert parameter_values(declared, {"title": "x"}) == {
        "TRYITNOW_PARAM_TITLE": "x",
        "TRYITNOW_PARAM_COLOR": "red",
    }


def test_what_was_given_counts_where_two_parameters_have_one_variable() -> None:
    declared = (Parameter(name="shop-title"), Parameter(name="shop_title", default="ours"))
    assert parameter_values(declared, {"shop-title": "Anna's"}) == {
        "TRYITNOW_PARAM_SHOP_TITLE": "Anna's"
    }
    assert parameter_values(declared, {}) == {"TRYITNOW_PARAM_SHOP_TITLE": "ours"}
