"""Cellpose-SAM: nuclei by the flows of a SAM encoder (Pachitariu et al., bioRxiv 2025)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from cellpose.models import CellposeModel

from models.backend import BackendInfo
from models.external.config import SLOTS, Entry
from models.external.nuclei import Found, UntypedNuclei
from models.vision.nuclei import confidences
from models.vision.weights import inference_dtype

_NUCLEUS_UM = 7.5
"""Diameter that is brought to Cellpose's working size of 30 px: a nucleus at 0.25 µm/px (40x)."""


def cellpose_sam(entry: Entry) -> UntypedNuclei:
    """The backend, from a checkpoint in Cellpose 4's format (`cpsam`, or fine-tuned from it).

    An instance's confidence is its mean cell probability.

    Raises:
        ValueError: the checkpoint is of an older Cellpose.
    """
    device = entry.torch_device()
    model = CellposeModel(
        pretrained_model=str(entry.checkpoint),
        device=device,
        use_bfloat16=inference_dtype(device) == torch.bfloat16,
    )

    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, said so: else it warns

    def find(rgb: npt.NDArray[np.uint8], mpp: float) -> Found:
        masks, (_, _, logit), _ = model.eval(rgb, channel_axis=2, diameter=_NUCLEUS_UM / mpp)
        labels = np.asarray(masks, np.int32).reshape(rgb.shape[:2])
        logit = np.asarray(logit, np.float32).reshape(labels.shape)
        return labels, confidences(logit, labels).astype(np.float32)

    info = BackendInfo(
        name="cellpose-sam",
        version=f"1+{entry.sha256[:12]}",
        licence=SLOTS["cellpose-sam"].licence,
        weights={entry.checkpoint.name: entry.sha256},
    )
    return UntypedNuclei(info, find, "Cellpose-SAM")
