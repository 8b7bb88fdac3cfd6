"""Artefacts as files: model.tar.gz, packed and unpacked, and folders that are written whole or not at all.

The archive has deterministic bytes: equal contents give an equal archive, so a redeploy of the same model is no
change. An archive may come from anybody. Of what is in it the manifest's own files are written and nothing else, with
a reader that counts; links, devices and names that lead elsewhere are refused wherever they stand.
"""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import io
import os
import shutil
import sys
import tarfile
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .artefact import MANIFEST, MOST_BYTES, ArtefactError, Manifest, sha256

try:
    import fcntl
except ImportError:  # Windows, where what a killed run leaves is for its user to remove
    fcntl = None  # type: ignore[assignment]

# Weights hardly shrink, and JSON tenfold: what unpacks to more was made to fill a disk.
_RATIO, _FLOOR = 50, 64 << 20
_MOST_MEMBERS = 1000
_MOST_HEADER = 64 << 10  # bytes of a member's extended header
_MOST_CODE = 1 << 20  # bytes of a file under code/
_CODE = ("code/", "MAR-INF/")
_CHUNK = 1 << 20
_SCRATCH = ".sagerank-"


def pack(members: Mapping[str, Path | bytes], archive: Path) -> None:
    """Write `members` (name in the archive -> file or bytes) as a .tar.gz: equal bytes for equal contents.

    What reads `archive` meanwhile sees the old one or the new one; of two that write it, the later one's stays.
    """
    if archive.exists() and not archive.is_file():
        raise ArtefactError(f"{archive} is no regular file: give another name for the archive.")
    archive = archive.resolve()  # what a link points to, and not the link, is replaced
    with scratch(archive.parent) as folder:
        part = folder / "part"
        # Names, times and owners would be the only differences between two builds: none is recorded.
        with (
            part.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, content in sorted(members.items()):
                member = tarfile.TarInfo(name)
                member.size = len(content) if isinstance(content, bytes) else content.stat().st_size
                member.mode = 0o644
                with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                    tar.addfile(member, file)
        _finish(part)
        part.replace(archive)
        _flush(archive.parent)


def unpack(archive: Path, folder: Path, *, code: bool = False) -> Manifest:
    """Write the artefact in a model.tar.gz into a new or empty folder and return its manifest.

    code: and what lies under code/, as SageMaker does. Raises ArtefactError for whatever `sagerank build` would not have
    packed, before more is written than the manifest says.
    """
    with archive.open("rb") as file:
        manifest_text = manifest_of(file, str(archive), most=limit(archive))
    manifest = Manifest.parse(manifest_text, f"{archive}: {MANIFEST}")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ArtefactError(f"{folder} holds other files: give an empty or a new folder.")
    inside = folder.resolve()
    with archive.open("rb") as file:
        for name, size, content in members(file, str(archive), most=limit(archive)):
            if name == MANIFEST:
                content = iter([manifest_text])
            elif name in manifest.files:
                if size > manifest.most_bytes(name):
                    raise _refused(archive, f"{name} has {size:,} bytes, more than {MANIFEST} allows")
            elif not (code and name.startswith(_CODE)):
                continue
            elif size > _MOST_CODE:
                raise _refused(archive, f"{name} has {size:,} bytes, too many for code")
            path = inside / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.resolve().is_relative_to(inside):
                    raise _refused(archive, f"{name} leads out of the folder")
                with path.open("xb") as out:
                    for chunk in content:
                        out.write(chunk)
            except OSError as error:  # a full disk, above all
                raise ArtefactError(
                    f"{archive} cannot be unpacked into {folder}: {error.strerror}."
                ) from None
    manifest.verify(inside)
    _settle(inside)
    return manifest


def manifest_of(file: BinaryIO, archive: str, *, most: int) -> bytes:
    """The text of the manifest in an archive, read no farther than that; `archive` is its name in messages."""
    for name, size, content in members(file, archive, most=most):
        if name == MANIFEST:
            if size > MOST_BYTES:
                raise _refused(archive, f"its {MANIFEST} has {size:,} bytes")
            return b"".join(content)
    raise ArtefactError(f"{archive} holds no {MANIFEST}: it is not an archive that `sagerank build` wrote.")


def manifest_sha256(artefact: Path) -> str:
    """The SHA-256 of the manifest of a folder or an archive: which artefact it is. Raises ArtefactError or OSError."""
    if artefact.is_dir():
        return sha256(artefact / MANIFEST)
    with artefact.open("rb") as file:
        return hashlib.sha256(manifest_of(file, str(artefact), most=limit(artefact))).hexdigest()


class _Plain(tarfile.TarInfo):
    """A member that is not sparse: the maps of such are read whole, however long, before anybody can look at them."""

    def _refuse(self, *_: object) -> tarfile.TarInfo:
        raise tarfile.ReadError("a sparse file is no part of an artefact")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


def members(file: BinaryIO, archive: str, *, most: int) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Name, size and content of the files of a .tar.gz, one after the other, as long as it unpacks to at most so many bytes.

    Raises ArtefactError for anything but regular files and folders under plain names that differ.
    """
    data = _Inflated(file, archive, most)
    seen: set[str] = set()
    try:
        with tarfile.TarFile(fileobj=data, mode="r", encoding="utf-8", tarinfo=_Plain) as tar:  # type: ignore[arg-type]
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would hold all, and nothing is looked up
                name = member.name.removeprefix("./")  # as `tar -C FOLDER .` writes
                shown = ascii(name[:80])
                if name == "." and member.isdir():
                    continue
                if (
                    not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE))
                    or member.issparse()
                ):
                    raise _refused(archive, f"{shown} is a link, or no regular file")
                if not plain(name) or folded(name) in seen:
                    raise _refused(archive, f"the name {shown} leads elsewhere, or is there twice")
                seen.add(folded(name))
                if len(seen) > _MOST_MEMBERS:
                    raise _refused(archive, f"it has more than {_MOST_MEMBERS:,} files")
                if member.size < 0:
                    raise _refused(archive, f"{shown} has a negative size")
                if member.isreg():
                    yield name, member.size, data.content(member.size)
    except ArtefactError:
        raise
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise _refused(archive, str(error)) from None


def plain(name: str) -> bool:
    """Whether a name means the same file below any folder, on any system."""
    parts = name.split("/")
    return (
        name.isprintable()
        and not {"", ".", ".."} & {*parts}
        and not {"\\", ":"} & {*name}
        and len(name) < 256
    )


def folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFKC", name).casefold()


class _Inflated:
    """The bytes of a .tar.gz decompressed, forwards only, as tarfile reads a file. Raises ArtefactError."""

    def __init__(self, file: BinaryIO, archive: str, most: int) -> None:
        self._file, self._archive, self._most = gzip.GzipFile(fileobj=file, mode="rb"), archive, most
        self._at = 0

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        """For headers, which tarfile reads in one piece, however long they say they are."""
        if not 0 <= size <= _MOST_HEADER:
            raise _refused(self._archive, f"a header of {size:,} bytes")
        return self._read(size)

    def seek(self, position: int) -> None:
        if position < self._at:
            raise _refused(self._archive, "it is read in circles")
        for _ in self.content(position - self._at):
            pass

    def content(self, size: int) -> Iterator[bytes]:
        while size > 0:
            chunk = self._read(min(size, _CHUNK))
            if not chunk:
                raise _refused(self._archive, "it ends too early")
            size -= len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise _refused(self._archive, str(error)) from None
        self._at += len(data)
        if self._at > self._most:
            raise _refused(
                self._archive, f"it unpacks to more than {self._most:,} bytes, far more than its own size"
            )
        return data


def limit(archive: Path) -> int:
    """How many bytes an archive may unpack to."""
    return _FLOOR + _RATIO * archive.stat().st_size


def _refused(archive: Path | str, reason: str) -> ArtefactError:
    return ArtefactError(f"{archive} cannot be unpacked ({reason}): build or fetch it again.")


def copy(source: Path, folder: Path) -> Manifest:
    """Copy the artefact in `source` into `folder`, which is made where need be. Raises ArtefactError for a damaged one."""
    manifest = Manifest.read(source)
    manifest.verify(source)
    for name in (*manifest.files, MANIFEST):  # the manifest last: it vouches for the others
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    return manifest


@contextmanager
def replaced(target: Path, unless: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """A new folder that becomes `target` in one step at the end; what else lies in `target` is kept.

    After an error `target` is as it was, and so it stays where it is good enough for `unless` by then. Where it cannot
    be exchanged as a whole (a mount, the working folder), its files are replaced one by one, the manifest last.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = not target.exists() or _movable(target)
    with scratch(target.parent if whole else target) as above:
        new = above / "new"
        new.mkdir()
        yield new
        _settle(new)
        if unless(target):
            return
        if not whole:
            for path in sorted(new.rglob("*"), key=lambda path: path.name == MANIFEST):
                there = target / path.relative_to(new)
                if path.is_dir():
                    there.mkdir(exist_ok=True)
                else:
                    path.replace(there)
            return
        if target.exists():
            _keep(target, new)
            new.chmod(target.stat().st_mode & 0o7777)
        _swap(new, target)


def _swap(new: Path, target: Path) -> None:
    """Move a folder to `target`; what is there, if anything, is then where `new` was, or beside it."""
    try:
        new.rename(target)
    except OSError:
        if not target.exists():
            raise
        if not _exchange(new, target):
            target.rename(new.with_name(f"{new.name}-old"))
            new.rename(target)
    _flush(target.parent)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, for what becomes its neighbour in one step; removed at the end.

    A killed run leaves it: the next one removes it, as nobody holds its lock any more.
    """
    for left in parent.glob(f"{_SCRATCH}*"):
        lock = _lock(left, alone=True)
        if lock is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
        lock = _lock(folder, alone=False)
        if folder.is_dir():  # and was not taken for a killed run's before it was locked
            break
        if lock is not None:
            os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, *, alone: bool) -> int | None:
    """Lock a folder until the number is closed. None where it cannot be: somebody else has it, or the system has no locks."""
    if fcntl is None:
        return None
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except OSError:
        os.close(number)
        return None
    return number


def _movable(folder: Path) -> bool:
    try:
        here = Path.cwd().resolve()
    except OSError:
        here = Path("/")
    return not (
        os.path.ismount(folder) or here.is_relative_to(folder) or not os.access(folder.parent, os.W_OK)
    )


def _keep(old: Path, new: Path) -> None:
    """Give `new` what lies in `old` and not in it, without a copy where the file system can."""
    for path in old.iterdir():
        there = new / path.name
        if path.name.startswith(_SCRATCH):
            continue
        if path.is_dir() and not path.is_symlink():
            if not os.path.lexists(there):
                there.mkdir()
                shutil.copystat(path, there)
            if there.is_dir():
                _keep(path, there)
        elif not os.path.lexists(there):
            try:
                os.link(path, there, follow_symlinks=False)
            except OSError:
                shutil.copy2(path, there, follow_symlinks=False)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, where the system can."""
    first, second = os.fsencode(one), os.fsencode(other)
    with suppress(AttributeError):  # a C library of before
        if sys.platform == "linux":
            return bool(ctypes.CDLL(None).renameat2(-100, first, -100, second, 2) == 0)  # RENAME_EXCHANGE
        if sys.platform == "darwin":
            return bool(ctypes.CDLL(None).renamex_np(first, second, 2) == 0)  # RENAME_SWAP
    return False


def _settle(folder: Path) -> None:
    """Readable for everybody, whatever the umask: a container reads as another user. And on the disk."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
        else:
            _finish(path)


def _finish(path: Path) -> None:
    path.chmod(0o644)
    _flush(path)


def _flush(path: Path) -> None:
    """Have a file or folder on the disk before what refers to it."""
    with suppress(OSError):  # a file system or a system that cannot
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
