"""The README.md of a package: what it computes, what it leaves out, and what a consumer has to do for the rest."""

from __future__ import annotations

from nuclei_export.bioimageio.contrast import LOWER_PERCENT, UPPER_PERCENT
from nuclei_runtime.json_fields import canonical_json
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.steps.tiling import Tiling

MEASURED = """\
What that costs was measured with nuclei-unet-native 1.4.0, on the 68 validation images of the 2018 Data Science Bowl, \
on which these percentiles were also chosen. All rows end with the same watershed:

| | mean AP | AP@0.5, mean over images |
|---|---|---|
| nuclei-edge | 0.622 | 0.806 |
| its contrast replaced by these percentiles | 0.620 | 0.807 |
| this package in bioimageio.core, which also mirrors the edges | 0.610 | 0.803 |

Most of these images are full of nuclei. In other fields, percentiles of the whole image do worse, or better. The same \
synthetic nuclei, as number found and median area in pixels:

| field | true | nuclei-edge | this package |
|---|---|---|---|
| 81 nuclei in 1024 x 1024 | 81, 251 px | 81, 262 px | 81, 261 px |
| 6 in 1024 x 1024 | 6, 242 px | 6, 252 px | 6, 286 px |
| one in 1024 x 1024 | 1, 243 px | 1, 253 px | 1, 374 px |
| 4 in 1024 x 1024, background without noise | 4, 238 px | 4, 262 px | 4, 400 px |
| 25 in 1024 x 1024, smoothed by 1.5 pixels | 25, 243 px | 27, 535 px | 25, 290 px |
| 81 in 512 x 512, saturated debris on 0.43% | 81, 251 px | 81, 260 px | 81, 345 px |
| 81 in 512 x 512, hot pixels in 0.23% | 81, 251 px | 81, 260 px | 131, 254 px |
| 81 in 512 x 512, saved in blue | 81, 251 px | 81, 261 px | 81, 339 px |

So do not measure sparse or dirty fields with the package's contrast."""
"""What the nearest contrast costs, from benchmarks/scale_range.py."""

_MEANINGS = {
    "foreground": "the probability that the pixel belongs to a nucleus",
    "distance": "the distance to the edge of the pixel's own nucleus, divided by its largest value in that nucleus",
    "border": "the probability that the nucleus touches another one there",
}


def describe(card: ModelCard, tiling: Tiling, sha256: str, is_bundled: bool) -> str:
    """Return the documentation of a package in Markdown.

    Parameters
    ----------
    card : ModelCard
    tiling : Tiling
        That of the card.
    sha256 : str
        Of the model file.
    is_bundled : bool
        Whether the model is the one in nuclei-edge.
    """
    sections = (
        _overview(card, sha256),
        _input(card, tiling),
        "## Output\n\nMaps with values from 0 to 1:\n",
        *(f"- `{name}`: {_MEANINGS[name]}" for name in card.output.maps),
        _contrast(card),
        _views(card),
        _nuclei(card),
        _validation(card),
        "## Limitations\n",
        *(f"- {sentence}" for sentence in card.limitations),
        "\n## Training\n",
        *([_TRAINING_DATA] if is_bundled else []),
        *(f"- {key.replace('_', ' ')}: {value}" for key, value in card.provenance.items()),
    )
    return "\n".join(sections) + "\n"


_TRAINING_DATA = """\
The model was trained on BBBC038v1, the images of the 2018 Data Science Bowl (Caicedo et al., Nature Methods 2019), \
and on CellBinDB, which are both in the public domain (CC0), and on BitDepth_NucSeg (Apache-2.0).
"""


def _overview(card: ModelCard, sha256: str) -> str:
    return f"""\
# {card.name} {card.version}

{card.description}

This package contains the network, from an image to its maps. The complete method of nuclei-edge has three more \
parts, which bioimage.io has no words for: its own contrast, a choice of the scale and the stain at which the network \
looks at an image, and the watershed that finds the nuclei. What to do about each is below.

`weights.onnx` is the file that `nuclei-infer --model` takes; nothing was converted. Its SHA-256 is `{sha256}`. Its \
model card is in the ONNX metadata, as JSON, under `nuclei.model_card`.
"""


def _input(card: ModelCard, tiling: Tiling) -> str:
    halo, multiple = tiling.halo_px, tiling.multiple_of_px
    n = (tiling.tile_px - 2 * halo - multiple) // multiple
    return f"""\
## Input

- Red, green and blue, with any range of values. Repeat a grey image three times. If only one channel of a colour \
image holds a picture, such as DAPI saved in blue, repeat that channel three times.
- The image's own scale. The median training nucleus is {card.training_nucleus_diameter_px:g} pixels wide; resize \
images whose nuclei are much smaller or larger.
- Heights and widths that are multiples of {multiple}. Mirror an image at its lower and right edges up to the next one.

In Python, with bioimageio.core:

```python
import numpy as np
from bioimageio.core import Tensor, predict


def maps_of(pixels, **options):  # (height, width, 3)
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % {multiple}), (0, -width % {multiple}), (0, 0)), "symmetric")
    tensor = Tensor.from_numpy(padded[None], dims=("batch", "y", "x", "channel"))
    maps = predict(model="rdf.yaml", inputs={{"image": tensor}}, **options).members["maps"]
    return maps.to_numpy()[0, :height, :width]


maps = maps_of(pixels)
```

Add `blocksize_parameter={n}` for an image that is too large for the memory: tiles of {tiling.tile_px} pixels, which \
overlap by the halo of {halo} pixels on each side. From cuts at multiples of {multiple}, no pixel of a map sees \
farther, so tiles do not change the maps, if all have the same contrast. bioimageio.core does both. An image must \
be at least as large as a tile. Smaller tiles give the same maps and take longer.

bioimageio.core mirrors an image at its edges by the halo, and nuclei-edge does not: the maps differ near them. \
Without blocks, it takes the percentiles after that, with blocks before; so both differ a little in contrast.
"""


def _contrast(card: ModelCard) -> str:
    (step,) = card.preprocessing
    return f"""
## Contrast

The model's card asks for `{step.id}` with `{canonical_json(dict(step.kwargs))}`. It takes its percentiles only from \
the parts of an image in which there is something; the steps of bioimage.io take them from the whole image. The \
package has the nearest ones: `scale_range` between the percentiles {LOWER_PERCENT:g} and {UPPER_PERCENT:g} of all \
channels together, and `clip` to 0..1.

{MEASURED}

For the card's own contrast, compute it with nuclei-edge, and skip the preprocessing of the package:

```python
from nuclei_runtime.model.session import load_session
from nuclei_runtime.steps.preprocess import preprocess

card = load_session("weights.onnx").card
pixels = preprocess(image, card.preprocessing)  # (height, width) or (height, width, 3)
maps = maps_of(pixels, skip_preprocessing=True)
```

For other languages, the documentation of nuclei-edge has the formulas of the step, under "Model file and other \
languages".
"""


def _views(card: ModelCard) -> str:
    if card.views is None:
        return ""
    return """\
## Choice of views

nuclei-edge shows the network an image enlarged, reduced, or as one of two stains, where that promises more. The \
package shows it every image as it is.
"""


def _nuclei(card: ModelCard) -> str:
    return f"""\
## From maps to nuclei

nuclei-edge ends with `{card.postprocessing.id}`, with `{canonical_json(dict(card.postprocessing.kwargs))}`. \
bioimage.io has no watershed, and a custom step may not change the number of channels. In Python:

```python
from nuclei_runtime import Segmenter

labels = Segmenter("weights.onnx").find_instances(maps).labels
```

In other programs, take `foreground` above the threshold as the mask, and the peaks of `distance` as the markers of a \
watershed. The documentation of nuclei-edge has the details, under "Model file and other languages".
"""


def _validation(card: ModelCard) -> str:
    scores = ""
    if card.evaluation:
        rows = "\n".join(f"| {score.dataset} | {score.metric} | {score.value:.3f} |" for score in card.evaluation)
        scores = f"""
Scores of the complete nuclei-edge with this model, not of the package alone:

| data | metric | value |
|---|---|---|
{rows}
"""
    return f"""\
## Validation

`bioimageio test rdf.yaml` computes the maps of `test_input.npy`, and compares them with `test_output.npy`. They may \
differ by {card.tolerance:g} in any value, which is the tolerance of the model between machines. The test image is \
synthetic: it shows that the package computes what it should, and nothing about accuracy.

To learn how accurate it is on your images, annotate some that it has not seen, find nuclei as above, match them with \
yours at an intersection over union of 0.5, and count what is matched, missed and false. `nuclei-evaluate` does this \
for the complete nuclei-edge. Always look at the outlines.
{scores}"""
