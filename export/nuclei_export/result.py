"""What an export produced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nuclei_export.lint import Finding
from nuclei_export.parity import Comparison
from nuclei_export.precision import Precision
from nuclei_export.quantise import Quantisation
from nuclei_runtime.model.card import ModelCard


@dataclass(frozen=True)
class ExportResult:
    """What an export produced.

    Attributes
    ----------
    card : ModelCard
    compared : Precision
        Of the graph that was compared with Keras: that of the file, except that of int8 the fp32 graph is compared.
    comparisons : list of Comparison
    tolerance : float
        For these comparisons; the tolerance of the exported file is in its card.
    findings : list of Finding
    quantisation : Quantisation or None
        How the graph became int8; None for other precisions.
    report : Path
    caveats : sequence of str
        What the training says against its model; see `nuclei_export.run_folder`.
    """

    card: ModelCard
    compared: Precision
    comparisons: Sequence[Comparison]
    tolerance: float
    findings: Sequence[Finding]
    quantisation: Quantisation | None
    report: Path
    caveats: Sequence[str] = ()

    @property
    def difference(self) -> float:
        """Largest absolute difference in probability between ONNX Runtime and Keras."""
        return max(comparison.difference for comparison in self.comparisons)
