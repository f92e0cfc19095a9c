"""The widget: segment a layer, save corrections, open earlier results."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from threading import Event
from typing import Any

import napari
import numpy as np
from magicgui.widgets import ComboBox, Container, FileEdit, Label, ProgressBar, PushButton, SpinBox
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info

from nuclei_napari.corrections import ORIGIN, Origin, Saved, save_corrections
from nuclei_napari.errors import FolderError, LayerError
from nuclei_napari.layer_planes import choices_for, labels_place, labels_shape, planes_of
from nuclei_napari.results import ResultPlane, list_planes, open_plane
from nuclei_napari.segmenting import Found, NotFound, Options, features_of, segment_planes
from nuclei_runtime import NucleiError

_AUTOMATIC = "chosen for the image"
_STAINS = (_AUTOMATIC, "rgb", "he", "hdab")
_MAX_DIAMETER_PX = 400


def _said(method: Callable[[NucleiWidget], None]) -> Callable[..., None]:
    """Turn an error in what a button does into a sentence."""

    @wraps(method)
    def guarded(self: NucleiWidget, *_: object) -> None:
        try:
            method(self)
        except NucleiError as error:
            self.fail(str(error))

    return guarded


class NucleiWidget(Container):  # type: ignore[misc]  # of a package without types
    """Segments the image layer that is selected, and saves what a person corrected in its labels."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        self._viewer = napari_viewer
        self._cancel = Event()
        self.image_box = ComboBox(label="Image", choices=self._layers_of(Image))
        self.planes_box = ComboBox(label="Segment", choices=self._choices)
        self.diameter_box = SpinBox(
            label="Diameter (px)",
            max=_MAX_DIAMETER_PX,
            tooltip="Median diameter of the nuclei, from 4 pixels. 0: the scale is chosen for the image.",
        )
        self.stain_box = ComboBox(label="Stain", choices=_STAINS, tooltip="How the network is shown a colour image.")
        self.model_box = FileEdit(
            label="Model", mode="r", filter="*.onnx", nullable=True, tooltip="Empty: the bundled model."
        )
        self.run_button = PushButton(text="Segment")
        self.stop_button = PushButton(text="Cancel", enabled=False)
        self.progress_bar = ProgressBar(min=0, max=100, visible=False, label="")
        self.labels_box = ComboBox(label="Labels", choices=self._layers_of(Labels))
        self.folder_box = FileEdit(
            label="Save to", mode="d", nullable=True, tooltip="A folder for all corrections: images/ and masks/."
        )
        self.save_button = PushButton(text="Save corrections")
        self.results_box = FileEdit(
            label="Earlier results", mode="d", nullable=True, tooltip="The results folder of nuclei-infer (its --out)."
        )
        self.result_box = ComboBox(label="Result", choices=self._result_choices)
        self.open_button = PushButton(text="Open")
        self.status_text = Label(value="")
        segmenting = (self.image_box, self.planes_box, self.diameter_box, self.stain_box, self.model_box)
        buttons = Container(widgets=[self.run_button, self.stop_button], layout="horizontal", labels=False)
        correcting = (self.labels_box, self.folder_box, self.save_button)
        reviewing = (self.results_box, self.result_box, self.open_button)
        super().__init__(widgets=[*segmenting, buttons, self.progress_bar, *correcting, *reviewing, self.status_text])
        self.status_text.native.setWordWrap(True)
        self._results: list[ResultPlane] = []
        for button, method in (
            (self.run_button, self._segment),
            (self.stop_button, self._stop),
            (self.save_button, self._save),
            (self.open_button, self._open),
        ):
            button.changed.connect(method)
        self.image_box.changed.connect(lambda _: self.planes_box.reset_choices())
        self.results_box.changed.connect(self._list_results)
        layers = napari_viewer.layers
        layers.events.renamed.connect(self._refresh)
        for event in (layers.events.inserted, layers.events.removed, layers.selection.events.active):
            event.connect(self._follow)
        self.native.destroyed.connect(self._cancel.set)
        self._follow()

    def fail(self, sentence: str) -> None:
        """Show why something was not done."""
        self.status_text.value = sentence
        show_error(sentence)

    def tell(self, sentence: str) -> None:
        """Show what was done."""
        self.status_text.value = sentence
        show_info(sentence)

    def _layers_of(self, kind: type) -> Callable[[Any], list[Any]]:
        return lambda _: [layer for layer in self._viewer.layers if isinstance(layer, kind)]

    def _choices(self, _: Any) -> list[Any]:
        layer = self.image_box.value
        return [] if layer is None or layer.ndim < 2 else choices_for(layer)

    def _result_choices(self, _: Any) -> list[tuple[str, Any]]:
        return [(result.name, result) for result in getattr(self, "_results", [])]

    def _refresh(self, _: Any = None) -> None:
        for box in (self.image_box, self.labels_box):
            box.reset_choices()

    def _follow(self, _: Any = None) -> None:
        """Take the layer that the user has selected."""
        self._refresh()
        active = self._viewer.layers.selection.active
        for box in (self.image_box, self.labels_box):
            if active in box.choices:
                box.value = active

    @_said
    def _segment(self) -> None:
        layer, choice = self.image_box.value, self.planes_box.value
        if layer is None or choice is None:
            raise LayerError("there is no image to segment; open one, and choose it under Image")
        if self._viewer.dims.ndisplay > 2 or (
            choice.kind != "each" and layer.ndim > 2 and self._viewer.dims.order[-2:] != self._last_axes()
        ):
            raise LayerError("the viewer does not show rows and columns; switch to 2D, and reset the order of the axes")
        shown = tuple(int(at) for at in np.round(layer.world_to_data(self._viewer.dims.point))[-layer.ndim :])
        planes, shape = planes_of(layer, choice, shown), labels_shape(layer, choice)
        place = labels_place(layer, choice, shown)
        stain = None if self.stain_box.value == _AUTOMATIC else self.stain_box.value
        options = Options(self.model_box.value, float(self.diameter_box.value) or None, stain)
        self._cancel.clear()
        self._set_busy(True)
        worker = create_worker(segment_planes, planes, shape, options, self._cancel)
        worker.yielded.connect(self._show_progress)
        worker.returned.connect(lambda found: self._done(found, layer.name, planes, place))
        worker.finished.connect(lambda: self._set_busy(False))
        worker.start()

    def _last_axes(self) -> tuple[int, int]:
        n = int(self._viewer.dims.ndim)
        return n - 2, n - 1

    def _stop(self, *_: object) -> None:
        self._cancel.set()
        self.status_text.value = "cancelling"

    def _set_busy(self, is_busy: bool) -> None:
        self.run_button.enabled, self.stop_button.enabled, self.progress_bar.visible = not is_busy, is_busy, is_busy
        if is_busy:
            self.progress_bar.max = 0  # moves, without a share: nothing is known before the first block
            self.status_text.value = "segmenting"

    def _show_progress(self, share: float) -> None:
        self.progress_bar.max = 100
        self.progress_bar.value = int(100 * share)

    def _done(self, found: Found | NotFound, name: str, planes: Any, place: dict[str, Any]) -> None:
        if isinstance(found, NotFound):
            if found.reason:
                self.fail(found.reason)
            else:
                self.tell("cancelled; nothing was added")
            return
        self.labels_box.reset_choices()
        added = self._viewer.add_labels(
            found.labels,
            name=f"{name} nuclei",
            features=found.features,
            metadata={ORIGIN: Origin(name, planes, found.labels.copy())},
            **place,
        )
        self._refresh()
        self.labels_box.value = added
        self.tell("; ".join([f"{name}: found {found.count} nuclei", *found.notes]))

    @_said
    def _save(self) -> None:
        layer, folder = self.labels_box.value, self.folder_box.value
        if layer is None:
            raise LayerError("there are no labels to save; segment an image first, and choose its labels under Labels")
        if folder is None or not str(folder).strip(" ."):
            raise FolderError("choose a folder under Save to; it collects the corrections of all images")
        origin = self._origin_of(layer)
        labels = np.asarray(layer.data)
        saved = save_corrections(Path(folder), origin, labels)
        layer.features = features_of(origin.planes, labels)
        self.tell("; ".join(map(_described, saved)) + f"; saved in {folder}")

    def _origin_of(self, layer: Any) -> Origin:
        """Return where labels come from; for a layer that was drawn by hand, the image that is chosen."""
        if ORIGIN in layer.metadata:
            origin = layer.metadata[ORIGIN]
            assert isinstance(origin, Origin)
            return origin
        image = self.image_box.value
        if image is None or image.ndim > 2 or labels_shape(image, choices_for(image)[0]) != layer.data.shape:
            raise LayerError(
                f"{layer.name}: was not made here, and the layer under Image has another size; choose the image that "
                "the labels belong to"
            )
        planes = planes_of(image, choices_for(image)[0], ())
        return Origin(image.name, planes, np.zeros(layer.data.shape, np.int32))

    @_said
    def _list_results(self) -> None:
        self._results = []
        folder = self.results_box.value
        try:
            self._results = [] if folder is None else list_planes(Path(folder))
        finally:
            self.result_box.reset_choices()

    @_said
    def _open(self) -> None:
        if self.result_box.value is None:
            raise FolderError("choose a results folder of nuclei-infer under Earlier results, and one of its images")
        layers = open_plane(self.result_box.value)
        for data, arguments, kind in layers:
            (self._viewer.add_image if kind == "image" else self._viewer.add_labels)(data, **arguments)
        if len(layers) == 1:
            self.tell(
                f"{self.result_box.value.name}: the image was not found where it was segmented; opened its labels"
            )


def _described(saved: Saved) -> str:
    changes = saved.changes
    parts = [
        f"{count} {name}"
        for name in ("added", "removed", "split", "merged", "redrawn")
        if (count := getattr(changes, name))
    ]
    text = f"{saved.name}: {changes.after} nuclei, {', '.join(parts) or 'nothing changed'}"
    if saved.in_pieces:
        text += f", of which these lie in several pieces: {', '.join(map(str, saved.in_pieces[:10]))}"
    return text
