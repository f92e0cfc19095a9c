"""A view is how a network is shown an image: at which scale, as which stain, and whether enlarged as well.

`nuclei_runtime.steps.view_choice` chooses one.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field

from nuclei_runtime.arguments import check_argument, is_flag, is_one_of
from nuclei_runtime.errors import InputsError
from nuclei_runtime.steps.scale import MAX_FACTOR, Scale
from nuclei_runtime.steps.stains import AS_IS, STAIN_NAMES, STAINS

SCALES = (Scale(), Scale(1, 2), Scale(1, 3), Scale(1, 4), Scale(2, 1), Scale(4, 1))
"""The scales to choose from, in the order in which they are tried."""


@dataclass(frozen=True)
class View:
    """How a network is shown an image.

    Attributes
    ----------
    scale : Scale
    stain : str
        ``rgb`` for the image's own colours or grey, or a key of `nuclei_runtime.steps.stains.STAINS`, which changes
        images with colours only.
    tta : bool
        Test-time augmentation: whether the network's output is averaged with that for the image twice as large as
        `scale` says; see `nuclei_runtime.steps.tta`.

    Raises
    ------
    ArgumentError
        This is no scale or no stain, or `tta` is neither True nor False.
    """

    scale: Scale = field(default_factory=Scale)
    stain: str = AS_IS
    tta: bool = False

    def __post_init__(self) -> None:
        check_argument(isinstance(self.scale, Scale), "scale", "a Scale, such as Scale(reduced=2)", self.scale)
        check_argument(is_one_of(STAIN_NAMES, self.stain), "stain", f"one of {', '.join(STAIN_NAMES)}", self.stain)
        check_argument(is_flag(self.tta), "tta", "True or False", self.tta)
        object.__setattr__(self, "tta", bool(self.tta))  # JSON knows no NumPy bool

    def __str__(self) -> str:
        return f"{self.scale},{self.stain}" + (f",{_TTA_TEXT}" if self.tta else "")


AS_IT_IS = View()

_AS_IS_TEXT, _TTA_TEXT = "as-is", "tta"
_VIEW_TEXT = re.compile(rf"(\d{{1,2}})/(\d{{1,2}}),(\w+)(,{_TTA_TEXT})?")


def parse_view(text: str) -> View:
    """Return the view that a text names: ``as-is``, or a scale, a stain and perhaps ``tta``, as `View` is written.

    Raises
    ------
    InputsError
        It names none.
    """
    if text == _AS_IS_TEXT:
        return AS_IT_IS
    found = _VIEW_TEXT.fullmatch(text)
    if found is not None:
        with suppress(ValueError):
            return View(Scale(int(found[1]), int(found[2])), found[3], tta=found[4] is not None)
    raise InputsError(
        f"view {text!r}: expected {_AS_IS_TEXT}, or a scale and a stain such as 1/2,he; the scale is 1/N or N/1 with N "
        f"from 1 to {MAX_FACTOR}, and the stain one of {', '.join(STAIN_NAMES)}; ,{_TTA_TEXT} may follow"
    )


def other_views(scale: Scale | None = None, stain: str | None = None) -> tuple[View, ...]:
    """Return the views to choose from besides the first, at a fixed scale or of a fixed stain, if these are given."""
    scales = SCALES if scale is None else (scale,)
    stains = (AS_IS, *STAINS) if stain is None else (stain,)
    return tuple(View(one, other) for other in stains for one in scales)[1:]
