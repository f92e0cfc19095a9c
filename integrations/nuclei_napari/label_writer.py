"""A labels layer -> a label image as `nuclei-infer` writes it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nuclei_napari.errors import LayerError
from nuclei_napari.layer_planes import pixel_size_um
from nuclei_runtime import save_labels


def write_label_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one labels layer; napari calls this.

    Raises
    ------
    LayerError
        The layer is a stack of several planes.
    ImageValueError
        A label is negative.
    OSError
        The file cannot be written.
    """
    labels = np.asarray(data)
    if labels.ndim < 2 or any(length > 1 for length in labels.shape[:-2]):
        raise LayerError(
            f"{attributes.get('name', 'the layer')}: found labels of shape {labels.shape}, expected one plane; "
            'split the stack (right-click the layer), or use "Save corrections" of the widget, which writes each plane'
        )
    labels = labels.reshape(labels.shape[-2:])
    scale, units = attributes.get("scale"), attributes.get("units")
    save_labels(path, labels, None if scale is None or units is None else pixel_size_um(scale, units))
    return [path]
