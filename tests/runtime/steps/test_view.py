"""What a view is, and how it is written."""

from __future__ import annotations

import pytest

from nuclei_runtime.errors import InputsError
from nuclei_runtime.steps.scale import Scale
from nuclei_runtime.steps.view import AS_IT_IS, View, other_views, parse_view


@pytest.mark.parametrize("view", [AS_IT_IS, *other_views(), View(Scale(reduced=32), "hdab", tta=True)])
def test_a_view_is_read_as_it_is_written(view: View) -> None:
    assert parse_view(str(view)) == view


def test_as_is_is_a_view() -> None:
    assert parse_view("as-is") == AS_IT_IS


@pytest.mark.parametrize(
    "text", ["", "as is", "2", "1/2", "1/2,", "2/3,rgb", "0/1,rgb", "1/33,rgb", "1/2,pas", "1/2,he "]
)
def test_other_texts_are_no_views(text: str) -> None:
    with pytest.raises(InputsError, match=r"expected as-is, or a scale and a stain such as 1/2,he"):
        parse_view(text)
