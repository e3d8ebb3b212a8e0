"""Matplotlib figures as SVG inside an HTML page: the same input gives the same text, and nothing global changes."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, FAINT = "#1c2126", "#5b6470", "#d9dde2"
OURS, THEIRS, WRONG = "#0072b2", "#d98300", "#b3261e"  # told apart by the colour-blind too

_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.dpi": 72,  # a pixel is a point
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_REFERENCE = re.compile(r"url\(#([^)]*)\)")


@contextmanager
def plotting(name: str) -> Iterator[None]:
    """Set matplotlib's parameters for one figure, whatever the user's are, and put them back.

    Args:
        name: Of the figure, unique in the page: its ids are derived from it.
    """
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser draws the text, with fonts of its own.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": name})
        yield


def to_svg(figure: "Figure", name: str, label: str, tooltips: Mapping[str, Sequence[str]] | None = None) -> Markup:
    """Return a figure as an `svg` element; to be called within `plotting(name)`.

    Args:
        figure: What is drawn.
        name: Of the figure, unique in the page: it begins every id.
        label: Says what is seen, for those who do not see it.
        tooltips: By the gid of a set of markers, the text of each marker.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=_NO_METADATA)
    root = ElementTree.fromstring(text.getvalue())
    for parent in root.iter():
        for style in parent.findall("{*}style"):  # it would hold for the whole page
            parent.remove(style)
    groups = {element.get("id"): element for element in root.iter()}
    for gid, texts in (tooltips or {}).items():
        markers = [element for element in groups[gid].iter() if element.tag.endswith("}use")]
        for marker, tooltip in zip(markers, texts, strict=True):
            ElementTree.SubElement(marker, "title").text = tooltip
    for element in root.iter():
        _inline(element, name)
    root.attrib = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _inline(element: ElementTree.Element, name: str) -> None:
    """Drop namespaces, which HTML does not want, and fonts, which are the page's; make ids the figure's own."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    if "href" in attributes:
        attributes["href"] = f"#{name}-{attributes['href'].removeprefix('#')}"
    if "clip-path" in attributes:
        attributes["clip-path"] = _REFERENCE.sub(rf"url(#{name}-\1)", attributes["clip-path"])
    if "style" in attributes:
        attributes["style"] = re.sub(r"font-family: [^;]*;? ?", "", attributes["style"])
    element.attrib = attributes
