"""The history as arrays; expected numbers are worked out by hand."""

import numpy as np
import pytest

from elbax.fit.result import Row
from elbax.report.facts.curves import MAX_PARTS, Curves, curves


def row(step, costs, valid=None, valid_costs=None):
    return Row(step, -sum(costs.values()), 0.5, costs, valid, valid_costs or {})


def made(*rows, best=None) -> Curves:
    found = curves(rows, best)
    assert found is not None
    return found


def test_no_history():
    assert curves((), None) is None


def test_bounds():
    c = made(
        row(10, {"-log p(x)": 8.0, "KL(z)": 1.0}),
        row(20, {"-log p(x)": 6.0, "KL(z)": 2.0}, -8.5, {"-log p(x)": 6.25, "KL(z)": 2.25}),
        row(30, {"-log p(x)": 5.0, "KL(z)": 2.5}),
        best=20,
    )
    assert c.block == 10
    assert c.steps.tolist() == [10, 20, 30]
    assert c.bound.tolist() == [-9.0, -8.0, -7.5]
    assert c.std_error.tolist() == [0.5] * 3
    assert (c.valid_steps.tolist(), c.valid_bound.tolist(), c.best_step) == ([20], [-8.5], 20)
    reconstruction, kl = c.parts
    assert reconstruction.title.startswith("\N{MINUS SIGN}log p(x): reconstruction")
    assert reconstruction.training.tolist() == [8.0, 6.0, 5.0]
    assert kl.title == "KL(z): KL to the prior, in closed form"
    assert kl.validation is not None
    assert kl.validation.tolist() == [2.25]


def test_parts_add_up_to_minus_the_bound(elbo_content):
    c = elbo_content.curves
    assert len(c.parts) == 2
    np.testing.assert_allclose(sum(p.training for p in c.parts), -c.bound, rtol=1e-5)
    np.testing.assert_allclose(sum(p.validation for p in c.parts), -c.valid_bound, rtol=1e-5)


def test_an_estimated_kl_is_one_part():
    costs = {"-log p(x)": 5.0, "log q(z)": -1.5, "-log p(z)": 4.0}
    c = made(row(10, costs, -7.5, costs))
    assert [p.title for p in c.parts] == [
        "\N{MINUS SIGN}log p(x): reconstruction", "KL(z): KL to the prior, estimated from draws",
    ]  # fmt: skip
    assert c.parts[1].training.tolist() == [2.5]
    assert c.parts[1].validation is not None
    assert c.parts[1].validation.tolist() == [2.5]


def test_a_bound_of_one_part_has_none():
    assert made(row(10, {"-IWAE": 5.0})).parts == ()


def test_validations_without_parts():
    c = made(row(10, {"-log p(x)": 5.0, "KL(z)": 1.0}, -6.0, {"-log p(x)": 5.0}))
    assert [p.validation is None for p in c.parts] == [False, True]


def test_many_kl_terms_are_added_up():
    costs = {"-log p(x)": 5.0, **{f"KL(z{i})": float(i) for i in range(MAX_PARTS)}}
    c = made(row(10, costs))
    assert [p.title for p in c.parts] == ["\N{MINUS SIGN}log p(x): reconstruction", "KL to the prior, all sites"]
    assert c.parts[1].training.tolist() == [float(sum(range(MAX_PARTS)))]


def test_many_costs_are_added_up():
    costs = {f"c{i}": 2.0**i for i in range(MAX_PARTS + 3)}
    c = made(row(10, costs))
    assert len(c.parts) == MAX_PARTS
    assert c.parts[-1].title == "all other costs"
    assert sum(p.training[0] for p in c.parts) == 2.0 ** (MAX_PARTS + 3) - 1


def test_the_first_tenth_of_training_is_a_transient():
    c = made(*(row(step, {"a": 1.0}) for step in range(10, 201, 10)))
    assert c.settled(np.array([10, 20, 21, 200])).tolist() == [False, False, True, True]


@pytest.mark.parametrize(("best", "kept"), [(None, 20), (10, 10), (0, 20)])
def test_the_step_that_was_kept(best, kept):
    assert made(row(10, {"a": 1.0}), row(20, {"a": 1.0}), best=best).best_step == kept
