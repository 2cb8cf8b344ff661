"""A report as one page of HTML: complete, and with nothing to be fetched."""

from html.parser import HTMLParser

import pytest

from hpctrain import cli
from hpctrain.job.settings import load_job
from hpctrain.parallel.communicator import Communicator
from hpctrain.results.report import make_summary_rows
from hpctrain.run.train import run
from hpctrain.store.run_file import read_run

SMALL = ("network.depth=2", "network.width=4", "parallel.chunks=4", "parallel.threads=1")
UNCLOSED = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name in ("burgers", "burgers-lbfgs"):
        settings = [*SMALL, "problem.points=30", "stop.max_iterations=3"]
        job = load_job(f"jobs/{name}.toml", settings)
        run(job, Communicator(), output=str(folder / f"{name}.h5"))
    return folder


class Page(HTMLParser):
    """What a page has: its texts by tag, what it links, and tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.links, self.open, self.faults = {}, [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in UNCLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def write_page(tmp_path, *paths):
    out = tmp_path / "made" / "page.html"
    assert cli.main(["report", *map(str, paths), "--html", str(out)]) == 0
    page = Page(out.read_text(encoding="utf-8"))
    assert page.faults == [] and page.open == []
    assert page.links and all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert not any("url(" in text or "@import" in text for text in page.texts["style"])
    return page


def test_a_run_has_a_page_with_its_values_figures_job_and_environment(trained, tmp_path):
    path = trained / "burgers.h5"
    page, kept = write_page(tmp_path, path), read_run(path)
    assert len(page.links) == 2
    (row,) = make_summary_rows([kept])
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert list(facts) == list(row) and facts["error"] == f"{kept.final['error']:.4g}"
    assert "".join(page.texts["pre"]) == kept.job
    assert "python" in page.texts["td"] and str(kept.attributes["python"]) in page.texts["td"]


def test_runs_are_compared_on_one_page(trained, tmp_path):
    paths = [trained / "burgers.h5", trained / "burgers-lbfgs.h5"]
    page = write_page(tmp_path, *paths)
    assert len(page.links) == 3  # one convergence of both, and two solutions
    assert {path.name for path in paths} <= set(page.texts["td"])
    assert "".join(page.texts["h1"]) == "burgers: 2 runs"


def test_pages_are_refused_in_one_line(trained, refusal, tmp_path):
    path = trained / "burgers.h5"
    said = refusal("report", path, "--html", tmp_path / "page.txt")
    assert said.endswith("page.txt is not allowed: its name must end in .html")
    said = refusal("report", path, "--html", path / "page.html")
    assert said == f"{path}/page.html cannot be written: Not a directory"
    assert not (tmp_path / "page.txt").exists()
