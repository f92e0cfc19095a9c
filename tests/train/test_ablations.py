"""The ablation benchmark: which trainings it runs, and how it shows them."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nuclei_train.recipes.native import Native

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ablations.py"


@pytest.fixture(scope="module")
def ablations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablations", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    found = []
    for key, value in one.items():
        if isinstance(value, dict):
            found += [f"{key}.{inner}" for inner in differences(value, other[key])]
        elif value != other[key]:
            found.append(key)
    return found


def test_each_variant_differs_in_what_its_name_says(ablations: ModuleType) -> None:
    reference = ablations.shortened(Native(), 300)
    variants = ablations.variants(reference) | ablations.without(reference, ["purple"])
    assert {name: differences(asdict(reference), asdict(recipe)) for name, recipe in variants.items()} == {
        "reference": [],
        "another seed": ["seed"],
        "no scaling": ["augmentation.scale"],
        "no rotation": ["augmentation.rotate"],
        "no light": ["augmentation.light"],
        "no stain": ["augmentation.stain"],
        "no border": ["loss.border"],
        "no offsets": ["loss.offsets"],
        "no Dice": ["loss.dice"],
        "not balanced": ["balanced"],
        "16 filters": ["filters"],
        "32 filters": ["filters"],
        "residual U-Net": ["architecture"],
        "plain U-Net, 16 filters": ["architecture", "filters"],
        "without purple": ["leave_out"],
        "without purple, no stain": ["augmentation.stain", "leave_out"],
    }
    folders = [ablations.run_folder_of(Path("out"), name) for name in variants]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize(("steps", "expected"), [(4, (1, 4)), (300, (3, 100)), (5000, (50, 100))])
def test_all_have_one_short_schedule(ablations: ModuleType, steps: int, expected: tuple[int, int]) -> None:
    short = ablations.shortened(Native(), steps)
    assert (short.epochs, short.steps_per_epoch) == expected
    assert short.patience == short.epochs
    assert short.seed == Native().seed


def test_a_table_shows_what_a_variant_costs_and_gives(ablations: ModuleType) -> None:
    def run(ap: float) -> dict[str, Any]:
        scores = {"val": {"mean AP": ap, "AP@0.5": 0.8}}
        recipe = {"epochs": 3, "steps_per_epoch": 100}
        return {"scores": scores, "recipe": recipe, "parameters": 1234567, "kflop_per_pixel": 40.1}

    *_, first, second = ablations.table_of_variants({"reference": run(0.5), "no Dice": run(0.4)})
    assert first == "| reference | 1,234,567 | 40.1 | 300 | 0.5000 | 0.8000 | +0.0000 |"
    assert second.endswith("| 0.4000 | 0.8000 | -0.1000 |")
    *_, alone = ablations.table_of_variants({"no Dice": run(0.4)})
    assert alone.endswith("| ? |")
