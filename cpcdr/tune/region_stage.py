"""The cheap stage before any training: hundreds of region settings on a sample of frames.

Graphs are built once per superpixel setting with their colour and plane terms kept apart, so that
any other setting costs only a grouping. The best settings bound the space of the pre-trainings, and
the top few are tried first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpcdr.dataset import PreparedDataset, decode_sample
from cpcdr.frames import IGNORE, FrameOptions, fit, open_frames
from cpcdr.frames.pick import spread
from cpcdr.regions.config import RegionConfig
from cpcdr.runtime.config import overlay
from cpcdr.runtime.errors import FrameError, InputError
from cpcdr.runtime.progress import Progress, phase
from cpcdr.tune.region_score import FrameGraph, consensus, frame_graph, label_scores, partition
from cpcdr.tune.space import PLACES, Parameters, Space

REFERENCES = 16  # settings whose partitions the others are compared with
MOST_GRAPHS = 4  # different superpixel settings
SETS_PER_TASK = 8
_IN_SUPERPIXELS = ("superpixels", "compactness")
Maps = list[NDArray[np.uint16]]
"""Partitions of the sampled frames, one each."""


@dataclass(frozen=True)
class RegionStage:
    """Result of the stage.

    Attributes:
        sets: parameters and scores of every setting, best first.
        score: the score that orders them: ``pairs`` with labels, ``consensus`` without.
        space: the whole space, with region ranges narrowed to the best settings.
        starts: region parameters worth trying first.
        agreement: rank correlation of ``consensus`` with ``pairs``; None without labels.
    """

    sets: list[dict[str, Any]]
    score: str
    space: Space
    starts: list[Parameters]
    agreement: float | None


@dataclass(frozen=True, eq=False)
class SampledFrame:
    """One frame of a dataset.

    Attributes:
        frame: image, disparity and intrinsics, as `superpixel_graph` takes them.
        labels: uint8 [H, W], None without.
    """

    frame: tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]
    labels: NDArray[np.uint8] | None


def region_stage(
    samples: Sequence[SampledFrame],
    base: RegionConfig,
    space: Space,
    sets: int,
    keep: float,
    seed: int,
) -> RegionStage:
    """Score many settings on sampled frames, in tasks of the current Ray session.

    Args:
        base: values of settings that the space does not name.
        space: of which only region settings are used here.
        keep: fraction of the settings, best first, that bounds the space.
    """
    regions = region_ranges(space)
    drawn = draw_sets(regions, sets, seed)
    scores = score_sets(samples, base, drawn, drawn[:REFERENCES])
    rows = [{**parameters, **scored} for parameters, scored in zip(drawn, scores, strict=True)]
    score = "pairs" if "pairs" in rows[0] else "consensus"
    rows.sort(key=lambda row: -row[score])
    best = rows[: max(3, round(keep * len(rows)))]
    narrowed = {name: one.narrowed(row[name] for row in best) for name, one in regions.items()}
    agreement = None
    if score == "pairs":
        from scipy.stats import spearmanr  # slow to import, and not needed in the tasks

        columns = np.array([[row["consensus"], row["pairs"]] for row in rows])
        agreement = float(spearmanr(columns).statistic)
    starts = [{name: row[name] for name in regions} for row in best[:3]]
    return RegionStage(rows, score, space | narrowed, starts, agreement)


def region_ranges(space: Space) -> Space:
    """The part of a space that regions depend on."""
    return {name: one for name, one in space.items() if PLACES[name].section == "regions"}


def draw_sets(space: Space, count: int, seed: int) -> list[Parameters]:
    """Random settings with few different superpixel settings, which are the expensive part."""
    random = np.random.default_rng(seed)
    graphs = [
        {name: space[name].draw(random) for name in _IN_SUPERPIXELS if name in space}
        for _ in range(MOST_GRAPHS)
    ]
    if "superpixels" in space and space["superpixels"].kind == "choice":
        values = space["superpixels"].values
        graphs = [g | {"superpixels": values[i % len(values)]} for i, g in enumerate(graphs)]
    return [
        {name: one.draw(random) for name, one in space.items()}
        | graphs[int(random.integers(len(graphs)))]
        for _ in range(count)
    ]


def score_sets(
    samples: Sequence[SampledFrame],
    base: RegionConfig,
    sets: Sequence[Parameters],
    references: Sequence[Parameters],
) -> list[dict[str, float]]:
    """The mean scores of every setting over the frames.

    Args:
        base: values of settings that the sets do not name.
        references: settings that ``consensus`` compares with; a setting is not compared with
            itself.

    Returns:
        in the order of ``sets``: ``consensus``, ``regions``, and with labels ``pairs`` and
        ``accuracy``.
    """
    extra = [one for one in references if one not in sets]
    maps = partitions(samples, base, [*sets, *extra])
    by_parameters = dict(zip(map(str, [*sets, *extra]), maps, strict=True))
    scores = []
    for parameters, mine in zip(sets, maps, strict=False):
        others = [by_parameters[str(one)] for one in references if one != parameters]
        rows = [
            _scores(one, sample.labels, [other[i] for other in others])
            for i, (one, sample) in enumerate(zip(mine, samples, strict=True))
        ]
        scores.append({name: float(np.mean([row[name] for row in rows])) for name in rows[0]})
    return scores


def _scores(
    regions: NDArray[np.uint16], labels: NDArray[np.uint8] | None, others: Maps
) -> dict[str, float]:
    scores = {"consensus": consensus(regions, others), "regions": float(len(np.unique(regions)))}
    return scores if labels is None else scores | label_scores(regions, labels)


def partitions(
    samples: Sequence[SampledFrame], base: RegionConfig, sets: Sequence[Parameters]
) -> list[Maps]:
    """Regions of every frame under every setting, at the sampled pixels; computed in Ray tasks."""
    import ray

    configs = [replace(base, **parameters) for parameters in sets]
    build, cut = ray.remote(num_cpus=1)(_build), ray.remote(num_cpus=1)(_cut)
    graphs: dict[tuple[float, ...], list[int]] = {}
    for i, config in enumerate(configs):
        graphs.setdefault((config.superpixels, config.compactness, config.sigma), []).append(i)
    tasks: dict[Any, list[int]] = {}
    for members in graphs.values():
        built = [build.remote(*sample.frame, configs[members[0]]) for sample in samples]
        for start in range(0, len(members), SETS_PER_TASK):
            chunk = members[start : start + SETS_PER_TASK]
            tasks[cut.remote([configs[i] for i in chunk], *built)] = chunk
    maps: dict[int, Maps] = {}
    waiting = list(tasks)
    with Progress(total=len(configs), desc="regions", unit="set") as bar:
        while waiting:
            (done,), waiting = ray.wait(waiting)
            maps |= dict(zip(tasks[done], ray.get(done), strict=True))
            bar.update(len(tasks[done]))
    return [maps[i] for i in range(len(configs))]


def _build(
    image: NDArray[np.uint8],
    disparity: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    config: RegionConfig,
) -> FrameGraph:
    # Ray passes read-only arrays; the kernels are compiled for writable ones.
    return frame_graph(image.copy(), disparity.copy(), intrinsics.copy(), config)


def _cut(configs: list[RegionConfig], *lent: FrameGraph) -> list[Maps]:
    graphs = [replace(one, edges=one.edges.copy()) for one in lent]
    return [[partition(graph, config) for graph in graphs] for config in configs]


@phase("reading frames of the dataset")
def sample_frames(data: Path, count: int) -> list[SampledFrame]:
    """Evenly spaced frames of a dataset, with labels if its source has them."""
    dataset = PreparedDataset(data)
    indices = spread(len(dataset), count)
    columns = ["frame_id", "image", "disparity", "regions", "intrinsics"]
    rows = dataset.rows(indices, columns)
    labels = _labels(dataset, {row["frame_id"] for row in rows})
    frames = []
    for row in rows:
        one, camera = decode_sample(row), np.asarray(row["intrinsics"], np.float32)
        frame = (one.image, one.disparity, camera)
        frames.append(SampledFrame(frame, labels.get(one.frame_id)))
    return frames


def _labels(dataset: PreparedDataset, wanted: set[str]) -> dict[str, NDArray[np.uint8]]:
    """Labels by frame id; empty if the source is gone or not all frames are labelled."""
    config, labels = dataset.manifest["config"], {}
    try:
        options = overlay(FrameOptions(), config["options"], "manifest.json")
        source = open_frames(config["frames"], options)
        for ref in source.refs() if source.protocol else []:
            if ref.frame_id in wanted:
                frame = fit(source.read(ref), tuple(config["size"]))
                if frame.labels is not None and (frame.labels != IGNORE).any():
                    labels[ref.frame_id] = frame.labels
    except (InputError, FrameError, KeyError):
        return {}
    return labels if len(labels) == len(wanted) else {}
