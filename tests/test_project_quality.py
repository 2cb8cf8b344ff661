"""The house rules that a program can hold: lint, format, types, and which part imports which."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hpctrain"


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join
)
def test_the_tree_is_clean(command, tmp_path):
    tool, *arguments = command
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    cache = ["--cache-dir", str(tmp_path)]
    found = subprocess.run(
        [sys.executable, "-m", tool, *arguments, *cache], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_only_parallel_imports_mpi4py():
    assert importers_of("mpi4py", PACKAGE) <= {PACKAGE / "parallel"}


def test_only_store_imports_h5py():
    assert importers_of("h5py", PACKAGE) <= {PACKAGE / "store"}


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("solvers", ["problems", "networks", "store", "study", "runner", "job", "build"]),
        ("problems", ["solvers", "store", "study", "runner", "job", "build"]),
        ("networks", ["solvers", "problems", "parallel", "store", "study", "runner", "job"]),
        ("kernels", ["solvers", "problems", "parallel.launch", "store", "study", "runner", "job"]),
        ("quasi_newton", ["solvers", "problems", "networks", "store", "runner", "job", "build"]),
        ("globalization", ["solvers", "problems", "networks", "store", "runner", "job", "build"]),
        ("parallel", ["solvers", "problems", "networks", "kernels", "store", "runner", "job"]),
        ("store", ["solvers", "problems", "networks", "kernels", "study", "runner", "job"]),
        ("study", ["solvers", "problems", "networks", "kernels", "runner", "build"]),
    ],
)
def test_a_part_imports_none_that_stands_above_it(part, forbidden):
    for above in forbidden:
        assert not importers_of(f"hpctrain.{above}", PACKAGE / part), above


def test_imports_are_found_in_functions_and_in_both_forms(tmp_path):
    (tmp_path / "module.py").write_text(
        "def f():\n    import a.b\n    from c import d\n    from e.f import g\n"
    )
    found = set(imports(tmp_path / "module.py"))
    assert found == {"a.b", "c.d", "e.f.g"}


def importers_of(module: str, folder: Path) -> set[Path]:
    """The parts of `folder` that import a module or something inside it."""
    files = folder.rglob("*.py")
    return {file.parent for file in files if any(within(name, module) for name in imports(file))}


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                raise AssertionError(f"{file}: a relative import")
