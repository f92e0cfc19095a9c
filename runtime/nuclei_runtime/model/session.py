"""Loads an ONNX file as a checked ONNX Runtime session with its model card."""

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
    RuntimeEnvironmentError,
)
from nuclei_runtime.model import int8_sums
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.model.card import METADATA_KEY, ModelCard, parse_card
from nuclei_runtime.model.model_file import read_model_file
from nuclei_runtime.resources import cpu_count

CPU_PROVIDER = "CPUExecutionProvider"

_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    # By default cuDNN tries all its convolution algorithms for each new tile size, which takes longer than the images.
    "CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC"},
}
"""Options by execution provider; other providers need none. Untested, as no GPU was available."""

_ANY = "any"
_Value = tuple[str, str, list[int | str]]
"""The name, type and shape of an input or output of a graph."""

_BAD_MODEL = {"InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NotImplemented"}
"""Exceptions of ONNX Runtime that concern the file rather than the provider."""


@dataclass(frozen=True)
class Session:
    """A loaded model.

    Attributes
    ----------
    card : ModelCard
    provider : str
        The execution provider that runs the model, as ONNX Runtime spells it.
    threads : int
        Number of threads that one call uses.
    sha256 : str
        SHA-256 of the model file, in hexadecimal.
    """

    card: ModelCard
    provider: str
    threads: int
    sha256: str
    _inference: Any
    _process: int = field(default_factory=os.getpid)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network. Several threads may call this at the same time.

        Parameters
        ----------
        batch : (N, H, W, C) ndarray of float32
            Inputs as returned by `nuclei_runtime.steps.preprocess.preprocess`.

        Returns
        -------
        (N, H, W, M) ndarray of float32
            The maps that the output of the card names.

        Raises
        ------
        ImageTooLargeError
            There is not enough memory.
        ImageError
            ONNX Runtime fails for another reason.
        """
        try:
            (output,) = self._inference.run([self.card.output.name], {self.card.input.name: batch})
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            size = " x ".join(map(str, batch.shape[1:3]))
            if "alloc" in str(error).lower():
                raise ImageTooLargeError(
                    f"there is not enough memory for the network on {size} pixels ({error}); allow the process more "
                    "memory, or use smaller images"
                ) from error
            raise ImageError(f"the network failed on {size} pixels: {error}; try another provider") from error
        return np.asarray(output, dtype=np.float32)

    def release(self) -> None:
        """Release the memory that ONNX Runtime keeps for the next run, which is then about a fifth slower."""
        if self._process != os.getpid():  # after a fork, the threads of ONNX Runtime do not exist
            return
        options = import_onnxruntime().RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        spec = self.card.input
        side = 0 if spec.tiling is None else spec.tiling.multiple_of_px
        smallest = np.zeros((1, spec.height or side, spec.width or side, spec.channels), np.float32)
        with suppress(Exception):  # a build without this arena refuses the option
            self._inference.run([self.card.output.name], {spec.name: smallest}, options)


_loaded: list[ref[Session]] = []


def release_sessions() -> None:
    """Release the memory of all models that this process has loaded: a ceiling applies to the whole process."""
    for loaded in [*_loaded]:
        session = loaded()
        if session is not None:
            session.release()


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry disabled.

    From version 1.29, its official builds for Linux, macOS and Windows send events to the vendor over HTTPS and keep a
    device identifier in the user's folder, unless ORT_DISABLE_TELEMETRY is set before the library is first loaded
    (``Privacy.md`` in its wheel). The variable remains set in this process and its children.

    Raises
    ------
    MissingExtraError
        ONNX Runtime is not installed; the message has the pip command.
    """
    if find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", "cpu")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    # If the program imported ONNX Runtime earlier, this still stops the events about models and runs. It also does so
    # in older builds for Windows, which do not know the variable.
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def available_providers() -> tuple[str, ...]:
    """Return the execution providers that this ONNX Runtime was built with, the most capable first.

    Not all of them may load: `nuclei-doctor` tries each.
    """
    return tuple(import_onnxruntime().get_available_providers())


def load_session(
    model: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
    provider: str = CPU_PROVIDER,
    threads: int | None = None,
) -> Session:
    """Load a model, and check that it matches its card and runs on the provider that was asked for.

    Parameters
    ----------
    model : path, optional
        An ONNX file with a model card; by default `BUNDLED_MODEL`.
    sha256 : str, optional
        The SHA-256 that the file must have, in hexadecimal.
    provider : str
        Execution provider, as ONNX Runtime spells it.
    threads : int, optional
        Number of threads for one call; by default that of `nuclei_runtime.resources.cpu_count`.

    Raises
    ------
    ModelNotFoundError, ModelDigestError, ModelFormatError
        See `nuclei_runtime.model.model_file.read_model_file`; or the file is not ONNX, or its graph differs from its
        card.
    CardError
        The file has no card, or one with problems.
    ProviderError
        The provider is not in this ONNX Runtime, or did not load. There is no silent fallback to the CPU.
    MissingExtraError
        ONNX Runtime is not installed.
    RuntimeEnvironmentError
        There is not enough memory for the model, or the machine cannot read the file.
    """
    path = Path(model) if model is not None else BUNDLED_MODEL
    try:
        file = read_model_file(path, sha256)
    except MemoryError as error:
        raise _no_memory_for(path, error) from error
    ort = import_onnxruntime()
    if provider not in ort.get_available_providers():
        raise ProviderError(
            f"{provider} is not in this ONNX Runtime ({ort.__version__}), which has "
            f"{', '.join(ort.get_available_providers())}; choose one of these or install a build that has it"
        )
    n_threads = threads if threads is not None else cpu_count()
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it would plan for each new image size and hold the memory of all plans
    options.log_severity_level = 4  # errors are raised as exceptions and would also be printed
    # Never ONNX Runtime's own format, which it detects by four bytes, and which `check_contents` does not know.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # After a run, spinning threads would keep cores busy that other programs at the microscope need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if b"QuantizeLinear" in file.content and not int8_sums.are_exact(ort):
        options.add_session_config_entry("session.x64quantprecision", "1")
    if provider != CPU_PROVIDER:
        # Otherwise a provider that takes no node of the graph counts as obtained while the CPU runs all nodes.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # By default ONNX Runtime replaces a provider that fails to load with the CPU and only prints a warning.
        inference = ort.InferenceSession(
            file.content, options, providers=[(provider, _PROVIDER_OPTIONS.get(provider, {}))], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            raise _no_memory_for(path, error) from error
        if provider == CPU_PROVIDER or type(error).__name__ in _BAD_MODEL:
            raise ModelFormatError(f"{path}: not an ONNX model that this ONNX Runtime can load: {error}") from error
        raise ProviderError(f"{provider} did not load: {error}") from error
    obtained = inference.get_providers()[0]
    if obtained != provider:
        raise ProviderError(
            f"asked for {provider}, but ONNX Runtime uses {obtained}; check its drivers with nuclei-doctor"
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


def _no_memory_for(path: Path, error: Exception) -> RuntimeEnvironmentError:
    reason = f"{path}: there is not enough memory to load the model"
    return RuntimeEnvironmentError(f"{reason} ({str(error) or type(error).__name__}); allow the process more memory")


def _check_graph(found: dict[str, list[_Value]], card: ModelCard, path: Path) -> None:
    """Compare the inputs and outputs of the graph with the card."""
    spec = card.input
    size = [spec.height or _ANY, spec.width or _ANY]
    expected = {
        "inputs": [(spec.name, "tensor(float)", [_ANY, *size, spec.channels])],
        "outputs": [(card.output.name, "tensor(float)", [_ANY, *size, len(card.output.maps)])],
    }
    for side, described in expected.items():
        if found[side] != described:
            raise ModelFormatError(f"{path}: the {side} of the graph are {found[side]}, but its card says {described}")


def _describe(values: Any) -> list[_Value]:
    """Describe inputs or outputs; in ONNX, a size that is not fixed has a name or is empty."""
    return [(v.name, v.type, [size if isinstance(size, int) else _ANY for size in v.shape]) for v in values]
