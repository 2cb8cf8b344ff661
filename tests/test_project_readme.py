"""The README's examples work as they are printed."""

import re
import tomllib
from pathlib import Path

import pytest
import tomli_w

from hpctrain import cli
from hpctrain.job.settings import parse_job

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def script(tmp_path):
    """The script of "From Python", shortened to two iterations."""
    (text,) = (block for block in blocks("python") if "make_solver" in block)
    short, changed = re.subn(r"(ITERATIONS = .*), \d+$", r"\1, 2", text, flags=re.MULTILINE)
    assert changed == 1
    path = tmp_path / "script.py"
    path.write_text(short, encoding="utf-8")
    return path


def test_script_trains_and_gives_the_same_losses_on_two_ranks(python, mpirun, script):
    job = python(script)
    assert job.returncode == 0, job.stderr
    first, second = (float(line.split()[1]) for line in job.stdout.splitlines())
    assert second < first
    assert mpirun(2, script).stdout == job.stdout


def test_job_file_is_a_job():
    text, *_ = blocks("toml")
    job = parse_job(text, "README.md")
    assert (job.solver_name, job.solver[0].blocks) == ("aspqn", 8)


def test_tables_of_settings_can_stand_in_the_job_file():
    text, *tables = blocks("toml")
    settings = [tomllib.loads(text) | tomllib.loads(table) for table in tables]
    staged, clustered = (parse_job(tomli_w.dumps(each), "README.md") for each in settings)
    assert staged.solver_name == "adam + ssbroyden + gauss-newton"
    assert clustered.problem.clusters[0].share == 0.5


def test_own_equation_runs_from_a_file(capsys, tmp_path):
    (text,) = (block for block in blocks("python") if "class Heat" in block)
    (tmp_path / "my_pde.py").write_text(text, encoding="utf-8")
    settings = [f"problem.name={tmp_path}/my_pde.py:Heat", "problem.points=500"]
    settings += ["stop.max_iterations=60", "stop.error=1e-2"]
    overrides = [word for setting in settings for word in ("--set", setting)]
    job, output = str(ROOT / "examples/heat.toml"), str(tmp_path / "heat.h5")
    assert cli.main(["run", job, "-o", output, *overrides]) == 0
    assert "stop.error reached" in capsys.readouterr().out


def test_table_of_commands_names_every_command(capsys):
    named = re.findall(r"^\| `hpctrain (\w+)", README, flags=re.MULTILINE)
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    offered = re.findall(r"^ {4}(\w+)(?: |$)", capsys.readouterr().out, flags=re.MULTILINE)
    assert named == offered


def test_named_files_exist():
    named = re.findall(r"\b(?:jobs|docs|hpctrain)/[\w/-]+\.\w+", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
