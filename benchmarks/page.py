"""Render `benchmarks/README.md` from the results of one run: hardware first, then every figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from benchmarks.figures import (
    busy_ratio,
    median,
    megapixels_per_second,
    peer_speed,
    peer_times,
    reference,
    rows_of,
    share_of_sgemm,
    share_outside_network,
    times,
)
from benchmarks.peers.run import REFERENCE, ratio_table

COMMAND = "python -m benchmarks.run DATA --peers FOLDER"
Results = dict[str, Any]


def render(results: Results, plots: dict[str, str]) -> str:
    """Return the page.

    Parameters
    ----------
    results : dict
        See `benchmarks.run.measure`.
    plots : dict of str to str
        Title and path of each plot, relative to the page.
    """
    sections = [
        ("Benchmarks", [*_hardware(results), "", *_how(results)]),
        ("In short", _bars(results)),
        ("Next to other software", _peers(results)),
        ("The network alone", _network(results)),
        ("Keras and ONNX Runtime", _keras(results)),
        ("Speed and accuracy", _variants(results)),
        ("Where the time goes", _stages(results)),
        ("Libraries for instances", _libraries(results)),
        ("Cold start", _cold(results)),
        ("How it grows", [*_area(results), "", *_nuclei(results)]),
        ("Plots", (f"![{title}]({path})" for title, path in plots.items())),
        ("Not measured", _not_measured(results)),
    ]
    return (
        "\n\n".join(
            "#" * (1 if index == 0 else 2) + f" {title}\n\n" + "\n".join(lines)
            for index, (title, lines) in enumerate(sections)
        )
        + "\n"
    )


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    columns = list(head)
    return [_line(columns), _line(["---"] * len(columns)), *map(_line, body)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _hardware(results: Results) -> list[str]:
    found = results["hardware"]
    versions = {**results["openvino"]["packages"], **found["packages"]}
    return table(
        ("hardware", ""),
        [
            ("processor", found["processor"]),
            ("cores", f"{found['cores']}{', of a virtual machine' * found['hypervisor']}"),
            ("relevant instructions", ", ".join(found["flags"])),
            ("frequency governor", found["governor"]),
            ("memory", f"{found['memory_gib']} GiB"),
            ("GPU", found["gpu"] or "none"),
            ("system", f"{found['system']}, Python {found['python']}"),
            ("packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
            ("bundled model", results["model"]),
        ],
    )


def _how(results: Results) -> Iterator[str]:
    if results["hardware"]["hypervisor"]:
        yield "This is a virtual machine, shared with others: the same call may differ by a third between two tables."
    yield "Absolute figures hold for this machine. Ratios come from this run, in which the candidates took turns."
    yield "MP/s is megapixels per second. All figures are medians. This command makes the page and its plots:"
    yield ""
    yield f"```\n{COMMAND}\n```"
    yield ""
    yield "`benchmarks/run.py` explains DATA and FOLDER. To measure your own machine, run `nuclei-bench`."


def _bars(results: Results) -> list[str]:
    cores, peers = results["hardware"]["cores"], results["peers"]
    others = [name for name in peers if not name.startswith("nuclei-edge")]
    body = []
    for name, other in product((name for name in peers if name not in others), others):
        speeds = f"{peer_speed(peers[name]):.2f} and {peer_speed(peers[other]):.2f} MP/s"
        body.append((f"{name}, compared with {other}", f"{speeds}: **{peer_times(peers, name, other):.2f} times**"))
    for row in rows_of(results["own"], "network_and_sgemm"):
        if row["params"]["precision"] == "fp32":
            body.append(
                (f"network alone, fp32, relative to sgemm's rate, {cores} threads", f"{share_of_sgemm(row):.0%}")
            )
        else:
            body.append((f"network alone, {row['params']['precision']} relative to fp32", f"{times(row, 'fp32'):.2f}"))
    for row in rows_of(results["own"], "stages"):
        precision = row["params"]["precision"]
        body.append((f"all but the network, share of CPU time, {precision}", f"{share_outside_network(row):.0%}"))
    for name, one in peers.items():
        if name.endswith("a folder"):
            busy = busy_ratio(one["seconds"], one["cpu_seconds"], cores)
            body.append((f"{name}: wall time divided by CPU time per core, {cores} cores", f"{busy:.2f}"))
            body.append((f"{name}: peak memory", f"{one['peak_mib']:.0f} MiB"))
    for row in rows_of(results["own"], "one_image_and_its_libraries"):
        libraries = reference(row, "used parts")
        figure = f"{median(row):.2f} s and {libraries:.2f} s"
        body.append(("one 256 x 256 image from a cold start, compared with importing its libraries", figure))
    for row in rows_of(results["own"], "import_and_numpy"):
        start = reference(row, "nothing")
        figure = f"{1e3 * (median(row) - start):.0f} and {1e3 * (reference(row, 'numpy') - start):.0f} ms"
        body.append(("`import nuclei_runtime`, compared with `import numpy`", figure))
    body.append(("a fresh environment with the extra `cpu` (`du -sm lib`)", f"{results['installed_mb']} MB"))
    return table(("what", "figure"), body)


def _peers(results: Results) -> Iterator[str]:
    first = next(iter(results["peers"].values()))
    yield f"The same {first['images']} images ({first['megapixels']:.2f} MP), decoded from memory. Results are computed"
    yield f"but not written. {len(first['seconds'])} passes, taking turns, on all cores. Memory is the process tree's."
    yield ""
    yield ratio_table(results["peers"], results["hardware"]["cores"])
    yield ""
    yield f"StarDist's network has the architecture of `2D_versatile_fluo`. The ratio is relative to {REFERENCE}."
    yield "The same folder with `nuclei-infer`, which also writes label images, overlays and tables:"
    yield ""
    cores = results["hardware"]["cores"]
    yield from table(
        ("precision", "images/s", "MP/s", f"wall time / CPU time per core, {cores} cores"),
        (
            (
                row["params"]["precision"],
                f"{row['images'] / median(row):.1f}",
                f"{megapixels_per_second(row):.2f}",
                f"{busy_ratio(row['seconds'], row['cpu_seconds'], cores):.2f}",
            )
            for row in rows_of(results["own"], "folder_with_writing")
        ),
    )


def _network(results: Results) -> list[str]:
    rows: dict[tuple[str, ...], dict[tuple[int, int], str]] = {}
    for part in (results["own"], results["openvino"]):
        packages = part["packages"]
        runtime = next((f"{name} {packages[name]}" for name in packages if name.startswith("onnxruntime")), "")
        for row in rows_of(part, "network"):
            given = row["params"]
            key = (given["provider"], given["precision"], str(given["threads"]), runtime)
            rows.setdefault(key, {})[given["tile"], given["batch"]] = f"{megapixels_per_second(row):.2f}"
    shapes = sorted({shape for cells in rows.values() for shape in cells})
    return [
        "MP/s, by tile (pixels per side) x batch:",
        "",
        *table(
            ("provider", "precision", "threads", "build", *(f"{tile} x {batch}" for tile, batch in shapes)),
            ((*key, *(cells.get(shape, "not measured") for shape in shapes)) for key, cells in rows.items()),
        ),
    ]


def _keras(results: Results) -> list[str]:
    return table(
        ("batch", "Keras `predict`, MP/s", "ONNX Runtime fp32, MP/s", "speed relative to Keras"),
        (
            (
                str(row["params"]["batch"]),
                f"{megapixels_per_second(row):.2f}",
                f"{row['megapixels'] / reference(row, 'onnxruntime'):.2f}",
                f"{1 / times(row, 'onnxruntime'):.1f}",
            )
            for row in rows_of(results["own"], "keras_and_onnx_runtime")
        ),
    )


SHOWN_SCORES = ("mean AP", "AP@0.5 mean over images")
SHOWN_SETS = ("val", "test", "stardist_test")
SCORES_PAGE = "[scores](../docs/scores.md)"
"""Page of the scores that a card does not contain: those with test-time augmentation."""


def _variants(results: Results) -> list[str]:
    rows = list(rows_of(results["own"], "variants"))
    found = [
        {
            (dataset, score["metric"]): f"{score['value']:.3f}"
            for score in row["scores"]
            if score["metric"] in SHOWN_SCORES and (dataset := score["dataset"].rpartition("/")[2]) in SHOWN_SETS
        }
        for row in rows
    ]
    shown = list(dict.fromkeys(key for scores in found for key in scores))
    return [
        "`Segmenter.segment` on the same images, one after the other, on all cores. The scores come from the model's",
        "card, where `nuclei-evaluate` put them. `val` was used for choices; `test` is independent.",
        "",
        *table(
            ("model", "`tta`", "MB", "MP/s", *(f"`{dataset}` {metric}" for dataset, metric in shown)),
            (
                (
                    row["params"]["precision"],
                    "yes" if row["params"]["tta"] else "no",
                    f"{row['model_mb']:.1f}",
                    f"{megapixels_per_second(row):.2f}",
                    *(scores.get(key, SCORES_PAGE) for key in shown),
                )
                for row, scores in zip(rows, found, strict=True)
            ),
        ),
    ]


def _stages(results: Results) -> list[str]:
    rows = list(rows_of(results["own"], "stages"))
    shares = [{name: times(row, name) for name in row["reference_seconds"]} for row in rows]
    names = [*shares[0], "all else"]
    for one in shares:
        one["all else"] = 1 - sum(one.values())
    return [
        "Shares of CPU time on the same images, with one thread, each clocked while whole images were segmented and",
        "measured. What the network does for views that are not taken counts as network.",
        "",
        *table(
            ("part", *(row["params"]["precision"] for row in rows)),
            (
                ("together", *(f"{median(row):.2f} s" for row in rows)),
                *((name, *(f"{one[name]:.1%}" for one in shares)) for name in names),
            ),
        ),
    ]


def _libraries(results: Results) -> list[str]:
    return [
        "On the bundled model's maps of the same images, with one thread. The library in use comes first in each task,",
        "and the others are compared with it. No method uses `distance`.",
        "",
        *table(
            ("task", "library", "MP/s", "same result on", "size, MB"),
            (
                (
                    row["params"]["task"],
                    row["library"],
                    f"{megapixels_per_second(row):.0f}",
                    f"{row['agrees']} of {row['images']} images",
                    f"{row['installed_mb']:.0f}",
                )
                for row in rows_of(results["libraries"], "libraries")
            ),
        ),
    ]


def _cold(results: Results) -> list[str]:
    body = []
    for row in rows_of(results["own"], "one_image_and_its_libraries"):
        body += [
            ("`nuclei-infer` on one 256 x 256 image, from process start to end", f"{median(row):.2f} s"),
            ("`import numpy, scipy, skimage, onnxruntime`", f"{reference(row, 'libraries'):.2f} s"),
            (
                "the parts of them in use: `numpy, scipy.ndimage, skimage.measure, skimage.segmentation, onnxruntime`",
                f"{reference(row, 'used parts'):.2f} s",
            ),
        ]
    for row in rows_of(results["own"], "import_and_numpy"):
        for what, seconds in (
            ("`import nuclei_runtime`", median(row)),
            ("`import numpy`", reference(row, "numpy")),
            ("Python alone", reference(row, "nothing")),
        ):
            body.append((what, f"{seconds:.3f} s"))
    return ["One process each, with the files in the system's cache:", "", *table(("process", "seconds"), body)]


def _area(results: Results) -> list[str]:
    memory = {row["params"]["side"]: row for row in rows_of(results["own"], "memory")}
    return table(
        ("image", "`Segmenter.segment`, s", "s per MP", "`nuclei-infer`, s", "its peak memory, limit 1 GiB"),
        (
            (
                f"{side}²",
                f"{median(row):.2f}",
                f"{1 / megapixels_per_second(row):.2f}",
                *(
                    (f"{median(memory[side]):.1f}", f"{max(memory[side]['peak_bytes']) / 2**20:.0f} MiB")
                    if side in memory
                    else ("not measured", "not measured")
                ),
            )
            for row in rows_of(results["own"], "area")
            for side in (row["params"]["side"],)
        ),
    )


def _nuclei(results: Results) -> list[str]:
    return table(
        ("nuclei in 1024²", "segmentation and table, s", "table alone, s"),
        (
            (str(row["nuclei"]), f"{median(row):.2f}", f"{reference(row, 'table'):.3f}")
            for row in rows_of(results["own"], "nuclei")
        ),
    )


def _not_measured(results: Results) -> list[str]:
    """Name each provider or benchmark without any measurement once, with the reasons."""
    parts = (results["own"], results["openvino"], results["libraries"])
    measured = {row["params"]["provider"] for part in parts for row in rows_of(part, "network")}
    reasons: dict[str, dict[str, None]] = {}
    for part in parts:
        for name, reason in part["not_measured"].items():
            what = name.partition("[")[2].partition("-")[0] or name.removeprefix("test_")
            if what not in measured:
                reasons.setdefault(what, {})[reason] = None
    return [f"- {what}: {'; '.join(why)}" for what, why in reasons.items()] or ["Everything was measured."]
