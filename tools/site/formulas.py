"""Turns the formulas of a page, written in LaTeX, into MathML as the site is built."""

import html
import re

from latex2mathml.converter import convert

# What pymdownx.arithmatex makes of $…$ and of $$…$$.
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def write_mathml(page: str) -> str:
    """A page in HTML whose formulas are MathML."""
    page = INLINE.sub(lambda found: convert(html.unescape(found[1])), page)
    return DISPLAY.sub(_write_display, page)


def _write_display(found: re.Match[str]) -> str:
    formula = convert(html.unescape(found[1]).strip(), display="block")
    return f'<div class="formula">{formula}</div>'
