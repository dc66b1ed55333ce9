"""Unsupervised image hashing with knowledge distillation, on Lightning and Hydra.

The imports below define the public names for type checkers and editors. At run time each name is imported on first
use, so that ``import brcd_lightning`` loads neither torch nor any other slow dependency.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brcd_lightning.backbones import (
        Backbone as Backbone,
        small_backbone as small_backbone,
        timm_backbone as timm_backbone,
        torchvision_backbone as torchvision_backbone,
    )
    from brcd_lightning.codes import (
        hamming_distance as hamming_distance,
        pack as pack,
        sign as sign,
        sign_ste as sign_ste,
        straight_through as straight_through,
        unpack as unpack,
    )
    from brcd_lightning.codes.clusters import (
        bit_expectations as bit_expectations,
        bit_masks as bit_masks,
        kmeans_codes as kmeans_codes,
        nearest_centroid as nearest_centroid,
    )
    from brcd_lightning.deployment.encoding.encoder import (
        HashEncoder as HashEncoder,
    )
    from brcd_lightning.distillation.base import (
        ClosedFormMethod as ClosedFormMethod,
        KDInput as KDInput,
        KDMethod as KDMethod,
        KDOutput as KDOutput,
    )
    from brcd_lightning.distillation.brcd import (
        BRCD as BRCD,
        brcd_loss as brcd_loss,
    )
    from brcd_lightning.distillation.brcd_release import (
        ReleasedBRCD as ReleasedBRCD,
        released_brcd_loss as released_brcd_loss,
    )
    from brcd_lightning.distillation.cosine import (
        Cosine as Cosine,
        cosine_loss as cosine_loss,
    )
    from brcd_lightning.distillation.crcd import (
        CRCD as CRCD,
    )
    from brcd_lightning.distillation.crd import (
        CRD as CRD,
        nce_loss as nce_loss,
    )
    from brcd_lightning.distillation.kl import (
        KL as KL,
        kl_loss as kl_loss,
    )
    from brcd_lightning.distillation.lsq import (
        LSQ as LSQ,
    )
    from brcd_lightning.distillation.none import (
        NoDistillation as NoDistillation,
    )
    from brcd_lightning.distillation.packd import (
        PACKD as PACKD,
        packd_loss as packd_loss,
        transport_plan as transport_plan,
    )
    from brcd_lightning.distillation.pkt import (
        PKT as PKT,
        pkt_loss as pkt_loss,
    )
    from brcd_lightning.distillation.rkd import (
        RKD as RKD,
        rkd_angle_loss as rkd_angle_loss,
        rkd_distance_loss as rkd_distance_loss,
    )
    from brcd_lightning.distillation.sp import (
        SP as SP,
        sp_loss as sp_loss,
        sp_per_sample_loss as sp_per_sample_loss,
    )
    from brcd_lightning.distillation.sskd import (
        SSKD as SSKD,
        matching_loss as matching_loss,
        sskd_loss as sskd_loss,
    )
    from brcd_lightning.errors import (
        InputError as InputError,
    )
    from brcd_lightning.hashing.base import (
        HashingModel as HashingModel,
        HashNetwork as HashNetwork,
        HashOutput as HashOutput,
    )
    from brcd_lightning.hashing.bihalf import (
        BiHalf as BiHalf,
        bihalf_codes as bihalf_codes,
    )
    from brcd_lightning.hashing.cibhash import (
        CIBHash as CIBHash,
        nt_xent as nt_xent,
        symmetric_bernoulli_kl as symmetric_bernoulli_kl,
    )
    from brcd_lightning.hashing.closed_form import (
        ClosedFormModel as ClosedFormModel,
    )
    from brcd_lightning.hashing.greedyhash import (
        GreedyHash as GreedyHash,
        similarity_loss as similarity_loss,
    )
    from brcd_lightning.hashing.itq import (
        ITQ as ITQ,
    )
    from brcd_lightning.hashing.lsh import (
        LSH as LSH,
    )
    from brcd_lightning.hashing.mecoq import (
        MeCoQ as MeCoQ,
        debiased_contrast as debiased_contrast,
    )
    from brcd_lightning.hashing.pca_rr import (
        PCARR as PCARR,
    )
    from brcd_lightning.hashing.pcah import (
        PCAH as PCAH,
    )
    from brcd_lightning.hashing.sh import (
        SH as SH,
    )
    from brcd_lightning.hashing.tbh import (
        TBH as TBH,
        critic_loss as critic_loss,
        reconstruction_loss as reconstruction_loss,
    )
    from brcd_lightning.metrics import (
        AlignmentMetric as AlignmentMetric,
        CodeTable as CodeTable,
        DistanceHistograms as DistanceHistograms,
        RadiusCurve as RadiusCurve,
        RankedLists as RankedLists,
        RetrievalMetric as RetrievalMetric,
        ValueTable as ValueTable,
        average_precision as average_precision,
        average_precisions as average_precisions,
        average_precisions_by_ties as average_precisions_by_ties,
        bit_bias as bit_bias,
        bit_correlation as bit_correlation,
        bootstrap_interval as bootstrap_interval,
        bootstrap_intervals as bootstrap_intervals,
        distance_histograms as distance_histograms,
        expected_precision_at_k as expected_precision_at_k,
        expected_recall_at_k as expected_recall_at_k,
        individual_sample_distance as individual_sample_distance,
        individual_sample_distances as individual_sample_distances,
        kept_bits as kept_bits,
        list_average_precision as list_average_precision,
        mean_average_precision as mean_average_precision,
        neighbor_relevance_accuracies as neighbor_relevance_accuracies,
        neighbor_relevance_accuracy as neighbor_relevance_accuracy,
        offset_positive_rate as offset_positive_rate,
        offset_positives as offset_positives,
        precision_at_k as precision_at_k,
        precision_curve as precision_curve,
        precision_recall_by_radius as precision_recall_by_radius,
        precision_within_radius as precision_within_radius,
        ranked_lists as ranked_lists,
        recall_at_k as recall_at_k,
        relevance_of as relevance_of,
        zero_hit_rate as zero_hit_rate,
    )
    from brcd_lightning.search import (
        HammingIndex as HammingIndex,
        RadiusResult as RadiusResult,
        RescoredResult as RescoredResult,
        SearchResult as SearchResult,
        nearest_by_values as nearest_by_values,
        nearest_codes as nearest_codes,
    )


__version__ = "0.1.0"


def _read_exports() -> dict[str, str]:
    """Maps each public name to its module, read from the type-checking imports to avoid a second list."""
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    (names,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in names.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names if node.module}


_EXPORTS = _read_exports()
__all__ = sorted(_EXPORTS)  # noqa: PLE0605 (a list of strings, which ruff does not see)


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value  # later uses bypass this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
