"""Pre-train with lightly-train; run by `against_lightly_train.py` in lightly-train's environment.

``python train_peer.py SETTINGS`` with a JSON object; writes ``backbone.safetensors`` under
torchvision's names into ``out``.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Train on a CPU in one process, so that its CPU time is all there is."""
    import lightly_train
    import torch
    from safetensors.torch import save_file

    settings = json.loads(sys.argv[1])
    out = Path(settings["out"])
    lightly_train.pretrain(
        out=out / "run",
        data=settings["images"],
        model="torchvision/resnet18",
        method=settings["method"],
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        transform_args={"image_size": settings["size"]},
        seed=settings["seed"],
        accelerator="cpu",
        devices=1,
        num_workers=0,
        precision="32-true",
        overwrite=True,
    )
    weights = torch.load(out / "run" / "exported_models" / "exported_last.pt", weights_only=True)
    save_file({k: v.contiguous() for k, v in weights.items()}, out / "backbone.safetensors")


if __name__ == "__main__":
    main()
