"""A figure as the address of an image that carries its own data."""

import base64
from io import BytesIO

import matplotlib
from matplotlib.figure import Figure

# Vectors stay sharp at every width and in print; a figure of many thousand marks is smaller and faster as pixels.
LARGEST_SVG = 300_000  # bytes
PIXELS_PER_INCH = 200  # twice the 96 of a page, for dense screens

# Letters as outlines look the same wherever the page is read; fixed identifiers and no date make equal figures equal
# bytes.
_SAVING = {"svg.fonttype": "path", "svg.hashsalt": "microtome", "savefig.facecolor": "white"}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def data_uri(figure: Figure) -> str:
    """The figure as a `data:` address: SVG, or PNG where the SVG would be larger than `LARGEST_SVG`.

    As an image of its own, an SVG shares no identifiers with the other figures of a page and can run no script.
    """
    with matplotlib.rc_context(_SAVING):
        svg = _saved(figure, format="svg", metadata=_NO_METADATA)
        if len(svg) <= LARGEST_SVG:
            return _address("image/svg+xml", svg)
        return _address("image/png", _saved(figure, format="png", dpi=PIXELS_PER_INCH))


def _saved(figure: Figure, **options: object) -> bytes:
    content = BytesIO()
    figure.savefig(content, **options)
    return content.getvalue()


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
