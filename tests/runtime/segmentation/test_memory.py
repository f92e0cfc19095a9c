"""How much memory a run may use, and how much a real process uses."""

from __future__ import annotations

import csv
import gc
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ImageTooLargeError
from nuclei_runtime.model import session
from nuclei_runtime.model.session import load_session
from nuclei_runtime.readers.plane import Plane, plane_of
from nuclei_runtime.resources import memory_limit_bytes
from nuclei_runtime.segmentation import memory, plane_input
from nuclei_runtime.segmentation.blocks import segment_plane
from nuclei_runtime.segmentation.memory import MAX_COMPUTED, Budget
from nuclei_runtime.segmentation.plane_input import PlaneInput, contrast_bytes, shown_plane
from nuclei_runtime.segmentation.process_memory import default_max_memory, release_memory, resident_bytes
from nuclei_runtime.steps.tiling import Tiling, computed_px, tile_side


def test_a_run_uses_half_of_the_memory_by_default() -> None:
    assert default_max_memory() == memory_limit_bytes() // 2
    assert 10 << 20 < resident_bytes() < memory_limit_bytes()


def test_the_memory_of_this_process_is_measured() -> None:
    alone = resident_bytes()
    held = np.ones(150 << 20, np.uint8)
    assert resident_bytes() - alone > 140 << 20
    assert held.all()


def repeated_field(side: int, n_nuclei: int = 6) -> np.ndarray:
    field, _ = fluorescence_field(2, height=250, width=250, n_nuclei=n_nuclei)
    return np.tile(field, (side // 250, side // 250))


def peak_of_infer(
    image: Path, out: Path, model: Path, ceiling: str, *options: str, more_at_start_bytes: int = 0
) -> int:
    """Run nuclei-infer under a ceiling; return the peak memory of its processes, in bytes."""
    code = (
        f"import numpy; held = numpy.ones({more_at_start_bytes}, numpy.uint8)\n"
        "from nuclei_runtime.cli.infer import main; main()"
    )
    command = [sys.executable, "-c", code, image, "--out", out, "--model", model, "--max-memory", ceiling, *options]
    peak = 0
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak = max(peak, sum(p.memory_info().rss for p in (process, *process.children(recursive=True))))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)
        assert child.wait() == 0
    return peak


@pytest.fixture
def large_tiles(tiled_model: Path, tmp_path: Path) -> Path:
    """`tiled_model` with tiles as large as the real model's: many small tiles would take too long in Python."""
    import onnx

    from nuclei_runtime.model.card import METADATA_KEY

    model, card = onnx.load(tiled_model), Segmenter(tiled_model).card
    card = replace(card, input=replace(card.input, tiling=Tiling(512, 8, 2)))
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, tmp_path / "large_tiles.onnx")
    return tmp_path / "large_tiles.onnx"


def test_a_tiled_image_stays_below_the_ceiling(tmp_path: Path, large_tiles: Path) -> None:
    """An image of 6000 x 6000 pixels, whose maps alone are 432 MB, is never in memory as a whole."""
    image, ceiling = repeated_field(6000), 550 << 20
    tifffile.imwrite(tmp_path / "image.tif", image, tile=(256, 256))
    peak = peak_of_infer(tmp_path / "image.tif", tmp_path / "out", large_tiles, "550MiB")
    assert peak < ceiling
    assert peak > 100 << 20  # otherwise nothing was measured
    labels = tifffile.imread(tmp_path / "out/labels/image.tif")
    assert labels.shape == image.shape
    a_corner = Segmenter(large_tiles).segment(image[:1000, :1000]).count
    assert labels.max() == pytest.approx(36 * a_corner, rel=0.02)


def test_a_slide_stays_below_the_ceiling(tmp_path: Path, large_tiles: Path) -> None:
    """Of 6144 x 8192 pixels in colour, whose maps alone are 600 MB, with tissue in two places; the rest is glass."""
    field = repeated_field(500)
    glass, island = (
        np.full((500, 500, 3), 240, np.uint8),
        np.dstack([240 - field // 2, 240 - field // 2, 240 - field // 8]),
    )
    tiles = (island if n in (17, 18, 33, 34, 150, 151) else glass for n in range(12 * 16))
    tifffile.imwrite(
        tmp_path / "slide.tif",
        (np.pad(tile, ((0, 12), (0, 12), (0, 0)), mode="edge") for tile in tiles),
        shape=(12 * 512, 16 * 512, 3),
        dtype=np.uint8,
        tile=(512, 512),
        compression="zlib",
        photometric="rgb",
    )
    peak = peak_of_infer(tmp_path / "slide.tif", tmp_path / "out", large_tiles, "600MiB", "--stain", "he")
    assert 100 << 20 < peak < 600 << 20
    with (tmp_path / "out/images.csv").open(encoding="utf-8", newline="") as table:
        (row,) = csv.DictReader(table)
    assert float(row["glass_share"]) > 0.5
    assert int(row["n_nuclei"]) > 20
    with tifffile.TiffFile(tmp_path / "out/labels/slide.tif") as labels:
        assert [level.shape for level in labels.series[0].levels] == [(6144, 8192), (1536, 2048)]


def test_a_network_like_the_real_one_stays_below_the_ceiling(tmp_path: Path, stem_unet: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", repeated_field(1250), tile=(256, 256))
    peak = peak_of_infer(tmp_path / "image.tif", tmp_path / "out", stem_unet, "700MiB")
    assert peak < 700 << 20


def test_an_image_that_does_not_fit_fails_alone_with_the_reason(
    tmp_path: Path, tiny_model: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/huge.tif", np.zeros((5000, 5000), np.uint8), compression="zlib")
    tifffile.imwrite(tmp_path / "in/small.tif", repeated_field(250))
    done = run_script(
        "nuclei-infer", tmp_path / "in", "--out", tmp_path / "out", "--model", tiny_model, "--max-memory", "400MiB"
    )
    assert done.returncode == 1
    assert "5000 x 5000 pixels of uint8 need about" in done.stderr
    assert "400 MiB may be used" in done.stderr
    assert (tmp_path / "out/labels/small.tif").is_file()
    assert not (tmp_path / "out/labels/huge.tif").exists()


def test_a_ceiling_that_is_not_an_amount_is_a_usage_error(
    tmp_path: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_script("nuclei-infer", tmp_path, "--out", tmp_path / "out", "--max-memory", "plenty")
    assert done.returncode == 2
    assert "--max-memory plenty: expected a number above 0 with a unit (B, kB" in done.stderr


def stated_need(message: str) -> int:
    """Return what a refusal says is enough, in MiB."""
    found = re.search(r"need about (\d+) MiB", message)
    assert found is not None, message
    return int(found[1])


def test_as_much_as_is_asked_for_is_enough_for_one_image_after_the_other(
    tmp_path: Path, stem_unet: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The memory that the network and the C library keep after an image was once counted twice for the next one."""
    (tmp_path / "in").mkdir()
    for name, side in (("a", 500), ("b", 500), ("c", 250), ("d", 500)):
        tifffile.imwrite(tmp_path / f"in/{name}.tif", repeated_field(side))
    options = ("--model", stem_unet, "--threads", "1", "--max-memory", "100MiB")
    refused = run_script("nuclei-infer", tmp_path / "in", "--out", tmp_path / "none", *options)
    enough = stated_need(refused.stderr)
    peak = peak_of_infer(tmp_path / "in", tmp_path / "out", stem_unet, f"{enough}MiB", "--threads", "1")
    assert peak < enough << 20


def test_as_much_as_is_asked_for_is_enough_for_a_process_that_holds_more_at_its_start(
    tmp_path: Path, stem_unet: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The next run was once refused because it began with 1 MiB more than the one that named the amount."""
    tifffile.imwrite(tmp_path / "image.tif", repeated_field(250))
    image, options = tmp_path / "image.tif", ("--threads", "1")
    refused = run_script(
        "nuclei-infer", image, "--out", tmp_path / "none", "--model", stem_unet, "--max-memory", "100MiB", *options
    )
    enough = stated_need(refused.stderr)
    more = 10 << 20
    peak = peak_of_infer(image, tmp_path / "out", stem_unet, f"{enough}MiB", *options, more_at_start_bytes=more)
    assert peak < enough << 20


@pytest.mark.parametrize("more_mib", [-5, 0, 1, 4, 15])
def test_what_is_named_leaves_room_for_what_differs_between_starts(
    more_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, tiling = plane_of(np.zeros((300, 300), np.uint8)), Tiling(512, 8, 2)

    def start(held_mib: int) -> None:
        monkeypatch.setattr(memory, "_least_resident", sys.maxsize)
        monkeypatch.setattr(memory, "resident_bytes", lambda: held_mib << 20)

    start(100)
    enough = need_of(plane)
    start(100 + more_mib)
    Budget(plane, enough << 20).tiling(tiling, 1536)
    start(100 + 30)
    with pytest.raises(ImageTooLargeError):
        Budget(plane, enough << 20).tiling(tiling, 1536)


@pytest.mark.parametrize("side", [1024, 1025, 1300, 1800, 2048, 3000, 4096, 5555, 8192])
def test_the_network_sees_few_pixels_much_more_often_than_once(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident_bytes", lambda: 90 << 20)
    plane = replace(plane_of(np.broadcast_to(np.uint8(0), (side, side))), reads_blocks=True)
    of_card, ceiling = Tiling(512, 112, 16), 3 << 30

    def computed(tiling: Tiling) -> float:
        return computed_px(plane.shape, tiling) / side**2

    chosen = Budget(plane, ceiling).tiling(of_card, 1536)
    assert computed(chosen) <= MAX_COMPUTED
    tile_bytes = tile_side(side, chosen) ** 2 * memory.NETWORK_BYTES_PER_PX
    assert tile_bytes < 1600 << 20
    # With less memory, it is as few as possible; where others are segmented too, the card's tiles are always allowed.
    shared = [Budget(plane, ceiling, share=share << 20).tiling(of_card, 1536) for share in (1200, 800, 500, 100)]
    assert [computed(one) for one in shared] == sorted(computed(one) for one in shared)
    assert computed(shared[-1]) == computed(of_card)


FRAMES = """
import sys
import numpy as np
from nuclei_runtime import Segmenter
from nuclei_runtime.segmentation.blocks import segment_plane
from nuclei_runtime.errors import ImageTooLargeError
from nuclei_runtime.readers.plane import plane_of

segmenter, frame = Segmenter(sys.argv[1], threads=1), np.eye(500, dtype=np.uint16)

def need(ceiling):
    try:
        for _ in segment_plane(plane_of(frame), segmenter.network, max_memory=ceiling):
            pass
    except ImageTooLargeError as error:
        return int(str(error).split("need about ")[1].split()[0])

enough = need(1)
print([need(enough << 20) for _ in range(3)])
held = np.ones(50 << 20, np.uint8)
print(need(enough << 20) - enough, held[0])
"""


def test_frames_of_an_instrument_fit_until_it_takes_memory_itself(stem_unet: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FRAMES, stem_unet], capture_output=True, text=True, check=True)
    frames, later = done.stdout.splitlines()
    assert frames == "[None, None, None]"
    assert 40 < int(later.split()[0]) < 60


def test_what_a_plane_leaves_is_released(stem_unet: Path) -> None:
    Segmenter(stem_unet, threads=1).segment(np.zeros((10, 10), np.uint8))
    segmenter = Segmenter(stem_unet, threads=1)
    segmenter.segment(np.zeros((700, 700), np.uint8))
    before = resident_bytes()
    release_memory()
    assert before - resident_bytes() > 50 << 20
    assert segmenter.segment(np.zeros((90, 80), np.uint8)).labels.shape == (90, 80)


def test_a_session_that_cannot_release_still_works(tiny_model: Path) -> None:
    """One whose ONNX Runtime has no arena, and one that was made before a fork, so its threads do not exist here."""
    asked: list[Any] = []

    class Inference:
        def run(self, *given: Any) -> None:
            asked.append(given)
            raise RuntimeError("Did not find an arena based allocator")

    loaded = replace(load_session(tiny_model), _inference=Inference())
    loaded.release()
    assert len(asked) == 1
    replace(loaded, _process=-1).release()
    assert len(asked) == 1


def test_models_that_are_deleted_are_forgotten(tiny_model: Path) -> None:
    gc.collect()
    before = len(session._loaded)
    kept = load_session(tiny_model)
    assert len(session._loaded) == before + 1
    del kept
    gc.collect()
    assert len(session._loaded) == before


def need_of(plane: Plane) -> int:
    with pytest.raises(ImageTooLargeError) as caught:
        Budget(plane, 1 << 20).tiling(Tiling(512, 8, 2), 1536)
    return stated_need(str(caught.value))


def test_the_first_plane_is_measured_like_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_least_resident", sys.maxsize)
    needs = []
    for held in (100, 103, 101, 160):
        monkeypatch.setattr(memory, "resident_bytes", lambda held=held: held << 20)
        needs.append(need_of(plane_of(np.zeros((300, 300), np.uint8))))
    assert needs[0] == needs[1] == needs[2]
    assert needs[3] - needs[0] >= 160 - 108


def test_an_image_in_memory_is_not_counted_as_a_file_that_is_read_whole(tiled_model: Path) -> None:
    plane = plane_of(np.broadcast_to(np.uint16(0), (9000, 9000)))
    with pytest.raises(ImageTooLargeError, match="may be used: allow more") as caught:
        next(segment_plane(plane, Segmenter(tiled_model, threads=1).network, max_memory=1 << 20))
    assert "tiled TIFF" not in str(caught.value)
    assert need_of(plane) < need_of(replace(plane, reads_blocks=False)) - 300


def test_all_channels_that_lie_together_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident_bytes", lambda: 100 << 20)
    plane = plane_of(np.zeros((1024, 1024), np.uint8))
    assert need_of(replace(plane, channels_together=41)) - need_of(plane) == 40
    whole = replace(plane, reads_blocks=False)
    assert need_of(replace(whole, channels_together=41)) - need_of(whole) == 3 * 40


@pytest.mark.parametrize("stored", [{}, {"compression": "zlib", "rowsperstrip": 1000}], ids=["plain", "one strip"])
def test_a_file_of_many_channels_stays_below_the_ceiling(
    tmp_path: Path,
    large_tiles: Path,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    stored: dict[str, Any],
) -> None:
    """Only one of 60 channels is read, but all 115 MiB were once kept for it."""
    channels = np.repeat(repeated_field(1000).astype(np.uint16)[..., np.newaxis], 60, axis=2)
    layout = {"photometric": "minisblack", "planarconfig": "contig", "metadata": {"axes": "YXC"}}
    tifffile.imwrite(tmp_path / "image.tif", channels, **layout, **stored)
    options = ("--channel", "5", "--threads", "1")
    refused = run_script(
        "nuclei-infer",
        tmp_path / "image.tif",
        *("--out", tmp_path / "none", "--model", large_tiles, "--max-memory", "100MiB", *options),
    )
    enough = stated_need(refused.stderr)
    peak = peak_of_infer(tmp_path / "image.tif", tmp_path / "out", large_tiles, f"{enough}MiB", *options)
    assert peak < enough << 20


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize(("channels", "stain"), [(1, "rgb"), (3, "rgb"), (3, "he")])
def test_what_fitting_the_contrast_takes_is_counted(
    dtype: type, channels: int, stain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With debris, which makes the values be looked at a second time."""
    monkeypatch.setattr(plane_input, "REGION_PX", 512)
    image = repeated_field(1000, n_nuclei=60).astype(dtype)
    image[200:230, 300:330] = 255 if np.dtype(dtype).itemsize == 1 else 30_000
    plane = plane_of(image if channels == 1 else np.dstack([image, image // 2, image[::-1]]))
    plane = shown_plane(plane, stain, None)
    tracemalloc.start()
    try:
        PlaneInput(plane, Segmenter(threads=1).card.preprocessing)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        PlaneInput(plane, Segmenter(threads=1).card.preprocessing)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    counted = contrast_bytes(plane)
    assert counted / 4 < peak < counted


def test_the_contrast_of_a_huge_plane_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks of 32 pixels alone take half a gigabyte."""
    monkeypatch.setattr(memory, "resident_bytes", lambda: 100 << 20)
    slide = plane_of(np.broadcast_to(np.uint8(0), (100_000, 100_000, 3)))
    assert 500 << 20 < contrast_bytes(slide) < 600 << 20
    assert need_of(slide) > 600
    assert need_of(plane_of(np.broadcast_to(np.uint8(0), (8192, 8192, 3)))) < 550
