"""Self-supervised pre-training of street segmentation networks on unlabelled driving video.

The stages in the order of the data; an earlier one never imports a later one:

``runtime``     errors, configuration, command line, Ray session, checkpoints, tracking
``frames``      sources of frames: video, images, Cityscapes, KITTI, CamVid, the synthetic street
``geometry``    back-projection, view synthesis, affine maps: pure functions
``visualize``   pictures and plots
``model``       backbone, feature pyramid, projector, prototypes, fine-tuned head
``depth``       self-supervised depth and every other source of disparity
``regions``     superpixels, their 3D graph, map-equation clustering: coherent depth regions
``dataset``     prepared samples: the Parquet contract
``prepare``     Ray Data: frames -> depth -> regions -> Parquet
``copy_paste``  the compositor that pastes regions into other frames
``loss``        Sinkhorn, correspondences, swapped prediction
``train``       one worker loop for every training, under Ray Train or in this process
``evaluate``    unsupervised protocols, baselines, probes; depth and regions measured
``segment``     a trained network on images and video
``trials``      what searches and studies share
``tune``        search over thresholds and prototypes
``ablate``      studies over variants and seeds
``commands``    one file per command of ``cpcdr NAME``
``api``         the commands as Python functions: ``from cpcdr import api``
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpcdr.segment.load import LoadedNetwork

__version__ = "0.1.0"


def load(model: str | Path, clusters: int = 0) -> LoadedNetwork:
    """A trained network, ready to use; see `cpcdr.segment.load.load_network_for_use`.

    Args:
        model: a checkpoint folder, ``runs:/RUN_ID`` or ``models:/NAME@ALIAS``.
        clusters: how many clusters a network has that has seen no label; 0: the usual number.

    >>> import cpcdr, numpy as np
    >>> network = cpcdr.load("runs/finetune/checkpoint")
    >>> network
    LoadedNetwork(resnet10, 7 classes, trained at 128x64, cpu)
    >>> image = np.zeros((96, 192, 3), np.uint8)  # or a path, or a PIL image
    >>> network.segment(image).shape, network.overlay(image).shape
    ((96, 192), (96, 192, 3))
    """
    from cpcdr.evaluate.clusters import CLUSTERS_WITHOUT_LABELS
    from cpcdr.segment.load import load_network_for_use

    return load_network_for_use(model, clusters or CLUSTERS_WITHOUT_LABELS)
