"""What is computed from the parameters of a run."""

import jax.numpy as jnp
import numpy as np
import pytest

from elbax.models.recipes import VAERecipe
from elbax.report.content import gather, num_moved
from elbax.runs.run import train


def test_parameters(elbo_content):
    # Decoder 4-16-64 and encoder 64-16-8, each layer with a bias; the encoder's mean image is no parameter.
    assert elbo_content.trained.parameters == {"model": 5 * 16 + 17 * 64, "guide": 65 * 16 + 17 * 8}


def test_what_has_not_moved_is_no_parameter():
    before = {"weights": jnp.zeros(3), "mean": jnp.ones(5), "count": 7}
    assert num_moved(before, before | {"weights": jnp.array([0.0, 1.0, 0.0])}) == 3
    assert num_moved(before, before) == 8


def test_the_bound_that_was_maximised(elbo_content, iwae_content):
    assert (elbo_content.trained.bound, elbo_content.trained.num_particles) == ("ELBO", 1)
    assert (iwae_content.trained.bound, iwae_content.trained.num_particles) == ("IWAE", 3)


@pytest.mark.slow
def test_the_plan_is_that_of_the_recipe(tmp_path):
    recipe = VAERecipe.from_settings(["max_steps=20", "log_every=20", "validate_every=20", "checkpoint_every=20",
                                      "hidden=8", "num_latents=2", "form=stick", "eval_particles=2"])  # fmt: skip
    train(recipe, "digits", tmp_path / "run", progress=False)
    content = gather(tmp_path / "run")
    assert content.trained is not None
    (node,) = content.trained.graph.nodes
    assert node.estimator == "Pathwise(stick=True)"
    assert content.curves is not None
    np.testing.assert_array_equal(content.curves.steps, [20])
