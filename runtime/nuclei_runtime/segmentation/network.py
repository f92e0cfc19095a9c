"""A loaded model together with how it is shown images: the views it may choose from, and test-time augmentation.

Segmenter, blocks and evaluation share this one value, so that what is scored is what ships.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ImageValueError, ModelError
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.model.session import Session, load_session
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.steps.scale import Scale, scale_for
from nuclei_runtime.steps.sieve import Sieve
from nuclei_runtime.steps.stains import AS_IS
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import Tiling
from nuclei_runtime.steps.tta import MAGNIFICATION, average_scales
from nuclei_runtime.steps.view import View, other_views


@dataclass(frozen=True, eq=False)
class Network:
    """A loaded model and how it is shown images.

    Attributes
    ----------
    session : Session
    view : View
        How the network is shown an image.
    others : tuple of View
        Further views, without `View.tta`. If there are any, one is chosen for each image, and whether it is averaged;
        see `nuclei_runtime.segmentation.choice`.
    sieve : Sieve
        Which of the nuclei found are kept.
    skips_glass : bool
        Whether the glass of a large stained slide is not looked at; see `nuclei_runtime.segmentation.glass`.
    min_quality : float, optional
        Images whose expected AP@0.5 is lower are flagged; see `nuclei_runtime.steps.flags`.
    """

    session: Session
    view: View
    others: tuple[View, ...] = ()
    sieve: Sieve = field(default_factory=Sieve)
    skips_glass: bool = True
    min_quality: float | None = None

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.session.card

    @property
    def magnification(self) -> float:
        """How much larger than the image, along each side, is the largest input that the network gets for it."""
        return self.view.scale.factor * (MAGNIFICATION if self.view.tta else 1)

    @property
    def tiling(self) -> Tiling | None:
        """How images are cut, in their own pixels; None for a network of fixed size."""
        tiling = self.card.input.tiling
        return None if tiling is None else self.view.scale.tiling(tiling)

    @property
    def postprocessing(self) -> Step:
        """How nuclei are found in the maps, with areas in pixels of the image."""
        return self.view.scale.method(self.card.postprocessing)

    def fixed(self) -> tuple[Network, ...]:
        """Return the network with each view that it may choose, averaged if any may be; these choose no more."""
        views = (replace(view, tta=self.view.tta) for view in (self.view, *self.others))
        return tuple(replace(self, view=view, others=()) for view in views)

    def unstained(self) -> Network:
        """Return the network with its views as they are for a plane without colours."""
        view, *others = dict.fromkeys(replace(view, stain=AS_IS) for view in (self.view, *self.others))
        return replace(self, view=view, others=tuple(others))

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network; a `nuclei_runtime.steps.tiling.NetworkFunction` that several threads may call at once.

        Raises
        ------
        ImageError
            See `nuclei_runtime.model.session.Session.run`.
        ImageValueError
            The network's output is not finite.
        """
        run = average_scales(self.session.run) if self.view.tta else self.session.run
        maps = self.view.scale.run(run)(batch)
        if not np.isfinite(maps).all():  # every comparison with NaN is false: there would be no nuclei and no error
            raise ImageValueError("the model gives NaN or infinite probabilities for it; export the model again")
        return maps


def load_network(options: SegmenterOptions) -> Network:
    """Load the model that the options name.

    Raises
    ------
    ModelError, RuntimeEnvironmentError
        See `nuclei_runtime.model.session.load_session`; or the model takes images of one size only, which excludes
        test-time augmentation, a diameter and a view; or its card has no score or no views, and the options ask for a
        minimum of the score or of the quality.
    """
    session = load_session(
        options.model_path, sha256=options.sha256, provider=options.provider, threads=options.threads
    )
    card = session.card
    if (options.tta or options.changes_view) and card.input.tiling is None:
        raise ModelError(
            f"{card.name} takes images of {card.input.height} x {card.input.width} pixels only, but test-time "
            "augmentation, a diameter and a view change the image; leave them out, or use a model for any size"
        )
    if options.min_score is not None and card.score is None:
        raise ModelError(
            f"{card.name} does not score nuclei, so none can be left out by score (--min-score, min_score in Python); "
            "train or fit it with this version of nuclei-edge, or use the bundled model"
        )
    if options.min_quality is not None and card.views is None:
        raise ModelError(
            f"{card.name} does not estimate the quality of its results, so none can be flagged for it (--min-quality, "
            "min_quality in Python); train or fit it with this version of nuclei-edge, or use the bundled model"
        )
    given = options.sieve, options.tissue_mask, options.min_quality
    if options.view is not None:
        return Network(session, replace(options.view, tta=options.view.tta or options.tta), (), *given)
    known_px = card.training_nucleus_diameter_px
    scale = None if options.diameter_px is None else scale_for(options.diameter_px, known_px)
    view = View(scale or Scale(), options.stain or AS_IS, options.tta)
    others = () if card.views is None else other_views(scale, options.stain)
    return Network(session, view, others, *given)
