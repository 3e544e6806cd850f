"""No operation that programs are likely to use is without a rule."""

import subprocess
import sys

import pytest

from tests.graph.coverage import EXPECTED, functions, used, without_rule


@pytest.mark.slow
def test_what_jax_numpy_and_numpyro_use_has_rules():
    unknown, uncalled = used()
    assert set(unknown) <= EXPECTED, {name: users[:3] for name, users in unknown.items() if name not in EXPECTED}
    assert len(uncalled) < 0.2 * len(functions())


def test_the_list_names_what_has_no_rule():
    listed = without_rule()
    assert "geqp3" in listed
    assert not {"add", "dot_general", "scan", "jit"} & set(listed)


@pytest.mark.slow
def test_the_command_prints_it():
    done = subprocess.run([sys.executable, "-m", "tests.graph.coverage"], capture_output=True, text=True, check=True)
    assert "without a rule:" in done.stdout
    assert "geqp3" in done.stdout
