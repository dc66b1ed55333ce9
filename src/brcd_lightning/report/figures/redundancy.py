"""Redundant bits within a class and a cluster, and the bit masks: Fig. 3 of the paper."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from brcd_lightning.codes import as_signs
from brcd_lightning.data.names import label_text, shortened
from brcd_lightning.report.catalog import CLUSTERS, figure
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import Run, UnfilledError, require_labels
from brcd_lightning.report.saved_codes import memberships
from brcd_lightning.report.style import bar_look, legend_below, new_figure, panels, styled

_BITS = 8
_LONGEST_NAME = 24


@figure("bit_frequencies", section=CLUSTERS, order=1, caption="Bits inside a class and a cluster (Fig. 3)")
def bit_frequencies(records: Records) -> Figure:
    """Fig. 3: how often eight bits of the teacher are +1, in the largest class and in the largest cluster."""
    run = masked_run(records)
    require_labels(run)
    side = run.codes("teacher", "database")
    classes = memberships(side.labels)
    label = int(classes.sum(dim=0).argmax())
    if not bool((classes[:, label] > 0).any()):
        raise UnfilledError("needs database images with labels")
    kept = run.teacher_codes
    in_class = as_signs(side.packed[classes[:, label] > 0])[:, : kept["codes"].shape[1]]  # no padding
    cluster = int(kept["assignments"].bincount().argmax())
    in_cluster = kept["codes"][kept["assignments"] == cluster]
    bits = torch.randperm(in_class.shape[1], generator=torch.Generator().manual_seed(0))[:_BITS].sort().values
    drawing = new_figure(
        f"Frequency of +1 in {len(bits)} bits of the teacher's codes: {run.row['dataset']}", height=3.4
    )
    left, right = panels(drawing, columns=2, sharey=True)
    _draw_frequencies(left, in_class, bits, torch.ones(in_class.shape[1]))
    name = label_text(torch.tensor(label), run.results["classes"])
    left.set(title=f"{shortened(name, _LONGEST_NAME)} ({len(in_class):,} database images)", ylabel="share of codes")
    _draw_frequencies(right, in_cluster, bits, kept["masks"][cluster])
    right.set_title(f"cluster {cluster} ({len(in_cluster):,} training images)")
    left.set_ylim(0, 1.1)
    legend_below(drawing, right)
    return drawing


@figure("bit_masks", section=CLUSTERS, order=2, caption="Expectations and masks of all clusters, Eqs. (8) and (9)")
def bit_masks(records: Records) -> Figure:
    """The expectation of every bit in every cluster, Eq. (8), and the bits that its mask keeps, Eq. (9)."""
    run = masked_run(records)
    return draw_masks(run.teacher_codes, f"Bit masks of {records.label(run)}: {run.row['dataset']}")


@styled
def draw_masks(kept: Mapping[str, Tensor], title: str) -> Figure:
    """Draws masks over expectations, kept bits and sizes of the clusters.

    Args:
        kept: ``expectations`` and ``masks`` (k, b), ``assignments`` (n,).
        title: above the drawing.
    """
    expectations, masks = kept["expectations"], kept["masks"]
    clusters, bits = masks.shape
    sizes = kept["assignments"].bincount(minlength=clusters)  # the last ones may be empty
    drawing = new_figure(title, width=9.5, height=1.9 + 0.16 * clusters)
    heat, counts, members = panels(drawing, columns=3, width_ratios=(5, 1.2, 1.2), sharey=True)
    image = heat.imshow(expectations.float().numpy(), aspect="auto", cmap="cividis", vmin=0, vmax=1)
    dropped = (masks == 0).nonzero()
    heat.scatter(dropped[:, 1], dropped[:, 0], marker="x", s=12, linewidths=0.8, color="white")
    heat.set(
        title=f"|mean| of each bit (x: dropped, {len(dropped) / masks.numel():.0%})", xlabel="bit", ylabel="cluster"
    )
    heat.grid(visible=False)
    heat.set_yticks(range(0, clusters, max(1, clusters // 10)))
    drawing.colorbar(image, ax=heat, pad=0.01)
    counts.barh(range(clusters), masks.sum(dim=1).tolist(), **bar_look(0))
    counts.set(title=f"kept of {bits} bits", xlabel="bits")
    members.barh(range(clusters), sizes.tolist(), **bar_look(1))
    members.set(title="size", xlabel="images")
    return drawing


def masked_run(records: Records) -> Run:
    """The first run whose bit masks drop at least one bit; runs of the reference come first.

    Raises:
        UnfilledError: if there is none.
    """
    candidates = [cell.first for cell in records.reference().values()] + records.runs
    for run in candidates:
        masks = run.teacher_codes.get("masks")
        if masks is not None and bool((masks == 0).any()) and bool((masks != 0).any()):
            return run
    raise UnfilledError("needs a run of a method with bit masks")


def _draw_frequencies(panel: Axes, codes: Tensor, bits: Tensor, mask: Tensor) -> None:
    share = (codes[:, bits] > 0).double().mean(dim=0)
    keeps = mask[bits] != 0
    for number, (chosen, name) in enumerate(((keeps, "kept"), (~keeps, "dropped by the mask"))):
        places = chosen.nonzero().flatten().tolist()
        if places:
            panel.bar(places, share[chosen].tolist(), 0.7, label=name, **bar_look(number))
    for place, value in enumerate(share.tolist()):
        panel.text(place, value + 0.02, f"{value:.2f}", ha="center", fontsize=7)
    panel.axhline(0.5, color="0.4", linewidth=0.8, linestyle=":")
    panel.set_xticks(range(len(bits)), [str(bit) for bit in bits.tolist()])
    panel.set_xlabel("bit")
