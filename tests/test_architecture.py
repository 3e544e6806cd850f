"""The shape of the package: imports point to the left, models are clients, importing changes nothing."""

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import elbax
from elbax import errors

SOURCE = Path(elbax.__file__).parent

# What each part may import; `errors` and itself go without saying.
CORE = ["graph", "estimators", "bounds", "fit", "diagnose"]
ALLOWED = {part: set(CORE[:i]) for i, part in enumerate(CORE)} | {
    "errors": set(),
    "distributions": set(),
    "data": set(),
    "interop": {"graph", "estimators", "bounds"},
    "models": {"elbax", "data"},  # by their public names only
    "runs": {*CORE, "data", "models"},
    "report": {*CORE, "data", "models", "runs"},
    "cli": {*CORE, "data", "models", "runs", "report", "elbax"},
}


def modules() -> dict[str, Path]:
    """The package's modules by full name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """What a module imports from elbax, as `elbax.part.module` or `elbax.part.module.name`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        n
        for block in ast.walk(tree)
        if isinstance(block, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or _for_types_only(block)
        for n in ast.walk(block)
    }
    for node in ast.walk(tree):
        if top_level and node in inside:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "elbax":
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "elbax")


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def part_of(name: str) -> str:
    """The part that a full name belongs to; `elbax` for the table of contents."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (f"elbax.{parts[1]}" in MODULES or _is_folder(parts[1])) else "elbax"


def _is_folder(name: str) -> bool:
    return (SOURCE / name).is_dir()


def test_every_part_has_a_place():
    assert {part_of(m) for m in MODULES} - {"elbax"} == set(ALLOWED)


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) != "elbax"])
def test_imports_point_to_the_left(module):
    part = part_of(module)
    wrong = [name for name in imports(MODULES[module]) if part_of(name) not in {*ALLOWED[part], part, "errors"}]
    assert not wrong, f"{module} belongs to {part}, and imports {wrong}"


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) == "models"])
def test_models_import_public_names_only(module):
    public = {f"elbax.{name}" for name in vars(elbax) if not name.startswith("_")} | {"elbax", "elbax.data"}
    public |= {f"elbax.errors.{name}" for name in vars(errors)}
    for name in imports(MODULES[module]):
        own = part_of(name) == "models"
        of_data = name.startswith("elbax.data.") and name.count(".") == 2
        assert own or of_data or name in public, f"{module} imports {name}"
        assert not any(p.startswith("_") for p in name.split(".")), f"{module} imports {name}"


def test_no_module_imports_itself_in_a_circle():
    """Also none by way of others: whatever is imported first, all it needs is there."""
    graph = {}
    for module, path in MODULES.items():
        needed = set()
        for name in imports(path, top_level=True):
            target = name if name in MODULES else name.rpartition(".")[0]
            needed |= {target} & set(MODULES)
        graph[module] = needed - {module}
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"circular imports: {' -> '.join(error.args[1])}")


IMPORT = """
import jax
before = dict(jax.config.values)
state = __import__("numpy").random.get_state()[1].tolist()
import elbax
changed = {k: v for k, v in jax.config.values.items() if before.get(k) != v}
assert not changed, changed
assert __import__("numpy").random.get_state()[1].tolist() == state
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a device was set up, so jax.distributed.initialize would fail"
"""


def test_importing_changes_nothing_in_jax(tmp_path):
    path = os.pathsep.join([str(SOURCE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error", "-c", IMPORT]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    assert not list(tmp_path.iterdir())


def test_the_table_of_contents_is_one_line_per_name():
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body[1:]:
        assert isinstance(node, ast.ImportFrom)
        (name,) = node.names
        assert name.name == name.asname
