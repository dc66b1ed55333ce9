"""Retrieval metrics on hash codes: pure functions, and the torchmetrics shells that gather codes."""

from brcd_lightning.metrics.alignment import (
    individual_sample_distance,
    individual_sample_distances,
    neighbor_relevance_accuracies,
    neighbor_relevance_accuracy,
    offset_positive_rate,
    offset_positives,
)
from brcd_lightning.metrics.bits import bit_bias, bit_correlation, kept_bits
from brcd_lightning.metrics.histograms import (
    DistanceHistograms,
    RadiusCurve,
    distance_histograms,
    expected_precision_at_k,
    expected_recall_at_k,
    precision_recall_by_radius,
    precision_within_radius,
)
from brcd_lightning.metrics.intervals import (
    Difference,
    bootstrap_interval,
    bootstrap_intervals,
    bootstrap_over_seeds,
    holm,
)
from brcd_lightning.metrics.lists import (
    RankedLists,
    list_average_precision,
    precision_at_k,
    precision_curve,
    ranked_lists,
    recall_at_k,
    relevance_of,
    zero_hit_rate,
    zero_hits,
)
from brcd_lightning.metrics.ranking import (
    average_precision,
    average_precisions,
    average_precisions_by_ties,
    mean_average_precision,
    permuted_database,
)
from brcd_lightning.metrics.tables import AlignmentMetric, CodeTable, RetrievalMetric, ValueTable

__all__ = [
    "AlignmentMetric",
    "CodeTable",
    "Difference",
    "DistanceHistograms",
    "RadiusCurve",
    "RankedLists",
    "RetrievalMetric",
    "ValueTable",
    "average_precision",
    "average_precisions",
    "average_precisions_by_ties",
    "bit_bias",
    "bit_correlation",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_over_seeds",
    "distance_histograms",
    "expected_precision_at_k",
    "expected_recall_at_k",
    "holm",
    "individual_sample_distance",
    "individual_sample_distances",
    "kept_bits",
    "list_average_precision",
    "mean_average_precision",
    "neighbor_relevance_accuracies",
    "neighbor_relevance_accuracy",
    "offset_positive_rate",
    "offset_positives",
    "permuted_database",
    "precision_at_k",
    "precision_curve",
    "precision_recall_by_radius",
    "precision_within_radius",
    "ranked_lists",
    "recall_at_k",
    "relevance_of",
    "zero_hit_rate",
    "zero_hits",
]
