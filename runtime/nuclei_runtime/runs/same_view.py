"""One view for all images of a run: an experiment must not change its ruler from image to image.

A few of the images are looked at as if they were parts of one image, and the view is chosen as for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.errors import ImageError
from nuclei_runtime.faults import image_failure, reading_error
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.remote_inputs import fetched
from nuclei_runtime.segmentation.block_search import GRID
from nuclei_runtime.segmentation.choice import Eye
from nuclei_runtime.segmentation.glass import without_glass
from nuclei_runtime.segmentation.memory import Budget
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.steps.stains import AS_IS
from nuclei_runtime.steps.view import View
from nuclei_runtime.steps.view_choice import Look, choose, look_at

MAX_FILES = 16
"""Number of files that are looked at, evenly spaced in their order; of each, the plane in the middle."""


def common_view(
    files: Sequence[ImageFile],
    network: Network,
    selection: Selection,
    max_memory: int | None,
    note: Callable[[str], object],
) -> View:
    """Choose one view for all images.

    Files that cannot be read or segmented are left out here; the run reports them. Those that could not be fetched are
    named here, because the run may succeed in fetching them.

    Parameters
    ----------
    files : sequence of ImageFile
        All those of the run: the view depends on no others.
    network : Network
    selection : Selection
    max_memory : int, optional
        See `nuclei_runtime.segmentation.blocks.segment_plane`.
    note : callable
        Takes a sentence on each file that could not be fetched.

    Raises
    ------
    RuntimeEnvironmentError
        The machine is at fault.
    """
    choice = network.card.views
    if choice is None or not network.others:
        return network.view
    n_files = min(len(files), MAX_FILES)
    with ExitStack() as opened:
        looked_at: list[ImageFile] = []  # the same for each view
        for file in (files[index * len(files) // n_files] for index in range(n_files)):
            try:
                looked_at.append(opened.enter_context(fetched(file)))
            except OSError as error:
                note(f"{file.name}: the view was chosen without it: {image_failure(reading_error(error))}")

        def look(view: View) -> Look | None:
            parts: list[tuple[Maps, Labels]] = []
            any_stained = False
            for file in looked_at:
                with suppress(ImageError), open_planes(file.source, selection) as planes:
                    every = list(planes)
                    plane = every[len(every) // 2]
                    plane = without_glass(plane) if network.skips_glass else plane
                    eye = Eye(plane, network, Budget(plane, max_memory, network), GRID.core_px)
                    any_stained |= view.stain != AS_IS and eye.is_colour
                    parts += eye.find(view)
            return look_at(parts) if view.stain in (AS_IS, network.view.stain) or any_stained else None

        views = (network.view, *network.others)
        return choose(choice, views, network.card.training_nucleus_diameter_px, look)[0]
