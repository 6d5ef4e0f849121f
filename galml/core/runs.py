# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Runs that can be interrupted: what they were made from, and that there is one."""

import hashlib
import os
from contextlib import contextmanager

__all__ = ["content_of", "identity", "locked"]


def identity(file):
    """Tell a file from others, and from what it was before.

    Parameters
    ----------
    file : str or path-like
        The file.

    Returns
    -------
    list
        Absolute path, size, and times of the last changes of content and of anything
        else in ns: a file that took the place of another one may have its size and the
        time of its content. None in place of these where there is no file.
    """
    path = os.path.abspath(file)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return [path, None]
    return [path, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def content_of(file):
    """Give the SHA-256 of what is in a file."""
    # With astropy, which takes long to load.
    from galml.core.files import readable

    with readable("FILE", str(file), "a file"), open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(output):
    """Let no other run write the same output.

    The system drops the lock when a run ends, however it does. Where there are no
    locks, as on some networks, nothing is locked: then the last run to end wins.

    Parameters
    ----------
    output : path
        The file, or the folder.

    Raises
    ------
    galml.core.FileError
        If another run is writing it.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    path = output.with_name(f".{output.name}.lock")
    while True:
        handle = open(path, "a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            # The help of commands needs no numpy.
            from galml.core.exceptions import FileError

            raise FileError(
                "output", f"{output}: another run is writing it", "a place of its own"
            ) from None
        except OSError:
            pass
        try:
            if os.path.samestat(os.fstat(handle.fileno()), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        # The run before has removed the file since it was opened.
        handle.close()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        handle.close()
