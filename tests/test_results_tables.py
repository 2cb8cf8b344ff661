"""docs/results.md shows every row of the commands that it names, the losing ones too."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = (ROOT / "docs/results.md").read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """The parts of a document under its headings of the second level, by their titles."""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def commands(section: str) -> list[tuple[str, list[str]]]:
    """The benchmarks that a section names, each with its words."""
    named = re.findall(r"`python -m benchmarks\.(\w+)([^`]*)`", " ".join(section.split()))
    return [(module, shlex.split(words)) for module, words in named]


def shown(section: str) -> list[str]:
    """The rows and heads of a section's tables: their cells in plain text, joined by " | "."""
    lines = [line.strip().strip("| ") for line in section.splitlines() if line.strip()[:1] == "|"]
    return [plain(re.sub(r"\s*\|\s*", " | ", line)) for line in lines]


def plain(text: str) -> str:
    """Without marks of code, and with a sign of multiplication as a letter."""
    return text.replace("`", "").replace("×", "x").strip()


def missing(labels: list[str], lines: list[str]) -> list[str]:
    """Labels with which no line begins, and which are no cell of a head or row either."""
    cells = {re.sub(r" \([\d.]+\).*$", "", cell) for line in lines for cell in line.split(" | ")}
    begins = {" | ".join(line.split(" | ")[:count]) for line in lines for count in (1, 2, 3)}
    return [label for label in map(plain, labels) if label not in begins | cells]


NAMED = [
    pytest.param(section, module, words, id=" ".join([module, *words]))
    for section in sections(RESULTS).values()
    for module, words in commands(section)
]


@pytest.mark.parametrize(("section", "module", "words"), NAMED)
def test_every_row_of_a_named_command_is_shown(section, module, words):
    labels = importlib.import_module(f"benchmarks.{module}").rows(words)
    assert labels
    assert missing(labels, shown(section)) == []


def test_every_benchmark_with_rows_is_named():
    files = (ROOT / "benchmarks").glob("*.py")
    with_rows = {file.stem for file in files if "\ndef rows(" in file.read_text(encoding="utf-8")}
    assert {module for module, _ in (each.values[1:] for each in NAMED)} == with_rows


def test_a_row_that_is_left_out_is_missed():
    lines = shown("| | s |\n|---|---|\n| `lbfgs` | 8 × 20 | 1 |\n| TR | ASTROM 1 % (0.1) | 2 |\n")
    labels = ["lbfgs | 8 x 20", "TR", "ASTROM 1 %", "lbfgs | 6 x 50", "ssbroyden", "ASTROM 10 %"]
    assert missing(labels, lines) == ["lbfgs | 6 x 50", "ssbroyden", "ASTROM 10 %"]
