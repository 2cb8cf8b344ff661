"""The house rules that a program can hold: lint, format, types, and which part imports which."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hpctrain"


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--no-cache"],
        ["ruff", "format", "--check", "--no-cache"],
        ["mypy", f"--cache-dir={os.devnull}"],
    ],
    ids=" ".join,
)
def test_the_tree_is_clean(command):
    tool = command[0]
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    found = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_only_parallel_imports_mpi4py():
    assert importers_of("mpi4py", PACKAGE) <= {PACKAGE / "parallel"}


def test_only_store_imports_h5py():
    store = PACKAGE / "store"
    assert all(folder.is_relative_to(store) for folder in importers_of("h5py", PACKAGE))


# From the lowest room to the highest: a room imports from those before it, from none after.
ROOMS = [
    "errors",
    "options",
    "user_code",
    "linalg",
    "decomposition",
    "kernels",
    "networks",
    "parallel",
    "objective",
    "store",
    "methods",
    "problems",
    "solvers",
    "job",
    "results",
    "run",
    "torch",
    "study",
    "cli",
    "__main__",
]
# An equation's kernels differentiate a network that is only its sizes.
ALLOWED = {("kernels", "networks")}


def test_every_part_of_the_package_is_in_a_room():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or is_room(path)}
    assert found - {"__init__"} == set(ROOMS)


def is_room(path: Path) -> bool:
    return path.is_dir() and any(path.rglob("*.py"))


@pytest.mark.parametrize(("place", "room"), [*enumerate(ROOMS)], ids=ROOMS)
def test_a_room_imports_none_that_stands_above_it(place, room):
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else None
    files = files or [*(PACKAGE / room).rglob("*.py")]
    for above in ROOMS[place + 1 :]:
        climbing = [
            str(file.relative_to(ROOT))
            for file in files
            if any(within(name, f"hpctrain.{above}") for name in imports(file))
        ]
        assert climbing == [] or (room, above) in ALLOWED, above


RUNNERS = ["run.assemble", "run.loop", "run.observers", "run.train"]


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("solvers", ["problems", "store.checkpoint", "store.run_file"]),
        ("networks", ["parallel"]),
        ("kernels", ["parallel"]),
        ("objective", ["networks", "kernels"]),
        (
            "study",
            ["solvers", "problems", "networks", "kernels", *RUNNERS],
        ),
    ],
)
def test_a_room_knows_nothing_of_some_below_it(part, forbidden):
    for other in forbidden:
        assert not importers_of(f"hpctrain.{other}", PACKAGE / part), other


@pytest.mark.parametrize("package", ["hpctrain", "benchmarks"])
def test_no_modules_import_each_other(package):
    assert circles(ROOT / package) == []


def test_circles_of_modules_are_found_in_functions_and_for_types_too(tmp_path):
    package = tmp_path / "part"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "a": "from part.b import f",
        "b": "import part.c",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from part import a\n",
        "d": "def f():\n    from part import e\n",
        "e": "from part import d",
    }.items():
        (package / f"{name}.py").write_text(text)
    assert circles(package) == [("part.a", "part.b", "part.c"), ("part.d", "part.e")]


# No file of the package: a name in it that is not known is taken for one of the package's own.
COMPILED = "hpctrain._kernels"


def circles(package: Path) -> list[tuple[str, ...]]:
    """The groups of modules that import each other, by way of others too."""
    files = {dotted_name(file, package): file for file in package.rglob("*.py")}
    known = {*files, COMPILED}
    direct = {name: (targets(file, known) & {*files}) - {name} for name, file in files.items()}
    reached = {name: reach(name, direct) for name in files}
    rings = {
        tuple(sorted(other for other in files if other in reached[name] and name in reached[other]))
        for name in files
        if name in reached[name]
    }
    return sorted(rings)


def reach(name: str, direct: dict[str, set[str]]) -> set[str]:
    """The modules that a module imports, and that these import, and so on."""
    found: set[str] = set()
    new = set(direct[name])
    while new:
        found |= new
        new = set().union(*(direct[each] for each in new)) - found
    return found


def dotted_name(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def targets(file: Path, modules: Iterable[str]) -> set[str]:
    """The modules among these that a file imports."""
    found = set()
    for name in imports(file):
        while name and name not in modules:
            name = name.rpartition(".")[0]
        found |= {name} - {""}
    return found


def test_imports_are_found_in_functions_and_in_both_forms(tmp_path):
    (tmp_path / "module.py").write_text(
        "def f():\n    import a.b\n    from c import d\n    from e.f import g\n"
    )
    assert imports(tmp_path / "module.py") == {"a.b", "c.d", "e.f.g"}


def importers_of(module: str, folder: Path) -> set[Path]:
    """The parts of `folder` that import a module or something inside it."""
    files = folder.rglob("*.py")
    return {file.parent for file in files if any(within(name, module) for name in imports(file))}


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


@cache
def imports(file: Path) -> set[str]:
    """The dotted names that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=module, names=names, level=0):
                found |= {f"{module}.{alias.name}" for alias in names}
            case ast.ImportFrom():
                raise AssertionError(f"{file}: a relative import")
    return found
