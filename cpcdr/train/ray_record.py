"""What Ray Train keeps of a training: a record that ``ray.train.Result`` reads.

The training itself neither needs nor reads it. Its checkpoints lie in the run folder; those of
the record are links to the same files where both are on one disk, and copies elsewhere.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, copy_files

from cpcdr.runtime.checkpoint import STATE, WEIGHTS, newest_checkpoint, step_folder
from cpcdr.runtime.config import config_hash
from cpcdr.runtime.errors import first_line
from cpcdr.runtime.storage import location, open_storage


@dataclass(frozen=True)
class RayRecord:
    """Where the record of one training lies.

    Attributes:
        system: file system of the storage.
        storage: folder of the records of several trainings.
        name: of this one in there.
        checkpoints: the training's own checkpoints.
    """

    system: FileSystem
    storage: str
    name: str
    checkpoints: Path

    @property
    def root(self) -> str:
        """The folder that ``ray.train.Result.from_path`` takes."""
        return f"{self.storage}/{self.name}"

    def keep(self, checkpoint: Any, name: str) -> Any:
        """Put a checkpoint into the record, and take the weights of those that are gone out of it.

        Args:
            checkpoint: a ``ray.train.Checkpoint`` of a local folder.

        Returns:
            the one in the record.
        """
        from ray.train import Checkpoint

        target = f"{self.root}/{name}"
        self.system.create_dir(target, recursive=True)
        for file in sorted(Path(checkpoint.path).iterdir()):
            self._put(file, f"{target}/{file.name}")
        self._thin()
        return Checkpoint(target, filesystem=self.system)

    def _put(self, file: Path, target: str) -> None:
        if isinstance(self.system, LocalFileSystem):
            try:
                os.link(file, target)
                return
            except OSError:  # another disk, or a file system without links
                pass
        copy_files(str(file), target, LocalFileSystem(), self.system)

    def _thin(self) -> None:
        """Configuration and metrics stay of all; weights of those that the training keeps too."""
        for name in self._kept():
            step = int(name.split("-")[1])
            if not step_folder(self.checkpoints, step).exists():
                for info in self.system.get_file_info(
                    [f"{self.root}/{name}/{file}" for file in (WEIGHTS, STATE)]
                ):
                    if info.type == FileType.File:
                        self.system.delete_file(info.path)

    def _kept(self) -> Iterator[str]:
        """Names of the checkpoints in the record."""
        for info in self.system.get_file_info(FileSelector(self.root, allow_not_found=True)):
            if info.type == FileType.Directory and info.base_name.startswith("step-"):
                yield info.base_name

    def begin(self) -> None:
        """Drop a record that Ray cannot read, as a kill while it was written leaves one."""
        from ray.train import Result

        if not any(self._kept()):
            return
        try:
            Result.from_path(self.root, storage_filesystem=self.system)
        except Exception as error:  # Ray's own kinds
            print(
                f"warning: {self.root}: Ray's record cannot be read ({first_line(error)}); it "
                "begins anew, and the training resumes all the same."
            )
            self.system.delete_dir(self.root)


def record_of(out: Path, storage: str) -> RayRecord:
    """The record of the training in ``out``.

    Args:
        storage: a folder or address for the records of several trainings; empty: ``out/ray``.

    Raises:
        InputError: it cannot be reached.
    """
    system, root = open_storage(storage or out / "ray")
    # Trainings of one name share a storage that is not in their folders.
    name = f"{out.name}-{config_hash(location(out))}" if storage else out.name
    return RayRecord(system, root.rstrip("/"), name, out / "checkpoints")


class RayReporter:
    """A worker of Ray Train."""

    def __init__(self, record: RayRecord) -> None:
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self.record = record

    def report(self, metrics: dict[str, float]) -> None:
        """Tell Ray how far the training is; rank 0 hands the checkpoint over."""
        import ray.train

        folder = newest_checkpoint(self.record.checkpoints) if self.rank == 0 else None
        if folder is None:
            ray.train.report(metrics)
            return
        ray.train.report(
            metrics,
            checkpoint=ray.train.Checkpoint.from_directory(str(folder)),
            checkpoint_dir_name=f"{folder.name}-{secrets.token_hex(3)}",
            checkpoint_upload_fn=self.record.keep,
        )
