"""The recipe `native`: a complete but small training within this process, its run folder, and how it resumes."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from nuclei_runtime.model.card import parse_card
from nuclei_runtime.steps.step import MAPS, Step
from nuclei_runtime.steps.tiling import Tiling, run_tiled
from nuclei_train.data.finding import open_data, training_set
from nuclei_train.data.split import Split, split_samples
from nuclei_train.errors import DatasetError
from nuclei_train.fitting.progress import Progress
from nuclei_train.fitting.resume import load_state, save_state
from nuclei_train.networks.losses import LossParts
from nuclei_train.networks.stem_unet import HALO_PX, MULTIPLE_OF_PX
from nuclei_train.recipes import native
from nuclei_train.recipes.dtype_policy import HALF, SINGLE
from nuclei_train.recipes.model_description import smallest_area_px
from nuclei_train.recipes.native import INFERENCE_CHECKPOINT, Native
from nuclei_train.recipes.native_material import LabelledImages, NativeMaterial
from nuclei_train.recipes.recipe import Sources
from nuclei_train.recipes.registry import RECIPES
from nuclei_train.recipes.search import search_parameters
from nuclei_train.run_folder import read_run

pytestmark = pytest.mark.usefixtures("eager")

TINY = replace(Native(), epochs=2, steps_per_epoch=2, batch_size=2, filters=4, crop_px=64, validation_batches=1)


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def split(training_data: Path) -> Split:
    return split_samples(training_set(open_data(training_data)), None, 42, 0.1)


@pytest.fixture(scope="module")
def material(split: Split) -> NativeMaterial:
    modality = {sample.image_id: "purple" for sample in split.train[:9]}
    return TINY.load(Sources(split, modality, ()), nothing)


def test_it_can_be_named() -> None:
    assert list(RECIPES) == ["native", "native-wide", "baseline", "fine-tuning"]
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert is_dataclass(recipe)
        json.dumps(asdict(recipe))


def test_every_choice_of_the_recipe_is_written_down(native_run: Path) -> None:
    recipe = read_run(native_run)["recipe"]
    assert set(recipe) == {field.name for field in fields(Native)}
    assert recipe["name"] == "native"
    assert recipe["augmentation"] == {
        "scale": [0.7, 1.6],
        "rotate": True,
        "light": True,
        "stain": True,
        "appearance_share": 0.6,
    }
    assert recipe["eased_share"] == 0.3
    assert recipe["loss"] == {"dice": True, "border": True, "offsets": True}
    assert (recipe["architecture"], recipe["balanced"], recipe["leave_out"]) == ("stem_unet", True, [])
    assert (recipe["seed"], recipe["filters"], recipe["steps_per_epoch"]) == (42, 8, 3)


def test_the_run_folder_holds_all(native_run: Path) -> None:
    assert sorted(path.name for path in native_run.iterdir()) == [
        "best.keras",
        "curves.png",
        "history.csv",
        "inference.keras",
        "model_for_nuclei.h5",
        "quantisation.npz",
        "resume.npz",
        "run.json",
        "sanity_check.png",
        "splits.csv",
        "tensorboard",
    ]
    run = read_run(native_run)
    assert run["status"] == "complete"
    assert run["export"]["checkpoint"] == INFERENCE_CHECKPOINT
    assert (run["split"]["train"], run["split"]["val"]) == (36, 4)
    with (native_run / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert all(np.isfinite(float(row[name])) for row in history for name in ("loss", "val_loss"))
    losses = [float(row["val_loss"]) for row in history]
    assert run["best_epoch"] == 1 + losses.index(min(losses))


@pytest.mark.parametrize("name", ["sanity_check", "curves"])
def test_its_pictures_show_something(native_run: Path, name: str) -> None:
    with Image.open(native_run / f"{name}.png") as picture:
        assert min(picture.size) > 300
        assert np.asarray(picture.convert("L")).std() > 10


def test_its_description_of_the_model_is_a_card(native_run: Path) -> None:
    texts = dict.fromkeys(("name", "version", "license"), "x")
    document = {**read_run(native_run)["export"]["card"], **texts, "schema_version": 1, "evaluation": []}
    card = parse_card(json.dumps(document), "run.json")
    assert (card.input.height, card.input.width) == (None, None)
    assert card.input.tiling == Tiling(64, HALO_PX, MULTIPLE_OF_PX)
    assert card.output.maps == MAPS
    assert [step.id for step in card.preprocessing] == ["structure_normalisation"]
    assert card.postprocessing.id == "marker_watershed"
    assert 5 < card.training_nucleus_diameter_px < 40


def test_the_inference_checkpoint_is_the_best_one_in_float32(native_run: Path) -> None:
    best = keras.models.load_model(native_run / "best.keras", compile=False)
    inference = keras.models.load_model(native_run / INFERENCE_CHECKPOINT, compile=False)
    assert {layer.compute_dtype for layer in inference.layers} == {"float32"}
    assert inference.input_shape == (None, None, None, 3)
    batch = np.random.default_rng(1).random((2, 96, 96, 3), dtype=np.float32)
    maps = inference.predict_on_batch(batch)
    logits = best.predict_on_batch(batch)[..., : len(MAPS)]
    np.testing.assert_allclose(maps, 1 / (1 + np.exp(-logits)), atol=0.02)  # bfloat16 has 8 bits
    assert maps.std(axis=(0, 1, 2)).min() > 1e-4
    for one, other in zip(best.get_weights()[:-2], inference.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(one, other)


def test_its_parameters_are_the_best_on_the_validation_images(native_run: Path, split: Split) -> None:
    run = read_run(native_run)
    chosen = run["export"]["card"]["postprocessing"]
    assert chosen["kwargs"].items() <= run["search"][0].items()
    assert run["scores"] == {"val": {name: run["search"][0][name] for name in ("mean AP", "AP@0.5")}}

    inference = keras.models.load_model(native_run / INFERENCE_CHECKPOINT, compile=False)
    tiling = Tiling(**run["export"]["card"]["input"]["tiling"])
    material = TINY.load(Sources(split, {}, ()), nothing)
    assert chosen["kwargs"]["min_area_px"] == smallest_area_px(material.areas_px)
    maps = [
        run_tiled(inference.predict_on_batch, np.asarray(image / 255, np.float32), tiling)
        for image in material.val.images
    ]
    postprocessing, search = search_parameters(maps, material.val.labels, smallest_area_px(material.areas_px))
    assert postprocessing == Step(**chosen)
    assert search == run["search"]
    assert len(search) == 72


def test_images_are_kept_as_the_runtime_normalises_them(material: NativeMaterial, split: Split) -> None:
    assert material.train.ids == tuple(sample.image_id for sample in split.train)
    assert material.train.modalities.count("purple") == 9
    for index in (0, 7):
        image, labels = material.train.images[index], material.train.labels[index]
        assert image.shape == (96, 128, 3)
        assert image.dtype == np.uint8
        assert (image.min(), image.max()) == (0, 255)
        np.testing.assert_array_equal(labels, split.train[index].read_labels())
    areas = np.concatenate([np.unique(labels, return_counts=True)[1][1:] for labels in material.train.labels])
    np.testing.assert_array_equal(material.areas_px, areas)


def test_a_modality_is_drawn_in_proportion_to_the_root_of_its_images() -> None:
    image, labels = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int32)
    modalities = ("a",) * 16 + ("b",) * 4 + ("",)
    images = LabelledImages(tuple(map(str, range(21))), modalities, (image,) * 21, (labels,) * 21)
    shares = images.shares
    assert shares.sum() == pytest.approx(1)
    of_each = [shares[np.array(modalities) == name].sum() for name in ("a", "b", "")]
    assert of_each == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_an_image_of_touching_nuclei_is_drawn_more_often_than_others_of_its_modality() -> None:
    image = np.zeros((6, 6, 3), np.uint8)
    apart = np.zeros((6, 6), np.int32)
    apart[0, 0], apart[0, 3], apart[5, 5] = 1, 2, 3
    three_touch = apart.copy()
    three_touch[0, 4], three_touch[1, 5] = 4, 5  # side by side, and at a corner
    images = LabelledImages(("0", "1", "2"), ("a", "a", "b"), (image,) * 3, (apart, three_touch, apart))
    shares = images.shares
    assert shares[1] / shares[0] == pytest.approx(2)  # the root of 1 + 3
    assert shares[:2].sum() / shares[2] == pytest.approx(2**0.5)


def test_images_can_be_drawn_alike(material: NativeMaterial) -> None:
    plain = replace(material, settings=replace(TINY, balanced=False))
    n = len(material.train.ids)
    np.testing.assert_allclose(np.diff(plain.batches(0)._cumulative), 1 / n)
    assert not np.allclose(np.diff(material.batches(0)._cumulative), 1 / n)
    for one, other in zip(plain.validation, material.validation, strict=True):  # what is compared stays the same
        np.testing.assert_array_equal(one, other)


def test_only_images_with_truth_are_read(split: Split) -> None:
    sources = TINY.choose(Sources(split, {}, split.val))
    assert len(sources) == len(split.train) + len(split.val)
    assert sources.split == split


def test_a_modality_can_be_left_out_on_both_sides(split: Split) -> None:
    modality = {sample.image_id: "purple" for sample in (*split.train[:9], split.val[0])}
    recipe = replace(TINY, leave_out=("purple",))
    chosen = recipe.choose(Sources(split, modality, ())).split
    assert (chosen.train, chosen.val) == (split.train[9:], split.val[1:])
    with pytest.raises(DatasetError, match=r"cannot leave out the modality pink: no image has it.*: purple"):
        replace(TINY, leave_out=("pink",)).choose(Sources(split, modality, ()))
    everywhere = {sample.image_id: "purple" for sample in split.val}
    with pytest.raises(DatasetError, match="without purple there are 36 images to fit and 0 to validate"):
        recipe.choose(Sources(split, everywhere, ()))


def test_a_border_map_that_is_not_learned_keeps_no_marker_out(material: NativeMaterial, tmp_path: Path) -> None:
    recipe = replace(TINY, loss=LossParts(border=False))
    trained = recipe.finish(recipe.build(), replace(material, settings=recipe), tmp_path)
    assert {row["marker_border"] for row in trained.search} == {1.0}


@pytest.mark.parametrize("architecture", ["unet", "residual_unet"])
def test_another_architecture_can_be_trained_and_run(
    architecture: str, material: NativeMaterial, tmp_path: Path
) -> None:
    recipe = replace(TINY, architecture=architecture)
    keras.utils.set_random_seed(recipe.seed)
    best = recipe.build()
    trained = recipe.finish(best, material, tmp_path)
    tiling = Tiling(**trained.card["input"]["tiling"])
    assert (tiling.halo_px, tiling.multiple_of_px) == (recipe.network.halo_px, recipe.network.multiple_of_px)
    inference = keras.models.load_model(tmp_path / INFERENCE_CHECKPOINT, compile=False)
    batch = np.random.default_rng(1).random((1, 64, 64, 3), dtype=np.float32)
    maps = np.asarray(inference(batch, training=False))
    logits = np.asarray(best(batch, training=False))[..., : len(MAPS)]
    np.testing.assert_allclose(maps, 1 / (1 + np.exp(-logits)), atol=0.02)  # bfloat16 has 8 bits
    assert maps.std() > 1e-4


def test_validation_is_always_the_same_and_keeps_the_scale(material: NativeMaterial) -> None:
    images, maps = material.validation
    again, _ = material.validation
    np.testing.assert_array_equal(images, again)
    assert images.shape == (2, 64, 64, 3)
    assert maps.shape == (2, 64, 64, 6)
    assert maps[..., 5].mean() > 0.96  # the images are larger than the crops
    pixels = {value for image in material.val.images for value in np.unique(image)}
    assert images.max() <= max(pixels) / 255


def test_an_epoch_begins_where_the_one_before_ended(material: NativeMaterial) -> None:
    assert material.steps_per_epoch == 2
    for one, other in zip(material.batches(0)[5], material.batches(2)[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_from_a_checkpoint_has_other_crops_and_the_same_schedule(material: NativeMaterial) -> None:
    recipe = replace(TINY, epochs=4, eased_share=0.5)
    material = replace(material, settings=recipe)
    plain, skipped = material.batches(1), material.batches(1, skipped_epochs=5)
    strongly = replace(material, settings=replace(recipe, epochs=20, eased_share=0.0))
    for one, other in zip(strongly.batches(6)[0], skipped[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(plain[0][0], skipped[0][0])
    for begun, strong in ((plain, strongly.batches(1)), (skipped, strongly.batches(1, skipped_epochs=5))):
        alike = [np.array_equal(begun[index][0], strong[index][0]) for index in range(6)]
        assert alike[:2] == [True, True]  # epoch 1 of 0 to 3; from epoch 2 on it is eased
        assert not all(alike[2:])


def test_an_image_that_cannot_be_used_is_named(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "stage1_train" / "odd"
    for name, size in (("images", (40, 50)), ("masks", (40, 51))):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.full(size, 200, np.uint8)).save(folder / name / "odd.png")
    (dataset,) = open_data(tmp_path)
    with pytest.raises(DatasetError, match=r"^odd: the image is 40 x 50 pixels and its masks are 40 x 51; fix it or"):
        TINY.load(Sources(replace(split, val=dataset.samples), {}, ()), nothing)


@pytest.mark.parametrize("policy", [HALF, SINGLE])
def test_only_the_network_is_trained_in_half_precision(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "training_policy", lambda: policy)
    model = TINY.build()
    assert model.dtype_policy.name == policy
    assert {layer.compute_dtype for layer in model.layers if "convolution" in layer.name} == {
        policy.removeprefix("mixed_")
    }
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.layers[-1].compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(("epochs", "warmup_steps"), [(100, 200), (1, 10)])
def test_the_learning_rate_rises_and_falls(epochs: int, warmup_steps: int) -> None:
    """However few epochs there are, the schedule runs to its end."""
    recipe = replace(Native(), epochs=epochs)
    assert recipe.patience == epochs
    schedule = recipe.build().optimizer._learning_rate
    steps = epochs * recipe.steps_per_epoch
    rates = [float(schedule(step)) for step in (0, warmup_steps // 2, warmup_steps, steps // 2, steps)]
    assert rates[0] == 0
    assert rates[1] == pytest.approx(recipe.learning_rate / 2)
    assert rates[2] == pytest.approx(recipe.learning_rate)
    assert rates[2] > rates[3] > rates[4]
    assert rates[4] == pytest.approx(0.002 * recipe.learning_rate, rel=0.01)


def test_a_training_resumes_as_if_it_had_not_been_interrupted(material: NativeMaterial, tmp_path: Path) -> None:
    keras.utils.set_random_seed(TINY.seed)
    model = TINY.build()
    model.jit_compile = False  # which would take many seconds longer

    def fit(first_epoch: int, *callbacks: Any) -> list[float]:
        history = model.fit(
            material.batches(first_epoch),
            steps_per_epoch=material.steps_per_epoch,
            epochs=TINY.epochs,
            initial_epoch=first_epoch,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )
        return list(history.history["loss"])

    def save(epoch: int, _logs: Any) -> None:
        save_state(tmp_path / f"{epoch}.npz", model, Progress(epochs_done=epoch + 1))

    losses = fit(0, keras.callbacks.LambdaCallback(on_epoch_end=save))
    weights = model.get_weights()
    # The same model, because compiling a second one takes many seconds; nothing remains in it.
    for variable in (*model.variables, *model.optimizer.variables):
        variable.assign(keras.ops.full_like(variable, 3))
    assert load_state(tmp_path / "0.npz", model).epochs_done == 1
    assert int(model.optimizer.iterations) == material.steps_per_epoch
    assert fit(1) == losses[1:]
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(model.optimizer.iterations) == TINY.epochs * TINY.steps_per_epoch
