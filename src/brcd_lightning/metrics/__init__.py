"""Retrieval metrics on hash codes: pure functions, and the torchmetrics shell that gathers codes."""

from brcd_lightning.metrics.alignment import (
    individual_sample_distance,
    neighbor_relevance_accuracy,
    offset_positive_rate,
)
from brcd_lightning.metrics.bits import bit_balance, bit_correlation
from brcd_lightning.metrics.histograms import (
    DistanceHistograms,
    RadiusCurve,
    distance_histograms,
    expected_precision_at_k,
    expected_recall_at_k,
    precision_recall_by_radius,
    precision_within_radius,
)
from brcd_lightning.metrics.intervals import bootstrap_interval
from brcd_lightning.metrics.ranking import (
    average_precision,
    average_precisions,
    mean_average_precision,
    relevance_of,
)
from brcd_lightning.metrics.tables import CodeTable

__all__ = [
    "CodeTable",
    "DistanceHistograms",
    "RadiusCurve",
    "average_precision",
    "average_precisions",
    "bit_balance",
    "bit_correlation",
    "bootstrap_interval",
    "distance_histograms",
    "expected_precision_at_k",
    "expected_recall_at_k",
    "individual_sample_distance",
    "mean_average_precision",
    "neighbor_relevance_accuracy",
    "offset_positive_rate",
    "precision_recall_by_radius",
    "precision_within_radius",
    "relevance_of",
]
