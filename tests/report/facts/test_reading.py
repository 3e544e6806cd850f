"""What is read from a run folder, and what is said about a damaged one."""

import json
import shutil

import pytest

from elbax.errors import RunError
from elbax.report.facts.reading import read_run, required


def test_a_run_with_everything(elbo_folder):
    reading = read_run(elbo_folder)
    assert reading.run is not None
    assert [row.step for row in reading.history] == list(range(20, 201, 20))
    assert reading.last_step == 200
    assert reading.result["steps"] == 200


def test_a_run_killed_before_its_first_checkpoint(copied):
    shutil.rmtree(copied / "checkpoints")
    (copied / "result.json").unlink()
    reading = read_run(copied)
    assert reading.run is None
    assert reading.result == {}
    assert reading.last_step == 200
    assert reading.recipe.seed == 3


def test_a_run_killed_at_once(copied):
    shutil.rmtree(copied / "checkpoints")
    for name in ("result.json", "metrics.jsonl"):
        (copied / name).unlink()
    reading = read_run(copied)
    assert reading.history == ()
    assert reading.last_step == 0


def test_metrics_that_go_on_after_the_last_checkpoint(copied):
    last = json.loads((copied / "metrics.jsonl").read_text().splitlines()[-1])
    with open(copied / "metrics.jsonl", "a") as f:
        f.write(json.dumps({**last, "step": 220}) + "\n")
    assert read_run(copied).last_step == 220


def test_metrics_that_are_lost_come_from_the_checkpoint(copied):
    (copied / "metrics.jsonl").unlink()
    assert read_run(copied).last_step == 200


@pytest.mark.parametrize(
    "content",
    [
        b'{"step": 20, "colour": 3}\n',
        b'{"step": 20}\n',
        b"\xff\xfe\n",
        b"3\n",
        b'{"step": "a", "bound": 1, "std_error": 1, "costs": {}}\n',
        b'{"step": 20, "bound": null, "std_error": 1, "costs": {}}\n',
        b'{"step": 20, "bound": 1, "std_error": 1, "costs": 3}\n',
    ],
)
def test_metrics_that_are_damaged(copied, content):
    (copied / "metrics.jsonl").write_bytes(content)
    with pytest.raises(RunError, match=r"metrics\.jsonl' is damaged .*--resume"):
        read_run(copied)


@pytest.mark.parametrize("content", ["{", "[]", "3", ""])
def test_a_result_that_is_damaged(copied, content):
    (copied / "result.json").write_text(content)
    with pytest.raises(RunError, match=r"result\.json' is damaged"):
        read_run(copied)


def test_no_run(tmp_path):
    with pytest.raises(RunError, match="is not a run folder"):
        read_run(tmp_path)


def test_required(tmp_path):
    table = {"a": {"b": 3}}
    assert required(table, "a.b", tmp_path / "f") == 3
    for name in ("c", "a.c", "a.b.c"):
        with pytest.raises(RunError, match=f"f' is damaged \\(it has no '{name}'\\)"):
            required(table, name, tmp_path / "f")
