"""Turns the formulas of a page, written in LaTeX, into MathML as the site is built."""

import html
import re

from latex2mathml.converter import convert

# What pymdownx.arithmatex makes of $…$ and of $$…$$.
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def write_mathml(page: str) -> str:
    """A page in HTML whose formulas are MathML."""
    page = INLINE.sub(lambda found: _convert(found[1], "inline"), page)
    return DISPLAY.sub(_write_display, page)


def _write_display(found: re.Match[str]) -> str:
    return f'<div class="formula">{_convert(found[1], "block")}</div>'


def _convert(formula: str, display: str) -> str:
    """A formula of a page, as MathML.

    Raises:
        ValueError: it has a command that the converter does not know, and would show as it is.
    """
    found = convert(html.unescape(formula).strip(), display=display)
    if "\\" in found:
        raise ValueError(f"this formula cannot be made MathML: {formula}")
    return found
