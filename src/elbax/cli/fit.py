"""`elbax fit RECIPE`: train, record, report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from elbax.cli.app import DIVERGED_CODE, INTERRUPTED_CODE, app, say, wants_json
from elbax.fit.stopping import Outcome
from elbax.models.recipes import RECIPES
from elbax.models.targets import recipe_of
from elbax.runs.folder import RunFolder
from elbax.runs.run import train


@app.command()
def fit(
    recipe: Annotated[
        str, typer.Argument(help=f"A recipe ({', '.join(RECIPES)}), or FILE.py:CLASS with one of your own.")
    ],
    data: Annotated[
        str | None, typer.Option(help="A data set (`elbax data list`), or the path of a file or folder.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run; it must not exist yet.")] = Path("runs/run"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the recipe; repeatable.")
    ] = None,
    num_levels: Annotated[int | None, typer.Option(help="For your own data: the level that means white.")] = None,
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out exactly where it stopped.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write report.html at the end.")] = True,
    fields: Annotated[bool, typer.Option("--fields", help="List the fields of the recipe and stop.")] = False,
) -> None:
    """Train a model, keep everything needed to repeat or resume it, and report.

    Example: elbax fit vae --data digits --out runs/digits --set num_latents=16
    """
    cls = recipe_of(recipe)
    if fields:
        list_fields(cls)
        return
    folder = RunFolder(out)
    resuming = resume and folder.exists
    before = folder.read_config() if resuming else {}
    chosen = cls.from_settings(settings or [], before.get("options"))
    name = data if data is not None else before.get("data", "digits")
    options = before.get("data_options") or {"num_levels": num_levels}
    command = shlex.join(["elbax", *sys.argv[1:]])
    folder, result = train(
        chosen,
        name,
        out,
        resume=resume,
        command=command,
        progress=False if wants_json() else None,
        load_options={k: v for k, v in options.items() if v is not None},
        recipe_path=recipe,
    )
    if result.outcome is Outcome.INTERRUPTED:
        say(
            f"Interrupted after {result.steps} steps; everything is saved. Continue with:\n"
            f"  elbax fit {recipe} --out {shlex.quote(str(out))} --resume",
            {"outcome": result.outcome.value, "steps": result.steps, "out": str(out)},
        )
        raise typer.Exit(INTERRUPTED_CODE)
    figures = folder.read_result()
    said = [str(result), figures_text(figures), f"run     {folder.path}"]
    if report:
        from elbax.report.write import write_report

        said.append(f"report  {write_report(folder.path, overwrite=True).resolve()}")
    say("\n".join(said), {"out": str(folder.path), **figures})
    if result.outcome is Outcome.DIVERGED:
        raise typer.Exit(DIVERGED_CODE)


def list_fields(cls: type) -> None:
    """Prints the fields of a recipe."""
    rows = cls.describe()  # type: ignore[attr-defined]
    width = max(len(name) for name, _, _ in rows)
    text = "\n".join(f"{name.ljust(width)}  {default!s:>12}  {about}" for name, default, about in rows)
    say(text, {name: {"default": default, "about": about} for name, default, about in rows})


def bracket_lines(found: dict | None) -> list[str]:
    """The bracket of a result for people."""
    if found is None:
        return []
    if "none" in found:
        return [f"no bracket on log p(x): {found['none']}"]
    low, high = found["elbo_gap"]
    return [
        f"test log p(x) between {found['lower']:.3f} and {found['upper']:.3f} nats per datum "
        f"({found['confidence']:.0%} confidence, mean of the first {found['num_data']} data)",
        f"      the ELBO falls short by {low:.3f} to {high:.3f} there",
    ]


def figures_text(result: dict) -> str:
    """The figures of a result for people."""
    test = result["test"]
    lines = []
    for name, label in (("elbo", "ELBO"), ("iwae", "IWAE"), ("gap", "distance"), ("iwae_bits", "IWAE")):
        if name in test:
            e = test[name]
            lines.append(f"test {label:<8} {e['value']:.3f} ± {e['std_error']:.3f} {e['unit']}")
    lines.append(f"      ({test['num_data']} data, {test['num_particles']} particles)")
    lines += bracket_lines(result.get("bracket"))
    layers = (result.get("collapse") or {}).get("layers", {})
    for name, latent in result["latents"].items():
        said = f"latent {name}: {latent['active_units']} of {latent['units']} units active, KL {latent['kl']:.2f}"
        if layer := layers.get(name):
            said += f", information {layer['information']['value']:.2f}: {layer['verdict']}"
        lines.append(said)
    return "\n".join(lines)
