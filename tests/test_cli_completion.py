"""`--version`, and scripts that complete words, as shells take them."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hpctrain import cli

ROOT = Path(__file__).parents[1]
COMPLETE = """
source {script}
COMP_WORDS=({words}) COMP_CWORD={last}
_shtab_hpctrain
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def test_version_is_that_of_the_project(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"hpctrain {project['version']}\n"
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.fixture
def complete(capsys, tmp_path):
    """What bash offers for the last word of a command line."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "hpctrain.bash"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "heat.toml").touch()

    def offers(*words: str) -> set[str]:
        text = COMPLETE.format(script=script, words=" ".join(words), last=len(words) - 1)
        shell = ["bash", "--norc", "-c", text]
        job = subprocess.run(shell, capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert job.stderr == ""
        return {word.strip() for word in job.stdout.split()}

    return offers


def test_bash_completes_commands_options_and_files(complete):
    assert complete("hpctrain", "re") == {"resume", "report"}
    assert complete("hpctrain", "compare", "--fo") == {"--format"}
    assert complete("hpctrain", "compare", "--format", "m") == {"markdown"}
    assert "heat.toml" in complete("hpctrain", "run", "he")


def test_zsh_gets_a_script_of_its_own(capsys):
    assert cli.main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef hpctrain")


def test_missing_shtab_is_one_line_and_status_2(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "pip install 'hpctrain[completion]'" in refusal("completion", "bash")
