"""The plugin in napari, without a screen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime import Segmenter, read_image
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.steps.stains import AS_IS, STAINS

pytest.importorskip("napari", reason='NOT RUN: napari is not installed; pip install -e ".[test-napari]" brings it')
pytest.importorskip("pytestqt", reason='NOT RUN: pytest-qt is not installed; pip install -e ".[test-napari]" brings it')

FIELD, _ = fluorescence_field(5, height=128, width=160, n_nuclei=12)
OTHER, _ = fluorescence_field(6, height=128, width=160, n_nuclei=9)
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter()


@pytest.fixture
def viewer() -> Any:
    """Everything of a viewer but its window, which needs OpenGL."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def widget(viewer: Any, qapp: Any) -> Any:  # noqa: ARG001 - Qt's application
    from nuclei_napari.widget import NucleiWidget

    return NucleiWidget(viewer)


def segment(widget: Any, qtbot: Any) -> None:
    widget.run_button.changed.emit(True)
    qtbot.waitUntil(lambda: widget.run_button.enabled, timeout=WAIT_MS)


def labels_of(viewer: Any) -> list[Any]:
    return [layer for layer in viewer.layers if type(layer).__name__ == "Labels"]


def test_a_grey_image_gets_the_labels_and_the_table_of_the_runtime(
    viewer: Any, widget: Any, qtbot: Any, segmenter: Segmenter
) -> None:
    viewer.add_image(FIELD, name="field", scale=(0.5, 0.25), translate=(7, 9), units=("um", "um"))
    segment(widget, qtbot)
    (added,) = labels_of(viewer)
    expected = segmenter.segment(FIELD)
    np.testing.assert_array_equal(added.data, expected.labels)
    assert added.name == "field nuclei"
    np.testing.assert_allclose(added.scale, (0.5, 0.25))
    np.testing.assert_allclose(added.translate, (7, 9))
    table = expected.table(FIELD, (0.5, 0.25))
    assert list(added.features) == ["index", *table]
    for column, values in table.items():
        np.testing.assert_array_equal(added.features[column], values)
    row, column = np.argwhere(expected.labels == 3)[0]
    status = added.get_status((7 + 0.5 * row, 9 + 0.25 * column), world=True)
    assert f"area_px: {table['area_px'][2]:g}" in json.dumps(status).replace(".0", "")
    assert widget.status_text.value == f"field: found {expected.count} nuclei"


def test_a_colour_image_and_the_options_reach_the_runtime(viewer: Any, widget: Any, qtbot: Any) -> None:
    colour = np.dstack([FIELD // 3, FIELD // 2, FIELD])
    viewer.add_image(colour, name="colour")
    widget.diameter_box.value, widget.stain_box.value = 24, "hdab"
    segment(widget, qtbot)
    expected = Segmenter(diameter_px=24, stain="hdab").segment(colour)
    np.testing.assert_array_equal(labels_of(viewer)[0].data, expected.labels)


def test_the_stains_are_those_of_the_runtime(widget: Any) -> None:
    assert list(widget.stain_box.choices) == ["chosen for the image", AS_IS, *STAINS]


def test_the_selected_layer_is_the_one_to_segment(viewer: Any, widget: Any) -> None:
    first, second = (viewer.add_image(FIELD, name=name) for name in ("first", "second"))
    assert widget.image_box.value == second
    viewer.layers.selection.active = first
    assert widget.image_box.value == first
    viewer.layers.remove(first)
    assert widget.image_box.value == second
    second.name = "renamed"
    assert widget.image_box.current_choice == "renamed"


def test_of_a_stack_the_plane_that_is_shown_is_segmented(
    viewer: Any, widget: Any, qtbot: Any, segmenter: Segmenter
) -> None:
    stack = np.stack([np.zeros_like(FIELD), OTHER, FIELD])
    viewer.add_image(stack, name="stack", scale=(3, 1, 1), translate=(100, 0, 0), axis_labels=("z", "y", "x"))
    viewer.dims.set_point(0, 103)
    segment(widget, qtbot)
    (added,) = labels_of(viewer)
    np.testing.assert_array_equal(added.data[0], segmenter.segment(OTHER).labels)
    assert added.data.shape == (1, *FIELD.shape)
    np.testing.assert_allclose(added.translate, (103, 0, 0))
    assert set(added.features["z"]) == {1}


def test_each_plane_of_a_stack_has_numbers_of_its_own(
    viewer: Any, widget: Any, qtbot: Any, segmenter: Segmenter
) -> None:
    stack = np.stack([FIELD, OTHER])[:, np.newaxis]
    viewer.add_image(stack, name="series", axis_labels=("t", "c", "y", "x"))
    titles = [str(choice) for choice in widget.planes_box.choices]
    assert titles[0] == "the plane that is shown"
    widget.planes_box.value = widget.planes_box.choices[titles.index("each plane along axis 0 (t)")]
    segment(widget, qtbot)
    (added,) = labels_of(viewer)
    first, second = segmenter.segment(FIELD), segmenter.segment(OTHER)
    np.testing.assert_array_equal(added.data[0, 0], first.labels)
    np.testing.assert_array_equal(added.data[1, 0] > 0, second.labels > 0)
    assert added.features["label"].tolist() == list(range(1, first.count + second.count + 1))
    assert added.features["time"].tolist() == [0] * first.count + [1] * second.count


def test_the_maximum_of_a_stack_is_segmented(viewer: Any, widget: Any, qtbot: Any, segmenter: Segmenter) -> None:
    half = FIELD.shape[0] // 2
    stack = np.stack([np.where(np.arange(128)[:, None] < half, FIELD, 0), FIELD * (np.arange(128)[:, None] >= half)])
    viewer.add_image(stack, name="halves")
    titles = [str(choice) for choice in widget.planes_box.choices]
    widget.planes_box.value = widget.planes_box.choices[titles.index("maximum along axis 0")]
    segment(widget, qtbot)
    np.testing.assert_array_equal(labels_of(viewer)[0].data[0], segmenter.segment(FIELD).labels)


def test_an_error_is_a_sentence_and_the_widget_goes_on(viewer: Any, widget: Any, qtbot: Any) -> None:
    segment(widget, qtbot)
    assert widget.status_text.value == "there is no image to segment; open one, and choose it under Image"
    broken = FIELD.astype(float)
    broken[3, 3] = np.nan
    viewer.add_image(broken, name="broken")
    segment(widget, qtbot)
    assert "NaN or infinite" in widget.status_text.value
    viewer.add_image(FIELD, name="field")
    widget.diameter_box.value = 2
    segment(widget, qtbot)
    assert "2" in widget.status_text.value
    assert "diameter" in widget.status_text.value
    widget.diameter_box.value, widget.model_box.value = 0, "missing.onnx"
    segment(widget, qtbot)
    assert "missing.onnx" in widget.status_text.value
    assert labels_of(viewer) == []
    widget.model_box.value = None
    segment(widget, qtbot)
    assert len(labels_of(viewer)) == 1


def test_cancelling_adds_nothing(viewer: Any, widget: Any, qtbot: Any) -> None:
    viewer.add_image(np.tile(FIELD, (12, 12)), name="large")
    widget.run_button.changed.emit(True)
    assert not widget.run_button.enabled
    assert widget.stop_button.enabled
    widget.stop_button.changed.emit(True)
    qtbot.waitUntil(lambda: widget.run_button.enabled, timeout=WAIT_MS)
    assert widget.status_text.value == "cancelled; nothing was added"
    assert labels_of(viewer) == []


def test_corrections_are_saved_with_what_changed(viewer: Any, widget: Any, qtbot: Any, tmp_path: Path) -> None:
    viewer.add_image(FIELD, name="field 1/a")
    widget.save_button.changed.emit(True)
    assert widget.status_text.value.startswith("there are no labels to save")
    segment(widget, qtbot)
    widget.save_button.changed.emit(True)
    assert widget.status_text.value.startswith("choose a folder")
    (added,) = labels_of(viewer)
    n = len(added.features)
    added.fill(np.argwhere(added.data == 1)[0], 0)
    widget.folder_box.value = tmp_path / "corrected"
    widget.save_button.changed.emit(True)
    assert widget.status_text.value.startswith(f"field 1_a: {n - 1} nuclei, 1 removed; saved in ")
    assert len(added.features) == n - 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "corrected/masks/field 1_a.tif"), added.data)
    np.testing.assert_array_equal(read_image(tmp_path / "corrected/images/field 1_a.tif"), FIELD)


def test_labels_drawn_by_hand_are_saved_with_the_image_that_is_chosen(viewer: Any, widget: Any, tmp_path: Path) -> None:
    viewer.add_image(FIELD, name="field")
    drawn = np.zeros_like(FIELD)
    drawn[5:20, 5:20] = 1
    viewer.add_labels(drawn[:50])
    widget.folder_box.value = tmp_path
    widget.save_button.changed.emit(True)
    assert "was not made here" in widget.status_text.value
    viewer.add_labels(drawn)
    widget.save_button.changed.emit(True)
    assert widget.status_text.value == f"field: 1 nuclei, 1 added; saved in {tmp_path}"


@pytest.mark.skipif(
    os.environ.get("QT_QPA_PLATFORM") == "offscreen",
    reason="NOT RUN: the window of napari needs OpenGL, and so a display; try xvfb-run -a pytest",
)
def test_the_menu_of_napari_opens_the_widget(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("nuclei-edge", "Segment nuclei")
    viewer.add_image(FIELD, name="field")
    segment(widget, qtbot)
    assert [layer.name for layer in viewer.layers] == ["field", "field nuclei"]
    assert widget.labels_box.value == viewer.layers["field nuclei"]


def test_napari_imports_nothing_of_the_plugin_before_it_is_used() -> None:
    code = (
        "import json, sys\nfrom npe2 import PluginManager\n"
        "found = PluginManager.instance()\nfound.discover()\n"
        "manifest = found.get_manifest('nuclei-edge')\n"
        "print(json.dumps([manifest.display_name, sorted(n for n in sys.modules if n.startswith(('nuclei', 'onnx')))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == ["nuclei-edge", []]


def test_every_contribution_is_there() -> None:
    from npe2 import PluginManager

    found = PluginManager.instance()
    found.discover()
    for command in found.get_manifest("nuclei-edge").contributions.commands:
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(import_module(module), name))
