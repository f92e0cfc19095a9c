"""Real ONNX Runtime sessions: what loads, what is refused, and where it runs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from nuclei_runtime.errors import (
    CardError,
    ImageError,
    ModelFormatError,
    ModelNotFoundError,
    NucleiError,
    ProviderError,
)
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.model.card import METADATA_KEY
from nuclei_runtime.model.session import CPU_PROVIDER, available_providers, load_session
from nuclei_runtime.resources import cpu_count

RNG = np.random.default_rng(8)


def test_a_model_is_loaded_with_its_card(tiny_model: Path) -> None:
    session = load_session(tiny_model)
    assert session.card.name == "tiny"
    assert session.provider == CPU_PROVIDER
    assert session.threads == cpu_count()
    assert load_session(str(tiny_model)).card == session.card


def test_what_the_network_cannot_take_is_a_sentence(tiny_model: Path) -> None:
    with pytest.raises(ImageError, match=r"(?s)the network failed on 128 x 128 pixels: .*; try another provider"):
        load_session(tiny_model).run(np.zeros((1, 128, 128, 4), np.float32))


@pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: the ceiling is Linux's")
def test_too_little_memory_for_the_network_is_a_sentence() -> None:
    """In a process that may not allocate any more memory."""
    code = (
        "import resource, numpy as np, psutil\n"
        "from nuclei_runtime import NucleiError, Segmenter\n"
        "segmenter = Segmenter(threads=1)\n"
        "segmenter.segment(np.zeros((64, 64), np.uint8))\n"
        "most = psutil.Process().memory_info().vms + (48 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "try: segmenter.segment(np.zeros((640, 640), np.uint8))\n"
        "except NucleiError as error: print(type(error).__name__, isinstance(error, MemoryError), error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("ImageTooLargeError True there is not enough memory for the network on "), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: the ceiling is Linux's")
@pytest.mark.parametrize("limit_mib", [1, 10], ids=["to read it", "to load it"])
def test_too_little_memory_for_the_model_is_not_blamed_on_the_model(limit_mib: int, tmp_path: Path) -> None:
    """A model of 24 MiB, in a process that may have no more than it has."""
    path = tmp_path / "large.onnx"
    model = onnx.load(BUNDLED_MODEL)
    model.graph.initializer.append(onnx.numpy_helper.from_array(RNG.random(6 << 20, np.float32), "weights"))
    onnx.save(model, path)
    code = (
        "import resource, sys, psutil\n"
        "from nuclei_runtime import NucleiError, Segmenter\n"
        "segmenter = Segmenter(threads=1)\n"
        "most = psutil.Process().memory_info().vms + (int(sys.argv[2]) << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "try: Segmenter(sys.argv[1], threads=1)\n"
        "except NucleiError as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, str(path), str(limit_mib)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = f"RuntimeEnvironmentError {path}: there is not enough memory to load the model ("
    assert done.stdout.startswith(expected), done.stdout + done.stderr


def test_the_network_is_run(tiny_model: Path) -> None:
    batch = RNG.random((3, 128, 128, 3), dtype=np.float32)
    maps = load_session(tiny_model).run(batch)
    assert maps.shape == (3, 128, 128, 1)
    assert maps.dtype == np.float32
    expected = 1 / (1 + np.exp(-30 * (batch.mean(axis=-1, keepdims=True) - 0.35)))
    np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 16, 40), (1, 130, 12)])
def test_a_network_that_takes_any_size_is_run(tiled_model: Path, shape: tuple[int, int, int]) -> None:
    session = load_session(tiled_model)
    assert session.card.input.tiling is not None
    bright = session.run(np.ones((*shape, 3), np.float32))
    assert bright.shape == (*shape, 3)
    np.testing.assert_array_equal(bright.max(axis=(1, 2)), np.tile([1.0, 1.0, 0.0], (shape[0], 1)))
    assert not session.run(np.zeros((*shape, 3), np.float32)).any()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_thread_count_is_honoured(tiny_model: Path, threads: int) -> None:
    session = load_session(tiny_model, threads=threads)
    options = session._inference.get_session_options()
    assert session.threads == threads
    assert options.intra_op_num_threads == threads
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_session_starts_no_more_threads_than_asked(tiny_model: Path) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("NOT RUN: this system does not list a process's threads in /proc")
    code = (
        "import os, sys; import numpy; from nuclei_runtime.model.session import load_session\n"
        "from nuclei_runtime.model.session import import_onnxruntime; import_onnxruntime()\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "session = load_session(sys.argv[1], threads=int(sys.argv[2]))\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )

    def started(threads: int) -> int:
        command = [sys.executable, "-c", code, str(tiny_model), str(threads)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert started(1) == 0  # the calling thread works
    assert started(3) == 2


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"absent\.onnx: no such model file; give an ONNX file"):
        load_session(tmp_path / "absent.onnx")
    with pytest.raises(FileNotFoundError, match="no such model file"):
        load_session(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not a model\n" * 50, b"\x89PNG\r\n\x1a\n" + b"x" * 99])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match="not an ONNX model that this ONNX Runtime can load"):
        load_session(path)


def test_a_truncated_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    data = tiny_model.read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(1, len(data), 41):
        path.write_bytes(data[:length])
        with pytest.raises((ModelFormatError, CardError)):
            load_session(path)


def test_a_model_without_a_card_is_refused(tmp_path: Path, make_tiny_model: Callable[..., Path]) -> None:
    path = make_tiny_model(tmp_path / "bare.onnx", {})
    with pytest.raises(CardError, match=r"there is no 'nuclei\.model_card' in the file; export it with nuclei-export"):
        load_session(path)


def test_a_model_whose_card_has_problems_is_refused(tmp_path: Path, make_tiny_model: Callable[..., Path]) -> None:
    path = make_tiny_model(tmp_path / "bad.onnx", {METADATA_KEY: '{"schema_version": 1}'})
    with pytest.raises(CardError) as caught:
        load_session(path)
    assert "name: missing, expected a string" in caught.value.problems
    assert str(path) in str(caught.value)


def rewritten(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    model = onnx.load(source)
    change(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target


def rename_input(graph: Any) -> None:
    graph.input[0].name = graph.node[0].input[0] = "picture"


def rename_output(graph: Any) -> None:
    graph.output[0].name = graph.node[-1].output[0] = "nuclei"


def take_doubles(graph: Any) -> None:
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["single"], to=onnx.TensorProto.FLOAT))
    graph.node[1].input[0] = "single"


def take_one_image(graph: Any) -> None:
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def take_any_width(graph: Any) -> None:
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[2].dim_param = "width"


def fix_the_size(graph: Any) -> None:
    for value in (graph.input[0], graph.output[0]):
        for axis in (1, 2):
            value.type.tensor_type.shape.dim[axis].dim_value = 128


def fix_the_width(graph: Any) -> None:
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[2].dim_value = 128


def give_one_map(graph: Any) -> None:
    graph.node[-1].output[0] = "all"
    for name, value in {"from": 0, "to": 1, "axis": 3}.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    graph.node.append(onnx.helper.make_node("Slice", ["all", "from", "to", "axis"], ["maps"]))
    graph.output[0].type.tensor_type.shape.dim[3].dim_value = 1


def give_two_outputs(graph: Any) -> None:
    graph.node.append(onnx.helper.make_node("Identity", ["foreground"], ["copy"]))
    graph.output.append(onnx.helper.make_tensor_value_info("copy", onnx.TensorProto.FLOAT, ["batch", 128, 128, 1]))


@pytest.mark.parametrize(
    ("change", "side", "found"),
    [
        (rename_input, "inputs", "'picture'"),
        (rename_output, "outputs", "'nuclei'"),
        (take_doubles, "inputs", r"tensor\(double\)"),
        (take_one_image, "inputs", r"\[1, 128, 128, 3\]"),
        (take_any_width, "inputs", r"\['any', 128, 'any', 3\]"),
        (give_two_outputs, "outputs", "'copy'"),
    ],
)
def test_a_graph_that_its_card_does_not_describe_is_refused(
    tiny_model: Path, tmp_path: Path, change: Callable[[Any], None], side: str, found: str
) -> None:
    path = rewritten(tiny_model, tmp_path / "other.onnx", change)
    with pytest.raises(ModelFormatError, match=rf"the {side} of the graph are .*{found}.*, but its card says"):
        load_session(path)


@pytest.mark.parametrize(
    ("change", "side", "found"),
    [
        (fix_the_size, "inputs", r"\['any', 128, 128, 3\]"),
        (fix_the_width, "inputs", r"\['any', 'any', 128, 3\]"),
        (give_one_map, "outputs", r"\['any', 'any', 'any', 1\]"),
    ],
)
def test_a_graph_that_does_not_take_any_size_or_lacks_maps_is_refused(
    tiled_model: Path, tmp_path: Path, change: Callable[[Any], None], side: str, found: str
) -> None:
    path = rewritten(tiled_model, tmp_path / "other.onnx", change)
    expected = r"\['any', 'any', 'any', 3\]"
    with pytest.raises(
        ModelFormatError, match=rf"the {side} of the graph are .*{found}.*, but its card says .*{expected}"
    ):
        load_session(path)


def test_a_graph_of_another_size_is_refused(tmp_path: Path, make_tiny_model: Callable[..., Path]) -> None:
    path = make_tiny_model(tmp_path / "small.onnx", size=64)
    with pytest.raises(ModelFormatError, match=r"\['any', 64, 64, 3\].* its card says .*\['any', 128, 128, 3\]"):
        load_session(path)


@pytest.mark.parametrize("provider", ["CUDAExecutionProvider", "cpu", "", "cpuexecutionprovider"])
def test_a_provider_that_is_not_there_is_an_error(tiny_model: Path, provider: str) -> None:
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"{provider} is there")
    with pytest.raises(ProviderError, match=rf"^{provider} is not in this ONNX Runtime .* CPUExecutionProvider"):
        load_session(tiny_model, provider=provider)


@pytest.mark.parametrize("provider", onnxruntime.get_available_providers())
def test_a_provider_runs_the_whole_network_or_is_an_error(tiny_model: Path, provider: str, capfd: Any) -> None:
    """The Azure provider, which every CPU build lists, takes no node: ONNX Runtime would run all on the CPU."""
    try:
        session = load_session(tiny_model, provider=provider)
    except ProviderError as error:
        assert provider != CPU_PROVIDER
        assert str(error).startswith(f"{provider} did not load: ")  # noqa: PT017 - loading is as good
    else:
        assert session.provider == session._inference.get_providers()[0] == provider
        assert provider != "AzureExecutionProvider"
    assert capfd.readouterr() == ("", "")


def test_the_providers_are_those_of_the_build() -> None:
    assert available_providers() == tuple(onnxruntime.get_available_providers())
    assert CPU_PROVIDER in available_providers()


def test_no_provider_is_put_in_the_place_of_another(tiny_model: Path) -> None:
    session = load_session(tiny_model)
    assert session._inference.get_providers() == [CPU_PROVIDER]
    assert session._inference._enable_fallback is False


def test_several_threads_share_a_session(tiny_model: Path) -> None:
    session = load_session(tiny_model, threads=1)
    batches = [RNG.random((2, 128, 128, 3), dtype=np.float32) for _ in range(4)]
    expected = [session.run(batch) for batch in batches]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(10):
            if not np.array_equal(session.run(batches[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_every_error_of_loading_is_one_of_nuclei_edge(tiny_model: Path, tmp_path: Path) -> None:
    """One bit of the file is turned at a time."""
    data = tiny_model.read_bytes()
    path = tmp_path / "damaged.onnx"
    for position in range(0, len(data), 29):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            session = load_session(path, threads=1)
        except NucleiError:
            continue
        assert session.card.input.height == 128
