"""README and the pages of docs/ hold: their commands, their jobs, their code and their links."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hpctrain import cli
from hpctrain.job.settings import parse_job

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
TUTORIALS = [
    "first_run",
    "after_a_run",
    "inverse",
    "own_network",
    "own_solver",
    "reproduce",
    "coming_from",
]
CLASSIFIERS = ("spirals.toml", "digits.toml")
# What makes a run of a tutorial one of a moment.
SHRUNK = ["stop.max_iterations=3", "parallel.threads=1"]
FEWER_POINTS = ["problem.points=64", "parallel.chunks=8"]


class Block(NamedTuple):
    """A block of code: its language, the file that it is to be, "" for none, and its text."""

    language: str
    file: str
    text: str


def list_blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, those inside tabs without their indentation."""
    fence = re.compile(
        r'^( *)```(\w*)(?: title="([^"]+)")?\n(.*?)^\1```$', flags=re.DOTALL | re.MULTILINE
    )
    for indent, language, file, text in fence.findall(page.read_text(encoding="utf-8")):
        yield Block(language, file, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))


def list_commands(page: Path) -> list[list[str]]:
    """The words of each command in blocks of sh, without launchers and comments."""
    lines = [
        line
        for block in list_blocks(page)
        if block.language == "sh"
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    words = [shlex.split(line, comments=True) for line in lines]
    return [_drop_launcher(_drop_target(each)) for each in words if each]


def _drop_target(words: list[str]) -> list[str]:
    """The words without the file that a shell writes what is printed into."""
    return words[: words.index(">")] if ">" in words else words


def _drop_launcher(words: list[str]) -> list[str]:
    is_launched = words[0] in ("mpirun", "srun") and "hpctrain" in words
    return words[words.index("hpctrain") :] if is_launched else words


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_of_hpctrain_are_ones_that_it_takes(page):
    for words in list_commands(page):
        if words[0] == "hpctrain":
            cli.make_parser().parse_args(words[1:])  # which ends the process if it refuses them


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files_that_exist(page):
    targets = re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [each for each in targets if not (page.parent / each).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_files_of_the_tree_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])(?:jobs|hpctrain|tests|tools|slurm)/[\w/-]+\.\w+", text)
    assert [each for each in named if not (ROOT / each.replace("NAME", "wave")).exists()] == []


def test_table_of_commands_names_every_command(capsys):
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `hpctrain (\w+)", text, flags=re.MULTILINE)
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    offered = re.findall(r"^ {4}(\w+)(?: |$)", capsys.readouterr().out, flags=re.MULTILINE)
    assert named == offered


def test_tables_of_the_job_file_make_jobs():
    (first, *tables) = [
        block.text for block in list_blocks(ROOT / "docs/job_file.md") if block.language == "toml"
    ]
    job = parse_job(first, "job_file.md")
    assert (job.solver_name, job.solver[0].blocks) == ("aspqn", 8)
    staged, clustered = (_replace_tables(first, table) for table in tables)
    assert staged.solver_name == "adam + ssbroyden + gauss-newton"
    assert clustered.problem.clusters[0].share == 0.5


def _replace_tables(text: str, tables: str):
    """The job of a text in which these tables stand in the place of its own."""
    names = {re.sub(r"[\[\]]", "", head) for head in re.findall(r"^\[.*\]$", tables, re.MULTILINE)}
    parts = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    kept = [part for part in parts if not part.startswith(tuple(f"[{name}]" for name in names))]
    return parse_job("".join(kept) + tables, "job_file.md")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder like a checkout, to be worked in."""
    for name in ("jobs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorial_works_as_it_is_printed(name, tree):
    page = ROOT / f"docs/tutorials/{name}.md"
    for block in list_blocks(page):
        if block.file:
            (tree / block.file).write_text(block.text, encoding="utf-8")
    for words in list_commands(page):
        _run(words, tree)


def _run(words: list[str], tree: Path) -> None:
    """A command of a tutorial, shrunk and in this process."""
    match words:
        case ["python", script]:
            runpy.run_path(str(tree / script), run_name="__main__")
        case ["hpctrain", "resume", *others]:
            assert cli.main(["resume", *others, "--set", "stop.max_iterations=5"]) in (0, 75)
        case ["hpctrain", "compare", *_]:
            pass  # starts processes of its own, which take long to start
        case ["hpctrain", "run", job, *others]:
            shrunk = SHRUNK if job in CLASSIFIERS else [*SHRUNK, *FEWER_POINTS]
            assert cli.main(["run", job, *others, *(w for s in shrunk for w in ("--set", s))]) == 0
        case ["hpctrain", *others]:
            assert cli.main(others) == 0
        case _:
            raise AssertionError(f"a tutorial has a command that is not run here: {words}")


@pytest.fixture
def script(tmp_path):
    """The script of the parts from Python, shortened to two iterations."""
    (text,) = (
        block.text
        for block in list_blocks(ROOT / "docs/tutorials/own_solver.md")
        if block.file == "script.py"
    )
    short, changed = re.subn(r"(ITERATIONS =) \d+$", r"\1 2", text, flags=re.MULTILINE)
    assert changed == 1
    path = tmp_path / "script.py"
    path.write_text(short, encoding="utf-8")
    return path


def test_script_trains_and_gives_the_same_losses_on_two_ranks(capsys, mpirun, script):
    runpy.run_path(str(script), run_name="__main__")
    alone = capsys.readouterr().out
    first, second = (float(line.split()[1]) for line in alone.splitlines())
    assert second < first
    assert mpirun(2, script).stdout == alone
