"""What the site makes of the tree: a gallery that quotes results, a menu of all pages, formulas."""

import re
import sys
from pathlib import Path

import pytest

from hpctrain.problems.equations.library import EQUATIONS

ROOT = Path(__file__).parents[1]
GENERATED = {"index", "gallery", "reference", "contributing", "changelog", "security"}


@pytest.fixture(scope="module")
def gallery():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "tools/site"), *sys.path])
        import gallery

        yield gallery


def test_gallery_has_every_equation_with_a_job(gallery):
    page = gallery.write_gallery()
    assert re.findall(r"^## (.*)$", page, flags=re.MULTILINE) == sorted(EQUATIONS)
    assert all(gallery.list_jobs(name) for name in EQUATIONS)


def test_gallery_quotes_all_rows_of_an_equation_and_no_others(gallery):
    quoted = gallery.list_results({"burgers-inverse"})
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    # Those of other programs are about all of them.
    text = re.sub(r"^\| problem .*?\n\n", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (burgers-inverse(?: |,).*) \|$", text, flags=re.MULTILINE)
    assert len(quoted) == len(rows) > 1
    for said, row in zip(quoted, rows, strict=True):
        assert all(cell in said for cell in filter(None, re.split(r" \| ?", row)))
    own, same = gallery.list_results({"kovasznay"})[:2]
    assert own.startswith("kovasznay, 2,000 points") and "the same on two ranks" in same
    assert gallery.list_results({"nothing"}) == []


def test_picture_is_a_small_png(gallery):
    picture = gallery.draw(EQUATIONS["poisson-disk"]())
    assert picture.startswith(b"\x89PNG") and len(picture) < 60_000


def test_menu_has_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    menu = re.findall(r"^ *- (?:\w+: )?([\w/]+)\.md$", text, flags=re.MULTILINE)
    docs = ROOT / "docs"
    pages = {str(page.relative_to(docs).with_suffix("")) for page in docs.rglob("*.md")}
    assert len(menu) == len(set(menu))
    assert set(menu) == pages | GENERATED


def test_a_notebook_is_shown_as_its_cells(gallery):
    import sources

    shown = sources.show_source("examples/heat.ipynb")
    assert shown.startswith("# Heat in a rod") and "```python\nresult.plot()\n```" in shown


def test_formulas_become_mathml_and_unknown_ones_are_refused():
    pytest.importorskip("latex2mathml", reason="needs the extra docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "tools/site"), *sys.path])
        from formulas import write_mathml
    page = write_mathml(r'<p>of <span class="arithmatex">\(\alpha &lt; 1\)</span></p>')
    assert page.startswith("<p>of <math") and "arithmatex" not in page
    with pytest.raises(ValueError, match="nonsense"):
        write_mathml(r'<div class="arithmatex">\[ \nonsense{x} \]</div>')
