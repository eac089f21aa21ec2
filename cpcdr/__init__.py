"""Unlabelled driving video in, a segmentation network that knows streets out.

The modules in the order of the data:

``frames``      sources of frames: video, images, Cityscapes, KITTI, CamVid, the synthetic street
``geometry``    back-projection, view synthesis, affine maps: pure functions
``depth``       self-supervised depth and every other source of disparity
``regions``     superpixels, their 3D graph, map-equation clustering: coherent depth regions
``prepare``     Ray Data: frames -> depth -> regions -> Parquet
``dataset``     reading prepared samples
``copy_paste``  the compositor that pastes regions into other frames
``model``       backbone, feature pyramid, projector, prototypes
``loss``        Sinkhorn, correspondences, swapped prediction
``train``       one worker loop for depth and pre-training, under Ray Train or in this process
``evaluate``    unsupervised protocols, baselines, confusion
``tune``        search over thresholds and prototypes

Beside the flow: ``errors``, ``config``, ``cli``, ``session`` (Ray), ``tracking`` (MLflow) and
``visualize`` (figures).
"""

__version__ = "0.1.0"
