"""`write_report`: what it writes, what it refuses, and what it makes of runs that have not ended."""

import json
import shutil
from xml.etree import ElementTree

import pytest

from elbax.diagnose.estimate import Estimate
from elbax.errors import DataError, RunError
from elbax.report.numbers import with_error
from elbax.report.write import write_report
from tests.report.reader import read_page

FIGURES = ("bound", "parts", "reconstructions", "prior-samples", "interpolations", "traversals", "units")
SECTIONS = ["result", "training", "images", "latents", "gradient", "data", "repeat", "setup"]


def slugs(page):
    return [attributes["id"] for attributes in page.named("section")]


def test_the_page(elbo_report):
    text = (elbo_report / "report.html").read_text()
    page = read_page(text)
    assert page.problems == []
    assert slugs(page) == SECTIONS
    assert len(text) < 3_000_000
    svgs = page.named("svg")
    assert len(svgs) == len(FIGURES) + 1
    assert all(len(svg["aria-label"]) > 20 and svg["role"] == "img" for svg in svgs)
    assert len(page.named("figcaption")) == len(svgs)


def test_the_figures(elbo_report):
    names = {path.name for path in (elbo_report / "figures").iterdir()}
    assert names == {f"{n}.{s}" for n in FIGURES for s in ("svg", "png")} | {"graph.svg"}
    for path in (elbo_report / "figures").iterdir():
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


def test_what_it_says(elbo_report):
    result = json.loads((elbo_report / "result.json").read_text())
    text = read_page((elbo_report / "report.html").read_text()).text
    for said in (
        "vae on digits", "Stopped at the limit on steps", result["advice"], "IWAE bound, 8 particles", "seed 3",
        "first 120 of 300 test data", "CC BY 4.0", "https://doi.org/10.24432/C50P49", "359cd13f0f514122",
        "elbax fit vae --data digits --out runs/again --set seed=3", "elbax fit vae --out small --resume",
        "jax.random.key(3)", "units of z are active", "exact, in closed form",
        "Pathwise()", "reparameterised", "not a draw of it", "same draws at every evaluation",
    ):  # fmt: skip
        assert said in text
    for name in ("elbo", "iwae", "gap"):
        value, error = with_error(Estimate(**result["test"][name]))
        assert f"{value} ± {error}" in text


def test_the_same_run_gives_the_same_bytes(elbo_report):
    before = {p.name: p.read_bytes() for p in (elbo_report / "figures").iterdir()}
    page = (elbo_report / "report.html").read_bytes()
    assert write_report(elbo_report, overwrite=True) == elbo_report / "report.html"
    assert (elbo_report / "report.html").read_bytes() == page
    assert {p.name: p.read_bytes() for p in (elbo_report / "figures").iterdir()} == before


def test_a_report_is_not_replaced_by_accident(copied):
    (copied / "report.html").write_text("mine")
    with pytest.raises(RunError, match=r"report\.html' exists already\. Replace it with .*--overwrite"):
        write_report(copied)
    assert (copied / "report.html").read_text() == "mine"
    assert not (copied / "figures").exists()


def test_an_interrupted_run(copied):
    (copied / "result.json").unlink()
    page = read_page(write_report(copied).read_text())
    assert page.problems == []
    assert slugs(page) == [*SECTIONS[1:], "missing"]
    assert "Not finished after 200 steps" in page.text
    assert "the run was not evaluated" in page.text
    assert "elbax evaluate small" in page.text


def test_a_killed_run(copied):
    (copied / "result.json").unlink()
    shutil.rmtree(copied / "checkpoints")
    page = read_page(write_report(copied).read_text())
    assert page.problems == []
    assert slugs(page) == ["training", "data", "repeat", "setup", "missing"]
    assert "No checkpoint was saved so far" in page.text
    (copied / "metrics.jsonl").unlink()
    page = read_page(write_report(copied, overwrite=True).read_text())
    assert slugs(page) == ["data", "repeat", "setup", "missing"]
    assert "no block of steps was completed" in page.text


def test_a_bound_with_particles(iwae_folder):
    page = read_page(write_report(iwae_folder, overwrite=True).read_text())
    assert page.problems == []
    assert "With 3 particles inside the logarithm the bound is no sum" in page.text
    assert "IWAE, 3 particles" in page.text
    assert not (iwae_folder / "figures" / "parts.svg").exists()
    assert "Rows: the datum as the model saw it" in page.text


def test_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="is not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damage(copied):
    (copied / "result.json").write_text("{")
    with pytest.raises(RunError, match=r"result\.json' is damaged"):
        write_report(copied)


def test_data_that_have_gone(copied):
    config = (copied / "config.toml").read_text().replace('data = "digits"', 'data = "/nowhere/at all.npy"')
    (copied / "config.toml").write_text(config)
    with pytest.raises(DataError, match="nowhere"):
        write_report(copied)


def test_a_place_that_cannot_be_written(copied):
    (copied / "figures").write_text("a file in the way")
    with pytest.raises(RunError, match=r"figures' cannot be made"):
        write_report(copied)
    assert not (copied / "report.html").exists()
