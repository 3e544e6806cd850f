"""Runs that the tests of reports share: trained once, as small as they can be."""

import shutil
from pathlib import Path

import pytest

from elbax.models.recipes import VAERecipe
from elbax.report.content import gather
from elbax.report.write import write_report
from elbax.runs.run import open_run, train

SMALL = (
    "max_steps=200", "log_every=20", "validate_every=40", "checkpoint_every=100", "hidden=16", "num_latents=4",
    "eval_particles=8", "eval_data=120", "seed=3", "bracket_data=0",
)  # fmt: skip


def trained(folder: Path, *settings: str) -> Path:
    recipe = VAERecipe.from_settings([*SMALL, *settings])
    assert isinstance(recipe, VAERecipe)
    train(recipe, "digits", folder, command="elbax fit vae --data digits", progress=False)
    return folder


@pytest.fixture(scope="session")
def elbo_folder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "small", "bracket_data=8")


@pytest.fixture(scope="session")
def iwae_folder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "iwae", "num_particles=3", "binarisation=threshold")


@pytest.fixture(scope="session")
def elbo_run(elbo_folder):
    return open_run(elbo_folder)


@pytest.fixture(scope="session")
def elbo_content(elbo_folder):
    return gather(elbo_folder)


@pytest.fixture(scope="session")
def iwae_content(iwae_folder):
    return gather(iwae_folder)


@pytest.fixture(scope="session")
def elbo_report(elbo_folder, tmp_path_factory):
    """A copy of the run with its report."""
    copy = tmp_path_factory.mktemp("reports") / elbo_folder.name
    shutil.copytree(elbo_folder, copy)
    write_report(copy)
    return copy


@pytest.fixture
def copied(elbo_folder, tmp_path):
    """A copy of the run to damage."""
    copy = tmp_path / elbo_folder.name
    shutil.copytree(elbo_folder, copy)
    return copy
