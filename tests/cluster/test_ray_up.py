"""The cluster file really brings a cluster up, runs a job on it and takes it down again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from one_machine import ROOT, local_file, make_home, run_on_it, why_not

from cpcdr.commands.prepare import prepare
from cpcdr.prepare.config import PrepareConfig
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.tracking.config import TrackingConfig

pytestmark = [pytest.mark.slow, pytest.mark.survival]

_STREET = "synthetic:streets=4,frames=2,height=64,width=128,seed=7"
_TINY = (
    "--pretrain.frames-per-item 2 --pretrain.model.backbone resnet10 --pretrain.model.width 8 "
    "--pretrain.model.head-channels 32 --pretrain.model.prototypes 64 "
    "--pretrain.loss.pixel-points 50 --pretrain.loss.region-points 50"
)
_COMMANDS = """set -eux
ray get-auth-token --generate > /dev/null
ray up --yes --no-config-cache local.yaml
ray exec local.yaml 'cd cpcdr && python -c "import cpcdr; print(cpcdr.__file__)" && {list_it}'
ray job submit --address http://127.0.0.1:8265 -- {job}
if python -c "from urllib.request import urlopen; urlopen('{jobs}')"; then exit 9; fi
pgrep raylet
ray down --yes local.yaml
if pgrep raylet; then exit 9; fi
echo ALL DONE
"""


def test_up_exec_submit_down(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    home, shared = tmp_path / "home", tmp_path / "shared"
    data, out = shared / "data", shared / "search"
    regions, quiet = RegionConfig(superpixels=4000), TrackingConfig("none")
    prepare(PrepareConfig(_STREET, out=data, engine="local", regions=regions, tracking=quiet))
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    file, environment = local_file(cluster, shared)
    make_home(home, [*environment, "OMP_NUM_THREADS=1", "PYTHONPATH=~/cpcdr"])
    (home / "local.yaml").write_text(yaml.safe_dump(file))
    job = f"python {home}/cpcdr/experiments/tune_regions.py --data {data}"
    job += f" --out {out} --evaluate {_STREET} --frames 2 --trials 1 --steps 3 --region-sets 0"
    commands = _COMMANDS.format(
        job=f"{job} {_TINY}",
        list_it='echo "shipped: " $(ls -A)',
        jobs="http://127.0.0.1:8265/api/jobs/",
    )
    found = run_on_it(home, commands, seconds=1100)
    printed = found.stdout
    assert found.returncode == 0 and "ALL DONE" in printed, printed[-6000:]

    assert "/cpcdr/cpcdr/__init__.py" in printed, "the code that was shipped is the code that runs"
    (shipped,) = re.findall(r"(?m)^shipped: +([^$\r\n]+)", printed)
    assert "cluster.yaml" in shipped.split() and ".git" not in shipped.split()
    assert "HTTP Error 401" in printed, "without the token nobody sees or starts a job"
    (result,) = (line for line in printed.splitlines() if "RESULT {" in line)
    assert json.loads(result[result.index("{") :])["trials"] == 1
    assert (shared / "mlflow.db").exists() and (out / "best.yaml").exists()
