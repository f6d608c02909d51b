"""Every picture states its finding in words."""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
BARE_IMG = re.compile(r"<img\b(?![^>]*\balt\s*=\s*[\"'][^\"']*\w)[^>]*>", re.IGNORECASE)


def check(app: Sphinx, doctree: nodes.document) -> None:
    """Warn about each image without alt text, in Markdown, HTML and notebook outputs alike."""
    for node in doctree.findall():
        if isinstance(node, nodes.image) and not node.get("alt", "").strip():
            _warn(node, node["uri"])
        elif isinstance(node, nodes.raw) and node["format"] == "html":
            for tag in BARE_IMG.findall(node.astext()):
                _warn(node, tag)


def _warn(node: nodes.Element, image: str) -> None:
    up = [node]
    while up[-1].parent:
        up.append(up[-1].parent)
    place = next((above for above in up if above.line), node)
    cell = next((above for above in up if above.get("nb_element") == "cell_code"), None)
    if cell:
        source = next(iter(cell.findall(nodes.literal_block)), nodes.Text("")).astext()
        logger.warning(
            "the picture that cell %d outputs has no alt text: state its finding in the cell's "
            "metadata, mystnb.image.alt. The cell begins: %s",
            cell["cell_index"] + 1,
            source.strip().partition("\n")[0],
            location=place,
        )
    else:
        logger.warning("image without alt text: %.80s", image, location=place)
