import json
import tomllib

import pytest

from elbax.errors import DataError, RunError
from elbax.models.recipes import VAERecipe
from elbax.runs.folder import RunFolder, toml_text
from elbax.runs.run import evaluate_run, open_run, train

SMALL = [
    "hidden=8",
    "num_latents=2",
    "max_steps=200",
    "log_every=50",
    "validate_every=100",
    "checkpoint_every=100",
    "eval_particles=5",
    "eval_data=50",
    "bracket_data=0",
]


def recipe(*settings):
    return VAERecipe.from_settings([*SMALL, *settings])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    train(recipe(), "digits", out, command="elbax fit vae", progress=False)
    return out


class TestRecord:
    def test_files(self, finished):
        names = {p.name for p in finished.iterdir()}
        assert names == {"config.toml", "metrics.jsonl", "result.json", "checkpoints"}

    def test_config_repeats_the_run(self, finished):
        config = tomllib.loads((finished / "config.toml").read_text())
        assert VAERecipe.from_dict(config["options"]) == recipe()
        assert config["data"] == "digits"
        assert config["command"] == "elbax fit vae"
        assert config["options"]["binarisation"] == "dynamic"
        assert all(len(sha) == 64 for sha in config["data_files"].values())
        assert "CC BY" in config["data_set"]["licence"]
        assert set(config["versions"]) >= {"elbax", "jax", "numpyro", "python"}

    def test_metrics(self, finished):
        rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [50, 100, 150, 200]
        assert rows[1]["valid_bound"] is not None

    def test_result(self, finished):
        result = json.loads((finished / "result.json").read_text())
        assert result["outcome"] == "max_steps"
        assert "Raise max_steps" in result["advice"]
        test = result["test"]
        assert test["num_data"] == 50
        assert test["elbo"]["value"] < test["iwae"]["value"]
        assert test["elbo"]["std_error"] > 0
        assert test["iwae_bits"]["unit"] == "bits per dimension"
        assert result["latents"]["z"]["units"] == 2
        assert result["exact_terms"] == ["z"]

    def test_opened_run_has_the_trained_parameters(self, finished):
        run = open_run(finished)
        assert run.step == 200
        e = evaluate_run(run, num_particles=5, num_data=50)
        assert e.elbo.value == pytest.approx(run.result["test"]["elbo"]["value"], rel=1e-6)

    def test_same_seed_same_result(self, finished, tmp_path):
        train(recipe(), "digits", tmp_path / "b", progress=False)
        a, b = (json.loads((p / "result.json").read_text()) for p in (finished, tmp_path / "b"))
        assert a["test"] == b["test"]
        assert (finished / "metrics.jsonl").read_text() == (tmp_path / "b" / "metrics.jsonl").read_text()


class TestResume:
    def test_ends_as_if_it_had_not_stopped(self, finished, tmp_path):
        out = tmp_path / "c"
        train(recipe("max_steps=100"), "digits", out, progress=False)
        # What a crash after the checkpoint may leave: rows that the resumed run will write again, and half a row.
        with open(out / "metrics.jsonl", "a") as f:
            f.write('{"step": 150, "bound": 0}\n{"step"')
        train(recipe(), "digits", out, resume=True, progress=False)
        assert (out / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
        a, b = (json.loads((p / "result.json").read_text()) for p in (finished, out))
        assert a["test"] == b["test"]

    def test_starts_where_there_is_nothing_yet(self, tmp_path):
        folder, result = train(recipe("max_steps=50"), "digits", tmp_path / "d", resume=True, progress=False)
        assert result.steps == 50
        assert folder.exists

    @pytest.mark.parametrize("setting", ["num_latents=3", "seed=1", "batch_size=20"])
    def test_other_options_are_refused(self, finished, setting):
        name = setting.partition("=")[0]
        with pytest.raises(RunError, match=f"has {name}=.* was asked for"):
            train(recipe(setting), "digits", finished, resume=True, progress=False)


class TestErrors:
    def test_existing_folder(self, finished):
        with pytest.raises(RunError, match="exists already.*--resume"):
            train(recipe(), "digits", finished, progress=False)

    def test_folder_is_not_made_for_bad_data(self, tmp_path):
        with pytest.raises(DataError, match="digits"):
            train(recipe(), "digit", tmp_path / "x", progress=False)
        assert not (tmp_path / "x").exists()

    def test_batch_larger_than_data(self, tmp_path):
        with pytest.raises(Exception, match="batch_size=99999 is more than the"):
            train(recipe("batch_size=99999"), "digits", tmp_path / "x", progress=False)
        assert not (tmp_path / "x").exists()

    def test_no_run(self, tmp_path):
        with pytest.raises(RunError, match="is not a run folder"):
            open_run(tmp_path)
        with pytest.raises(RunError, match="does not exist"):
            open_run(tmp_path / "no")

    def test_damaged_files(self, tmp_path):
        out = tmp_path / "e"
        train(recipe("max_steps=50"), "digits", out, progress=False)
        (out / "result.json").write_text("{")
        with pytest.raises(RunError, match="'.*result.json' is damaged"):
            open_run(out)
        (out / "config.toml").write_text("[[[")
        with pytest.raises(RunError, match="'.*config.toml' is damaged"):
            open_run(out)

    def test_damaged_checkpoint(self, tmp_path):
        out = tmp_path / "f"
        train(recipe("max_steps=50"), "digits", out, progress=False)
        (path,) = (out / "checkpoints").glob("*.ckpt")
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(RunError, match="is truncated"):
            open_run(out)


def test_toml_text_round_trips():
    config = {"a": 'with "quotes" and \\ and é', "b": [1, 2], "t": {"x": 1.5, "y": True, "strange key": "v"}}
    assert tomllib.loads(toml_text(config)) == config


def test_folder_paths(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.exists
    assert folder.read_metrics() == []
    assert folder.read_result() == {}
