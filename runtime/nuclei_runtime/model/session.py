"""An ONNX file -> a checked ONNX Runtime session and its model card."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import (
    CardError,
    ImageError,
    ImageTooLargeError,
    MissingExtraError,
    ModelFormatError,
    ProviderError,
)
from nuclei_runtime.model import int8_sums
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.model.card import METADATA_KEY, ModelCard, parse_card
from nuclei_runtime.model.model_file import read_model_file
from nuclei_runtime.resources import cpu_count

CPU_PROVIDER = "CPUExecutionProvider"

_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    # By default cuDNN tries all its ways to convolve for each new size of tile, which takes longer than the images.
    "CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC"},
}
"""By execution provider; others have none. Untested: no GPU was at hand."""

_ANY = "any"
_Value = tuple[str, str, list[int | str]]
"""An input or output of a graph: name, type and shape."""

_BAD_MODEL = {"InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NotImplemented"}
"""ONNX Runtime's exceptions that speak of the file and not of the provider."""


@dataclass(frozen=True)
class Session:
    """A loaded model.

    Attributes
    ----------
    card : ModelCard
    provider : str
        The execution provider that runs it, in ONNX Runtime's spelling.
    threads : int
        Threads that one call uses.
    sha256 : str
        Of the model file, in hexadecimal.
    """

    card: ModelCard
    provider: str
    threads: int
    sha256: str
    _inference: Any
    _process: int = field(default_factory=os.getpid)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network; may be called from several threads at once.

        Parameters
        ----------
        batch : (N, H, W, C) ndarray of float32
            As `nuclei_runtime.steps.preprocess.preprocess` makes them.

        Returns
        -------
        (N, H, W, M) ndarray of float32
            The maps that the card's output names.

        Raises
        ------
        ImageTooLargeError
            There is not memory enough.
        ImageError
            ONNX Runtime fails otherwise.
        """
        try:
            (output,) = self._inference.run([self.card.output.name], {self.card.input.name: batch})
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            size = " x ".join(map(str, batch.shape[1:3]))
            if "alloc" in str(error).lower():
                raise ImageTooLargeError(
                    f"there is not enough memory for the network on {size} pixels ({error}); give the process more, "
                    "or give it smaller images"
                ) from error
            raise ImageError(f"the network failed on {size} pixels: {error}; try another provider") from error
        return np.asarray(output, dtype=np.float32)

    def release(self) -> None:
        """Give back what ONNX Runtime keeps of a run for the next one, which then is about a fifth slower."""
        if self._process != os.getpid():  # the threads of ONNX Runtime do not follow a fork: it would wait for them
            return
        options = import_onnxruntime().RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        spec = self.card.input
        side = 0 if spec.tiling is None else spec.tiling.multiple_of_px
        smallest = np.zeros((1, spec.height or side, spec.width or side, spec.channels), np.float32)
        with suppress(Exception):  # a build that keeps nothing refuses the option
            self._inference.run([self.card.output.name], {spec.name: smallest}, options)


_loaded: list[ref[Session]] = []


def release_sessions() -> None:
    """Have every model that this process has loaded give back what it keeps: a ceiling is for the whole process."""
    for loaded in [*_loaded]:
        session = loaded()
        if session is not None:
            session.release()


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off.

    From version 1.29 on its official builds for Linux, macOS and Windows send events to its maker over HTTPS, and keep
    a device identifier in the user's folder, unless ORT_DISABLE_TELEMETRY is set before the library is first loaded
    (``Privacy.md`` in its wheel). The variable stays set in this process and its children.

    Raises
    ------
    MissingExtraError
        With the pip line that installs it.
    """
    if find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", "cpu")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    # Where the program had imported ONNX Runtime before, this still stops what is said of models and runs; so it does
    # in older builds for Windows, which do not know the variable.
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def available_providers() -> tuple[str, ...]:
    """Return the execution providers that this ONNX Runtime was built with, the most capable first.

    Built with is not loadable: `nuclei-doctor` tries each.
    """
    return tuple(import_onnxruntime().get_available_providers())


def load_session(
    model: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
    provider: str = CPU_PROVIDER,
    threads: int | None = None,
) -> Session:
    """Load a model and check that it is what its card says and runs where it was asked to.

    Parameters
    ----------
    model : path, optional
        An ONNX file with a model card; without it `BUNDLED_MODEL`.
    sha256 : str, optional
        The SHA-256 that the file must have, in hexadecimal.
    provider : str
        Execution provider, in ONNX Runtime's spelling.
    threads : int, optional
        Threads for one call; without it what `nuclei_runtime.resources.cpu_count` grants.

    Raises
    ------
    ModelNotFoundError, ModelDigestError, ModelFormatError
        See `nuclei_runtime.model.model_file.read_model_file`; or the file is not ONNX, or its graph differs from its
        card.
    CardError
        The file has no card, or one with problems.
    ProviderError
        The provider is not in this ONNX Runtime, or did not load. There is no silent fall to the CPU.
    MissingExtraError
        ONNX Runtime is not installed.
    """
    path = Path(model) if model is not None else BUNDLED_MODEL
    file = read_model_file(path, sha256)
    ort = import_onnxruntime()
    if provider not in ort.get_available_providers():
        raise ProviderError(
            f"{provider} is not in this ONNX Runtime ({ort.__version__}), which has "
            f"{', '.join(ort.get_available_providers())}; name one of these or install the build that has it"
        )
    n_threads = threads if threads is not None else cpu_count()
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # plans for one size of image after the other, and holds memory for all
    options.log_severity_level = 4  # errors come as exceptions; here they would be printed as well
    # Not ONNX Runtime's own format, which it would else take the bytes for by four of them, and which was not checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Spinning threads keep cores busy after a run that other programs at the microscope need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if b"QuantizeLinear" in file.content and not int8_sums.are_exact(ort):
        options.add_session_config_entry("session.x64quantprecision", "1")
    if provider != CPU_PROVIDER:
        # A provider that takes no node of the graph still counts as obtained, and the CPU runs them all.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # By default ONNX Runtime replaces a provider that fails to load by the CPU, and only prints so.
        inference = ort.InferenceSession(
            file.content, options, providers=[(provider, _PROVIDER_OPTIONS.get(provider, {}))], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        if provider == CPU_PROVIDER or type(error).__name__ in _BAD_MODEL:
            raise ModelFormatError(f"{path}: not an ONNX model that this ONNX Runtime can load: {error}") from error
        raise ProviderError(f"{provider} did not load: {error}") from error
    obtained = inference.get_providers()[0]
    if obtained != provider:
        raise ProviderError(
            f"{provider} was asked for and {obtained} was obtained; check its drivers with nuclei-doctor"
        )
    try:
        text = inference.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        found = {"inputs": _describe(inference.get_inputs()), "outputs": _describe(inference.get_outputs())}
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{path}: the file is damaged: {error}") from error
    if text is None:
        raise CardError(str(path), (f"$: there is no {METADATA_KEY!r} in the file; export it with nuclei-export",))
    card = parse_card(text, str(path))
    _check_graph(found, card, path)
    session = Session(card, provider, n_threads, file.sha256, inference)
    _loaded.append(ref(session, _loaded.remove))
    return session


def _check_graph(found: dict[str, list[_Value]], card: ModelCard, path: Path) -> None:
    """Hold the graph's inputs and outputs against the card."""
    spec = card.input
    size = [spec.height or _ANY, spec.width or _ANY]
    expected = {
        "inputs": [(spec.name, "tensor(float)", [_ANY, *size, spec.channels])],
        "outputs": [(card.output.name, "tensor(float)", [_ANY, *size, len(card.output.maps)])],
    }
    for side, described in expected.items():
        if found[side] != described:
            raise ModelFormatError(f"{path}: the graph's {side} are {found[side]}, its card says {described}")


def _describe(values: Any) -> list[_Value]:
    """Describe inputs or outputs; a size that is not fixed has a name or nothing in ONNX."""
    return [(v.name, v.type, [size if isinstance(size, int) else _ANY for size in v.shape]) for v in values]
