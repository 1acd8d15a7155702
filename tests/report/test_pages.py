"""Pages: every value is escaped, links lead to their files, nothing is missing."""

from urllib.parse import unquote

import jinja2
import pytest

from anojax.report import pages

AWKWARD = """<script> & "a" 'b' #1 50%.csv"""


def test_values_are_escaped_wherever_they_stand():
    page = pages.render("table.html", head=[AWKWARD], rows=[[AWKWARD, 3]])
    assert (
        "<script>" not in page and page.count("&lt;script&gt; &amp; &#34;a&#34;") == 2
    )


def test_a_link_to_a_file_is_percent_encoded():
    template = pages._templates().get_template("links.html")
    link = str(template.module.file(AWKWARD))
    target = link.split('"')[1]
    assert unquote(target) == AWKWARD
    assert not set(target) & set("#<>\"' &")


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="rows"):
        pages.render("table.html", head=["x"])
