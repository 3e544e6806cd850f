"""Runs that are killed or interrupted, in processes of their own."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import sys
import jax, jax.random as jr, numpy as np
import equinox as eqx
import elbax
from tests.fit.test_fit import NEVER, data, pair

f = elbax.fit(*pair(), data(), key=jr.key(0), batch_size=50, valid=data(60), stopping=NEVER, max_steps=6000,
              log_every=50, validate_every=100, checkpoint_every=50, checkpoint=sys.argv[1], resume=True)
print(f.outcome.value, flush=True)
if f.outcome is elbax.Outcome.MAX_STEPS:
    np.savez(sys.argv[2], *[np.asarray(x) for x in jax.tree.leaves(eqx.filter(f.bound, eqx.is_array))],
             bounds=f.bounds, steps=f.steps)
"""
ROOT = Path(__file__).resolve().parents[2]


def start(folder, out):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(folder, process, seconds=120):
    end = time.monotonic() + seconds
    while not list(folder.glob("*.ckpt")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "no checkpoint appeared"
        time.sleep(0.02)


def finish(folder, out):
    process = start(folder, out)
    said, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert said.strip() == "max_steps"
    return np.load(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return finish(folder / "checkpoints", folder / "out.npz")


def assert_identical(a, b):
    assert sorted(a.files) == sorted(b.files)
    for name in a.files:
        np.testing.assert_array_equal(a[name], b[name])


def test_killed_at_random_moments_ends_bit_identical(whole, tmp_path):
    """SIGKILL as soon as checkpoints appear, at moments drawn anew in each run of the test suite."""
    folder, out = tmp_path / "checkpoints", tmp_path / "out.npz"
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(3):
        process = start(folder, out)
        wait_for_checkpoint(folder, process)
        time.sleep(moments.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if out.exists():
            break
    assert_identical(finish(folder, out), whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_interrupted_run_saves_and_ends_bit_identical(whole, tmp_path, number):
    folder, out = tmp_path / "checkpoints", tmp_path / "out.npz"
    process = start(folder, out)
    wait_for_checkpoint(folder, process)
    os.kill(process.pid, number)
    said, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert said.strip() in ("interrupted", "max_steps")
    assert_identical(finish(folder, out), whole)
