"""LaTeX to MathML when the book is built: browsers draw it themselves, so no script is needed."""

import html
import re
from xml.etree.ElementTree import Element, tostring

from docutils import nodes
from latex2mathml import commands
from latex2mathml.converter import Converter
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)
ENVIRONMENTS = {name[1:] for name in commands.MATRICES} | {"equation", "equation*"}
# The converter would ignore these or number their lines; Sphinx numbers equations.
SAME_AS = {"aligned": "split", "align": "align*", "gathered": "matrix", "gather*": "matrix"}


def to_mathml(latex: str, *, block: bool = False) -> str:
    """Convert LaTeX mathematics to one <math> element.

    Raises ValueError for what latex2mathml refuses, and for what it lets through although no
    browser could draw it: unknown commands and environments, stray & and line breaks, open braces.
    """
    source = re.sub(
        r"\\(begin|end)\{(\w+\*?)\}",
        lambda found: rf"\{found[1]}{{{SAME_AS.get(found[2], found[2])}}}",
        latex.strip(),
    )
    if block and r"\\" in source and r"\begin" not in source:
        source = rf"\begin{{split}}{source}\end{{split}}"
    if unknown := set(re.findall(r"\\begin\{(.+?)\}", source)) - ENVIRONMENTS:
        raise ValueError(f"unknown environment {', '.join(sorted(unknown))}")
    braces = re.sub(r"\\.", "", source)
    if braces.count("{") != braces.count("}"):
        raise ValueError("opening and closing braces differ in number")
    try:
        math = Converter(display="block" if block else "inline").convert_to_element(source)
    except Exception as error:  # latex2mathml's errors share no base class
        raise ValueError(" ".join([type(error).__name__, *map(str, error.args)])) from error
    for element in math.iter():
        element.text = html.unescape(element.text or "")
        if element.tag == "mi" and re.match(r"\\[A-Za-z]|[&{}]$", element.text):
            raise ValueError(f"unknown or misplaced {element.text}")
        if element.tag == "mtext" and re.search(r"[$\\]", element.text):
            raise ValueError(rf"mathematics inside \text{{{element.text}}}")
        if element.get("linebreak") == "newline":
            raise ValueError(r"\\ outside of an environment such as aligned")
    for row in list(math.iter("mrow")):
        row[:] = _joined(row)
    math.set("alttext", latex.strip())
    return tostring(math, encoding="unicode", short_empty_elements=False)


def _joined(row: Element) -> list[Element]:
    r"""Join the letters of \mathrm{out} and the digits of 8{,}402 so that each is read as one."""
    joined: list[Element] = []
    for child in row:
        tags = [element.tag for element in (*joined[-2:], child)]
        upright = [element.get("mathvariant") == "normal" for element in (*joined[-1:], child)]
        if tags[-2:] == ["mi", "mi"] and all(upright):
            joined[-1].text += child.text
        elif tags == ["mn", "mrow", "mn"] and [inner.text for inner in joined[-1]] == [","]:
            joined.pop()
            joined[-1].text += "," + child.text
        else:
            joined.append(child)
    return joined


def _mathml(node: nodes.Element, *, block: bool) -> str:
    try:
        return to_mathml(node.astext(), block=block)
    except ValueError as error:
        source = " ".join(node.astext().split())
        logger.warning("mathematics: %s, in: %s", error, source, location=node)
        return f"<code>{html.escape(source)}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write $…$."""
    self.body += [self.starttag(node, "span", "", CLASS="math"), _mathml(node, block=False)]
    self.body.append("</span>")
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write $$…$$ in a box that scrolls, and beside it the number, if it has one."""
    self.body += [self.starttag(node, "div", "", CLASS="math"), '<div class="math-box">']
    self.body += [_mathml(node, block=True), "</div>"]
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode
