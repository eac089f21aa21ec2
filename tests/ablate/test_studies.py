"""The study files of the repository: read whole, and within their own plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpcdr.ablate.config import AblateConfig
from cpcdr.ablate.variants import NO_PASTE, variants_of, without_pastes
from cpcdr.runtime.config import overlay, read_yaml

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_a_study_is_a_configuration_of_its_plan(path: Path) -> None:
    config = overlay(AblateConfig(), read_yaml(path), path.name)
    names = [each.name for each in variants_of(config.variants)]
    pasted = [each for each in names if NO_PASTE not in each and each != "untrained"]
    assert without_pastes(pasted[0], names) in names, "the first has a counterpart without pastes"
    assert min(config.seeds) >= 20, "smaller seeds have been used before"
    plan = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    assert f"`studies/{path.name}`" in plan and f"{config.steps:_}".replace("_", " ") in plan
