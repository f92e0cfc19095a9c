"""Model files that are too large, have the wrong digest, refer to other files, or are damaged."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nuclei_runtime.errors import CardError, ModelDigestError, ModelFormatError, ModelNotFoundError
from nuclei_runtime.model import model_file, onnx_contents
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.model.model_file import MAX_MODEL_BYTES, read_model_file
from nuclei_runtime.model.onnx_contents import check_contents
from nuclei_runtime.model.session import load_session
from nuclei_runtime.segmentation.segmenter import Segmenter

HUNT = os.environ.get("NUCLEI_FUZZ_EXAMPLES")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved(model: Any, path: Path) -> Path:
    """Write a model without the checks of the onnx package."""
    path.write_bytes(model.SerializeToString())
    return path


def test_the_digest_of_a_model_is_told(tiny_model: Path) -> None:
    assert load_session(tiny_model).sha256 == digest(tiny_model)
    assert Segmenter(tiny_model).model_sha256 == digest(tiny_model)
    assert Segmenter().model_sha256 == digest(BUNDLED_MODEL)


@pytest.mark.parametrize("spelt", [str.lower, str.upper])
def test_the_model_that_was_asked_for_is_loaded(tiny_model: Path, spelt: Callable[[str], str]) -> None:
    assert Segmenter(tiny_model, sha256=spelt(digest(tiny_model))).card.name == "tiny"


def test_another_model_than_the_one_asked_for_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """One bit of a weight differs: nothing else would notice it."""
    content = bytearray(tiny_model.read_bytes())
    steepness = content.index(np.float32(30).tobytes())
    content[steepness] ^= 1
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    load_session(path)
    with pytest.raises(ModelDigestError) as caught:
        Segmenter(path, sha256=digest(tiny_model))
    for part in (
        str(path),
        f"its SHA-256 is {digest(path)}",
        f"expected {digest(tiny_model)}",
        "download the model again",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "0" * 63, "0" * 64 + "\n", "sha256:" + "0" * 64])
def test_an_invalid_digest_is_refused_before_the_file_is_read(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(ModelDigestError, match="64 hexadecimal digits"):
        load_session(tmp_path / "absent.onnx", sha256=sha256)


def test_the_bytes_that_were_checked_are_the_ones_that_are_loaded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tiny_model: Callable[..., Path]
) -> None:
    """The file is replaced between its check and its loading."""
    path = tmp_path / "exchanged.onnx"
    path.write_bytes(tiny_model.read_bytes())
    other = make_tiny_model(tmp_path / "other.onnx", size=64)
    check = check_contents

    def exchange(content: bytes, source: str) -> None:
        check(content, source)
        other.replace(path)

    monkeypatch.setattr(model_file, "check_contents", exchange)
    session = load_session(path, sha256=digest(tiny_model))
    assert not other.exists()
    assert session.sha256 == digest(tiny_model) != digest(path)
    assert session.run(np.zeros((1, 128, 128, 3), np.float32)).shape == (1, 128, 128, 1)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_MODEL_BYTES + 1)  # a sparse file, if the file system supports it
    with pytest.raises(ModelFormatError, match=f"{MAX_MODEL_BYTES + 1} bytes, expected at most {MAX_MODEL_BYTES}"):
        read_model_file(path)


def test_a_file_that_may_not_be_read_is_named(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.onnx"
    path.write_bytes(tiny_model.read_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("NOT RUN: this user may read every file")
    with pytest.raises(ModelNotFoundError, match=r"secret\.onnx: cannot be read: "):
        read_model_file(path)


@pytest.mark.skipif(sys.platform == "win32", reason="NOT RUN: the limit is that of POSIX systems")
@pytest.mark.parametrize("read", ["read_model_file(BUNDLED_MODEL)", "read_sample(sample_path(BUNDLED_MODEL))"])
def test_the_machine_is_at_fault_for_too_many_open_files(read: str) -> None:
    code = (
        "import resource\n"
        "from nuclei_runtime import NucleiError\n"
        "from nuclei_runtime.checks.sample import read_sample, sample_path\n"
        "from nuclei_runtime.model.bundled import BUNDLED_MODEL\n"
        "from nuclei_runtime.model.model_file import read_model_file\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        f"try: {read}\n"
        "except NucleiError as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("RuntimeEnvironmentError "), done.stderr
    assert "cannot be read: Too many open files; raise the limit on open files" in done.stdout


def test_a_pipe_is_not_a_model(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("NOT RUN: this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelNotFoundError, match="no such model file"):
        read_model_file(tmp_path / "pipe.onnx")


def test_a_link_to_a_model_is_the_model(tiny_model: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.onnx"
    try:
        link.symlink_to(tiny_model)
    except OSError as error:
        pytest.skip(f"NOT RUN: this user may not make links: {error}")
    assert load_session(link).sha256 == digest(tiny_model)


def weight_outside(graph: Any, location: str) -> None:
    """Take the values of a weight from another file."""
    tensor = next(tensor for tensor in graph.initializer if tensor.name == "steepness")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "4"}.items():
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize("where", ["next to it", "above", "absolute"])
def test_weights_in_another_file_are_refused_wherever_it_lies(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    locations = {"next to it": "weights.bin", "above": "../weights.bin", "absolute": str(tmp_path / "weights.bin")}
    (folder / locations[where]).write_bytes(np.float32(30).tobytes())
    model = onnx.load(tiny_model)
    weight_outside(model.graph, locations[where])
    path = saved(model, folder / "outside.onnx")
    with pytest.raises(ModelFormatError, match=r"refused, because it has a tensor whose values are in another file"):
        load_session(path)


def test_onnx_runtime_itself_would_have_read_the_other_file(tiny_model: Path, tmp_path: Path) -> None:
    """Otherwise the refusal above would protect nothing."""
    import onnxruntime

    model = onnx.load(tiny_model)
    weight_outside(model.graph, "weights.bin")
    path = saved(model, tmp_path / "outside.onnx")
    (tmp_path / "weights.bin").write_bytes(np.float32(-30).tobytes())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (maps,) = session.run(None, {"image": np.ones((1, 128, 128, 3), np.float32)})
    assert maps.max() < 0.001


def external_tensor(name: str) -> Any:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def sparse(name: str) -> Any:
    return helper.make_sparse_tensor(external_tensor(name), numpy_helper.from_array(np.zeros(1, np.int64), "i"), [1])


def sparse_indices(name: str) -> Any:
    value = numpy_helper.from_array(np.zeros(1, np.float32), name)
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    indices.external_data.add(key="location", value="weights.bin")
    return helper.make_sparse_tensor(value, indices, [1])


def constant(**attributes: Any) -> Any:
    return helper.make_node("Constant", [], ["c"], **attributes)


def branch(*nodes: Any) -> Any:
    return helper.make_graph(list(nodes), "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])])


def if_node(graph: Any) -> Any:
    return helper.make_node("If", ["condition"], ["chosen"], then_branch=graph, else_branch=branch())


FOREIGN = helper.make_node("Evil", ["image"], ["stolen"], domain="com.evil")
CONTEXT = helper.make_node("EPContext", ["image"], ["maps"], domain="com.microsoft", ep_cache_context="program.bin")
OTHER_FILE = "a tensor whose values are in another file"


def add_node(node: Any) -> Callable[[Any], None]:
    return lambda model: model.graph.node.append(node)


def in_value_location_only(model: Any) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def with_function(model: Any) -> None:
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Twice", ["x"], ["y"], [], opset))


HOSTILE: dict[str, tuple[Callable[[Any], None], str]] = {
    "attribute": (add_node(constant(value=external_tensor("t"))), OTHER_FILE),
    "attributes": (add_node(helper.make_node("Odd", [], [], values=[external_tensor("t")])), OTHER_FILE),
    "sparse attribute": (add_node(constant(sparse_value=sparse("t"))), OTHER_FILE),
    "sparse weight": (lambda model: model.graph.sparse_initializer.append(sparse("t")), OTHER_FILE),
    "sparse indices": (lambda model: model.graph.sparse_initializer.append(sparse_indices("t")), OTHER_FILE),
    "location only": (in_value_location_only, OTHER_FILE),
    "subgraph": (add_node(if_node(branch(constant(value=external_tensor("t"))))), OTHER_FILE),
    "operator": (add_node(FOREIGN), "the operator 'Evil' of 'com.evil', which is not in the ONNX standard"),
    "operator in a subgraph": (add_node(if_node(branch(FOREIGN))), "the operator 'Evil' of 'com.evil'"),
    "operator two levels down": (add_node(if_node(branch(if_node(branch(FOREIGN))))), "the operator 'Evil'"),
    "operators in graphs": (add_node(helper.make_node("Odd", [], [], graphs=[branch(FOREIGN)])), "'com.evil'"),
    "compiled program": (add_node(CONTEXT), "the operator 'EPContext' of 'com.microsoft'"),
    "other standard": (add_node(helper.make_node("Scaler", [], [], domain="ai.onnx.ml")), "'ai.onnx.ml'"),
    "function": (with_function, "operators of its own"),
    "training": (lambda model: model.training_info.add(), "instructions for training"),
    "settings": (
        lambda model: model.metadata_props.add(key="ort_config", value="{}"),
        "settings of its own for ONNX Runtime",
    ),
    "metadata twice": (lambda model: model.metadata_props.add(key="nuclei.model_card", value="{}"), "the metadata"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_references_to_other_files_are_refused_wherever_they_hide(tiny_model: Path, tmp_path: Path, how: str) -> None:
    change, problem = HOSTILE[how]
    model = onnx.load(tiny_model)
    change(model)
    path = saved(model, tmp_path / "hostile.onnx")
    with pytest.raises(ModelFormatError) as caught:
        load_session(path)
    assert f"{path}: refused, because it has " in str(caught.value)
    assert problem in str(caught.value)
    assert "export it again with nuclei-export" in str(caught.value)


def test_graphs_within_graphs_have_an_end(tiny_model: Path, tmp_path: Path) -> None:
    nested = branch(FOREIGN)
    for _ in range(20):
        nested = branch(if_node(nested))
    model = onnx.load(tiny_model)
    model.graph.node.append(if_node(nested))
    with pytest.raises(ModelFormatError, match="graphs nested beyond 16 levels"):
        load_session(saved(model, tmp_path / "deep.onnx"))


def test_the_names_in_a_message_are_short_and_printable(tiny_model: Path) -> None:
    model = onnx.load(tiny_model)
    model.graph.node.append(helper.make_node("\x1b[2J" * 1000, [], [], domain="é" * 10_000))
    with pytest.raises(ModelFormatError) as caught:
        check_contents(model.SerializeToString(), "some.onnx")
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 400


def test_standard_operators_pass_with_quantised_ones_and_subgraphs(tiny_model: Path) -> None:
    model = onnx.load(tiny_model)
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], domain="ai.onnx"),
            if_node(branch(constant(value=numpy_helper.from_array(np.ones(1, np.float32))))),
        ]
    )
    check_contents(model.SerializeToString(), "quantised.onnx")


def field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes shorter than 128."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    digits = []
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x3a", "it ends within a number"),
        (b"\x3a\x05\x0a", "it ends within a field"),
        (field(7, b"\x2a\x7f"), "it ends within a field"),
        (b"\xff" * 11, "a number is too long"),
        (b"\x00\x00", "a field has the number 0"),
        (b"\x3b\x3c", "a field has the type 3"),
        (b"\x3e", "a field has the type 6"),
        (b"\x39\x00", "it ends within a field"),
        # Protocol Buffers uses 32 bits of a field's number: this one is a graph in disguise.
        (varint(1 << 32 | 7 << 3 | 2) + b"\x00", "a field has the number 536870919"),
    ],
)
def test_damaged_bytes_are_named_as_such(content: bytes, problem: str) -> None:
    with pytest.raises(ModelFormatError) as caught:
        check_contents(content, "some.onnx")
    assert str(caught.value).startswith("some.onnx: not an ONNX model that this ONNX Runtime can load: ")
    assert problem in str(caught.value)


def test_a_later_field_hides_nothing() -> None:
    """If a field occurs twice, ONNX Runtime uses the last one and merges messages."""
    foreign, standard = field(7, b"com.evil"), field(7, b"")
    operator = field(4, b"Evil")
    graph = field(1, operator + foreign + standard)
    for content in (field(7, graph), field(7, graph) + field(7, b""), field(7, field(1, foreign)) + field(7, b"")):
        with pytest.raises(ModelFormatError, match=r"of 'com\.evil'"):
            check_contents(content, "some.onnx")


def test_a_file_of_too_many_fields_is_refused() -> None:
    content = varint(1 << 3) + b"\x0a"
    with pytest.raises(ModelFormatError, match="more than 200000 fields"):
        check_contents(content * (onnx_contents.MAX_FIELDS + 1), "some.onnx")


def test_the_walk_finds_what_the_onnx_package_finds(tiled_model: Path) -> None:
    """Every operator and tensor of real files is visited: a foreign domain is found at each of them."""
    for source in (tiled_model, BUNDLED_MODEL):
        model = onnx.load(source)
        for node in model.graph.node:
            node.domain = "com.evil"
            with pytest.raises(ModelFormatError, match=f"'{node.op_type}'"):
                check_contents(model.SerializeToString(), "some.onnx")
            node.domain = ""
        for tensor in model.graph.initializer:
            tensor.data_location = TensorProto.EXTERNAL
            with pytest.raises(ModelFormatError, match=OTHER_FILE):
                check_contents(model.SerializeToString(), "some.onnx")
            tensor.data_location = TensorProto.DEFAULT


def reaches_out(model: Any) -> bool:
    """Whether the onnx package sees in a model what must be refused."""
    if model.functions or model.training_info or any(entry.key == "ort_config" for entry in model.metadata_props):
        return True
    messages = [model.graph]
    while messages:
        message = messages.pop()
        if isinstance(message, onnx.NodeProto) and message.domain not in ("", "ai.onnx"):
            return True
        if isinstance(message, onnx.TensorProto) and (message.external_data or message.data_location):
            return True
        for field, value in message.ListFields():
            if field.message_type is not None:
                messages.extend(value if isinstance(value, Iterable) else [value])
    return False


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A hostile model with some of its bytes changed, inserted or removed."""
    model = onnx.load_from_string(write_small().SerializeToString())
    HOSTILE[draw(st.sampled_from(sorted(HOSTILE)))][0](model)
    content = bytearray(model.SerializeToString())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content)


def write_small() -> Any:
    value = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])
    weight = numpy_helper.from_array(np.ones(1, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["image", "w"], ["y"])], "g", [value], [value], [weight])
    model = helper.make_model(graph)
    helper.set_model_props(model, {"nuclei.model_card": "{}"})
    return model


@settings(max_examples=int(HUNT or 300), derandomize=HUNT is None, database=None, deadline=None)
@given(damaged())
def test_what_passes_is_harmless_also_for_another_reader_of_the_format(content: bytes) -> None:
    """The reader that checks a file and the one that runs it must see the same model in the same bytes."""
    try:
        check_contents(content, "some.onnx")
    except ModelFormatError:
        return
    try:
        model = onnx.load_from_string(content)
    except DecodeError:
        return
    assert not reaches_out(model)


def test_onnx_runtimes_own_format_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """The file is read as ONNX even if four of its bytes identify the other format."""
    import onnxruntime

    path = tmp_path / "model.ort"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(tiny_model, options, providers=["CPUExecutionProvider"])
    assert path.read_bytes()[4:8] == b"ORTM"
    with pytest.raises(ModelFormatError, match="not an ONNX model that this ONNX Runtime can load"):
        load_session(path)
    # A field of four bytes at the front identifies the other format. It is not in the standard and is skipped.
    disguised = varint(100 << 3 | 2)[:2] + b"\x06" + b"\x00ORTM\x00" + tiny_model.read_bytes()
    assert disguised[4:8] == b"ORTM"
    path.write_bytes(disguised)
    assert load_session(path).card.name == "tiny"


def test_a_card_is_needed_even_where_the_digest_fits(tmp_path: Path, make_tiny_model: Callable[..., Path]) -> None:
    path = make_tiny_model(tmp_path / "bare.onnx", {})
    with pytest.raises(CardError):
        load_session(path, sha256=digest(path))
