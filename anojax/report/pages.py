"""HTML pages from the templates of this package; nothing in them is fetched."""

import base64
import functools
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from anojax.report.sheet import as_bytes


def render(template: str, **values: Any) -> str:
    """A page: every value is escaped, and one that is missing is an error.

    Args:
      template: name of a file in ``report/templates``.
      values: what the template names.

    Example:
      >>> render("table.html", head=["name"], rows=[["<b> & co"]]).count("&lt;b&gt;")
      1
    """
    return _templates().get_template(template).render(values)


def data_url(image: Image.Image | bytes) -> str:
    """An image as a link that holds it: a drawn one as JPEG, bytes are a PNG."""
    if isinstance(image, Image.Image):
        kind, data = "jpeg", as_bytes(image, "JPEG")
    else:
        kind, data = "png", image
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("anojax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
