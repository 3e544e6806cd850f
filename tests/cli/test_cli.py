import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from elbax.cli.app import app
from elbax.errors import ElbaxError

SMALL = [
    f"--set={s}"
    for s in (
        "hidden=8",
        "num_latents=2",
        "max_steps=100",
        "log_every=50",
        "validate_every=50",
        "checkpoint_every=50",
        "eval_particles=5",
        "eval_data=50",
        "bracket_data=0",
    )
]


def run(*args, **options):
    return CliRunner().invoke(app, [str(a) for a in args], **options)


def command(*args, cwd=None):
    """The installed command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from elbax.cli import main; main()", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "a"
    result = run("fit", "vae", "--out", out, *SMALL)
    assert result.exit_code == 0, result.output
    return out, result.output


class TestFit:
    def test_says_what_matters(self, finished):
        out, said = finished
        assert "max_steps after 100 steps" in said
        assert "test IWAE" in said
        assert "nats per datum" in said
        assert "bits per dimension" in said
        assert f"run     {out}" in said
        assert str(out / "report.html") in said
        assert (out / "report.html").is_file()

    def test_json(self, tmp_path):
        result = run("--json", "fit", "vae", "--out", tmp_path / "b", "--no-report", *SMALL)
        said = json.loads(result.stdout)
        assert said["outcome"] == "max_steps"
        assert said["test"]["iwae"]["unit"] == "nats per datum"
        assert not (tmp_path / "b" / "report.html").exists()

    def test_resume_uses_the_options_of_the_run(self, tmp_path):
        out = tmp_path / "c"
        run("fit", "vae", "--out", out, "--no-report", *SMALL)
        result = run("fit", "vae", "--out", out, "--resume", "--no-report", "--set", "max_steps=150")
        assert result.exit_code == 0, result.exception
        assert "after 150 steps" in result.output

    def test_fields(self):
        result = run("fit", "vae", "--fields")
        for name in (
            "max_steps",
            "batch_size",
            "learning_rate",
            "num_particles",
            "checkpoint_every",
            "seed",
            "hidden",
            "binarisation",
        ):
            assert name in result.output

    def test_own_data(self, tmp_path):
        import numpy as np

        images = (np.random.default_rng(0).random((60, 6, 5)) > 0.5).astype(np.uint8)
        np.save(tmp_path / "mine.npy", images)
        result = run(
            "fit",
            "vae",
            "--data",
            tmp_path / "mine.npy",
            "--out",
            tmp_path / "d",
            "--no-report",
            *SMALL,
            "--set",
            "batch_size=20",
        )
        assert result.exit_code == 0, result.exception

    def test_own_recipe_whose_estimators_learn(self, tmp_path):
        """Their state is in the checkpoint, which is read again to evaluate and to resume."""
        (tmp_path / "mine.py").write_text(
            "import dataclasses, elbax\nfrom elbax.models.recipes import VAERecipe\n"
            "@dataclasses.dataclass(frozen=True)\nclass Own(VAERecipe):\n"
            "    def estimators(self):\n        return elbax.Score(baseline=elbax.MovingAverage())\n"
        )
        out, target = tmp_path / "e", f"{tmp_path}/mine.py:Own"
        result = run("fit", target, "--out", out, "--no-report", *SMALL)
        assert result.exit_code == 0, result.exception
        assert run("evaluate", out, "--particles", 5, "--num-data", 30, "--bracket", 0).exit_code == 0
        assert run("fit", target, "--out", out, "--no-report", "--resume", *SMALL).exit_code == 0


class TestEvaluate:
    def test_figures(self, finished):
        out, _ = finished
        result = run("evaluate", out, "--particles", 20, "--num-data", 30, "--bracket", 0)
        assert "30 test data" in result.output
        assert "±" in result.output
        assert "log p(x) is in" not in result.output

    @pytest.mark.slow
    def test_bracket(self, finished):
        said = json.loads(run("--json", "evaluate", finished[0], "--particles", 20, "--bracket", 4).stdout)
        assert said["num_particles"] == 20
        assert said["elbo"]["value"] <= said["iwae"]["value"]
        assert said["bracket"]["num_data"] == 4
        assert said["bracket"]["lower"] < said["bracket"]["upper"]
        assert said["bracket"]["elbo_gap"][0] > 0

    def test_what_the_latents_tell(self, finished):
        out, _ = finished
        assert "I_q" in run("evaluate", out, "--particles", 5, "--num-data", 30).output
        said = json.loads(run("--json", "evaluate", out, "--particles", 5, "--num-data", 30).stdout)
        assert said["latents"]["layers"]["z"]["verdict"] in ("alive", "partly collapsed", "collapsed")

    def test_split(self, finished):
        result = run("evaluate", finished[0], "--split", "training")
        assert isinstance(result.exception, ElbaxError)
        assert "there is no split 'training'" in str(result.exception)


class TestReport:
    def test_is_not_overwritten_unasked(self, finished):
        out, _ = finished
        result = run("report", out)
        assert isinstance(result.exception, ElbaxError)
        assert "--overwrite" in str(result.exception)
        assert run("report", out, "--overwrite").exit_code == 0


class TestGraph:
    def test_recipe(self, tmp_path):
        result = run("graph", "vae", "--out", tmp_path / "g.svg", "--set", "hidden=8")
        assert "Pathwise()" in result.output
        assert (tmp_path / "g.svg").read_text().startswith("<svg")
        again = run("graph", "vae", "--out", tmp_path / "g.svg", "--set", "hidden=8")
        assert "exists" in str(again.exception)

    def test_own_program(self, tmp_path):
        (tmp_path / "p.py").write_text(
            "import elbax, jax.numpy as jnp, numpyro.distributions as dist\n"
            "def program(theta):\n"
            "    b = elbax.sample('b', dist.Bernoulli(logits=theta))\n"
            "    return (b - 0.45) ** 2\n"
            "program_arguments = (jnp.array(0.3),)\n"
        )
        result = run("--json", "graph", f"{tmp_path}/p.py:program")
        said = json.loads(result.stdout)
        assert said["nodes"]["b"]["deps"] == ["theta"]
        assert said["plan"]["b"].startswith("Enumerate()")

    def test_program_without_arguments(self, tmp_path):
        (tmp_path / "q.py").write_text("def program(theta):\n    return theta\n")
        result = run("graph", f"{tmp_path}/q.py:program")
        assert "has no `program_arguments`" in str(result.exception)


class TestData:
    def test_list(self):
        result = run("data", "list")
        for name in ("digits", "mnist", "fashion_mnist"):
            assert name in result.output

    def test_check(self):
        assert run("data", "check", "digits").exit_code == 0
        assert "Did you mean" in str(run("data", "check", "digit").exception)


def test_doctor():
    result = run("doctor")
    for name in ("elbax", "jax", "devices", "cache_folder"):
        assert name in result.output


class TestErrors:
    """What a user sees: one paragraph on stderr, no traceback, a documented exit code."""

    @pytest.mark.parametrize(
        ("args", "code", "message"),
        [
            (["fit", "vea"], 2, "Did you mean 'vae'"),
            (["fit", "vae", "--set", "num_laten=3", "--out", "x"], 2, "num_latents"),
            (["fit", "vae", "--data", "mnisst", "--out", "x"], 3, "mnist"),
            (["evaluate", "nowhere"], 4, "does not exist"),
            (["graph", "missing.py:f"], 2, "there is no file"),
        ],
        ids=["recipe", "field", "data", "run", "file"],
    )
    def test_exit_codes(self, args, code, message, tmp_path):
        result = command(*args, cwd=tmp_path)
        assert result.returncode == code
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stderr.startswith("elbax: ")
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""

    def test_debug_shows_the_traceback(self):
        result = command("--debug", "fit", "vea")
        assert "Traceback" in result.stderr

    def test_help_names_every_command(self):
        result = run("--help")
        for name in ("fit", "evaluate", "report", "graph", "data", "doctor"):
            assert name in result.output
