"""The reference of job keys names every key that a job may have, and says what each means."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctrain.job.settings import Job
from hpctrain.solvers import SOLVERS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference():
    sys.path.insert(0, str(ROOT / "tools/site"))
    import reference

    yield reference
    sys.path.remove(str(ROOT / "tools/site"))


def find_keys(schema: dict[str, Any], group: dict[str, Any], place: str = "") -> Iterator[str]:
    """The dotted keys of a group of settings in a JSON schema, those of inner groups too."""
    if "$ref" in group:
        group = schema["$defs"][group["$ref"].rpartition("/")[2]]
    for choice in (*group.get("anyOf", ()), *group.get("oneOf", ()), group.get("items")):
        if isinstance(choice, dict):
            yield from find_keys(schema, choice, place)
    for key, inner in group.get("properties", {}).items():
        yield f"{place}{key}"
        yield from find_keys(schema, inner, f"{place}{key}.")


def test_every_key_of_a_job_is_there(reference):
    schema = Job.model_json_schema()
    keys = set(find_keys(schema, schema))
    assert {"seed", "stop.error", "solver.stop.loss", "problem.adapt.every"} <= keys
    tables = {key.rpartition(".")[0] for key in keys} - {""}
    rows = {row.key for group in reference.list_groups() for row in group.rows}
    assert keys - rows <= tables
    assert rows <= keys


def test_every_key_has_a_meaning_in_its_source(reference):
    groups = reference.list_groups()
    rows = [(group.choice, row) for group in groups for row in group.rows]
    silent = [(choice, row.key) for choice, row in rows if row.meaning == reference.CHOOSES]
    assert {key for _, key in silent} <= {"solver.name"}
    assert all(row.meaning.strip() and row.allowed and row.default for _, row in rows)


def test_defaults_are_those_of_the_method_that_the_table_belongs_to(reference):
    weights, data = (reference.write_options(name) for name in ("apts-weights", "apts-data"))
    radius = re.compile(r"^\| `solver.trust_region.radius` \| .* \| `(.*?)` \|", re.MULTILINE)
    assert [radius.search(text)[1] for text in (weights, data)] == ["0.01", "1.0"]


@pytest.mark.parametrize("name", SOLVERS)
def test_every_method_has_one_page_with_its_settings(name):
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs/methods").glob("*.md")]
    marks = [mark for page in pages for mark in re.findall(r"<!-- options of (.+) -->", page)]
    assert sum(name in mark.split(", ") for mark in marks) == 1
