"""Where datasets lie: a local folder, or a URI such as ``s3://bucket/dataset`` through pyarrow.

Reading goes through pyarrow's file systems everywhere. Writing happens in a local (or shared)
folder, whose rename publishes a dataset at once; object stores have no rename, so a copy there is
published by its manifest, which comes last.
"""

import re
from pathlib import Path, PurePosixPath

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, copy_files

from cpcdr.runtime.errors import InputError

_URI = re.compile(r"^([a-z][a-z0-9]+):/+(.*)$")  # pathlib makes one slash of two
_READERS = ("__cpcdr__/manifest.json", "manifest.json")
"""What a reader of a dataset looks for, of the present format and of the first two."""


def location(folder: Path | str) -> str:
    """A folder's absolute path, or its URI as pyarrow wants it."""
    match = _URI.match(str(folder))
    if not match:
        return str(Path(folder).absolute())
    scheme, rest = match.groups()
    return f"{scheme}:///{rest}" if scheme == "file" else f"{scheme}://{rest}"


def file_inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder, or below it.

    Raises:
        InputError: the name is absolute, climbs out of the folder, or cannot be one of a file.

    >>> file_inside(Path("out"), "street/00000001.png").as_posix()
    'out/street/00000001.png'
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise InputError(
            f"{folder}: {name[:200]!r} would be written outside of it; rename the sequence."
        )
    return folder / name


def open_storage(folder: Path | str) -> tuple[FileSystem, str]:
    """The file system that a folder lies on, and its path there.

    Raises:
        InputError: pyarrow knows no such file system, or cannot reach it.
    """
    where = location(folder)
    if not _URI.match(where):
        return LocalFileSystem(), where
    try:
        return FileSystem.from_uri(where)
    except (ArrowException, OSError) as error:
        raise InputError(
            f"{where}: cannot be reached ({error}); check the address, the credentials and the "
            "network, or give a folder on disk."
        ) from error


def has_file(folder: Path | str, name: str) -> bool:
    """Whether a folder holds a file of this name."""
    system, root = open_storage(folder)
    return system.get_file_info(f"{root}/{name}").type == FileType.File


def read_file(folder: Path | str, name: str) -> bytes | None:
    """A small file of a folder; None if there is none."""
    if not has_file(folder, name):
        return None
    system, root = open_storage(folder)
    with system.open_input_stream(f"{root}/{name}") as stream:
        return stream.read()


def copy_dataset(source: Path, target: str) -> None:
    """Copy a finished dataset; a reader of ``target`` sees it only when it is whole.

    Nothing is done where this very dataset is there already.

    Raises:
        InputError: another dataset is there, or the storage cannot be written.
    """
    present = _manifest(target)
    if present is not None:
        if present == _manifest(source):
            return
        raise InputError(f"{target}: holds another dataset; give another place.")
    here, root = open_storage(source)
    there, goal = open_storage(target)
    try:
        there.create_dir(goal, recursive=True)
        files = here.get_file_info(FileSelector(root, recursive=True))
        names = [info.path[len(root) + 1 :] for info in files if info.type == FileType.File]
        for name in sorted(names, key=lambda n: (n in _READERS, n)):
            there.create_dir(f"{goal}/{name}".rpartition("/")[0], recursive=True)
            copy_files(f"{root}/{name}", f"{goal}/{name}", here, there)
    except (ArrowException, OSError) as error:
        raise InputError(f"{target}: cannot be written ({error}).") from error


def _manifest(folder: Path | str) -> bytes | None:
    """The manifest of a dataset of any format; None where there is none."""
    contents = (read_file(folder, name) for name in _READERS)
    return next((content for content in contents if content is not None), None)
