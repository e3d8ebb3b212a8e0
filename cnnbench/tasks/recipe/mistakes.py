"""Which errors are the user's to mend: ours, those of Lightning about its settings, a disk that takes nothing."""

import errno
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from cnnbench.errors import UserError, first_line, user_error_within

_SETTING_ERRORS = (TypeError, ValueError, KeyError, RuntimeError)
_DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)


def users_mistake(error: BaseException, directory: Path | None, began: bool) -> UserError | None:
    """Return what the user did wrong, or None where the error is ours and deserves its traceback.

    Lightning refuses settings with a `MisconfigurationException`, but as often with a plain error, which is known by
    the place it was raised in; jsonargparse wraps all of them.

    Args:
        error: What ended the command.
        directory: The run's, where it has one already.
        began: Whether training has begun: settings have proved good then, and an error in Lightning is ours.
    """
    if mistake := user_error_within(error):
        return mistake
    for cause in _chain(error):
        if isinstance(cause, MisconfigurationException):
            return UserError(_sentence(cause))
        if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS:
            return UserError(f"cannot write {cause.filename or directory or 'to the disk'}: {cause.strerror}")
    if not began and isinstance(error, _SETTING_ERRORS) and _raised_in(error).startswith("lightning."):
        return UserError(_sentence(error))
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    causes = []
    while error is not None:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _raised_in(error: BaseException) -> str:
    """Return the name of the module that raised an error."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else traceback.tb_frame.f_globals.get("__name__", "")


def _sentence(error: BaseException) -> str:
    """Return what an error says, without the hints to programmers that Lightning appends."""
    text = first_line(error) if not isinstance(error, KeyError) else str(error.args[0])
    return text.strip().partition(" HINT:")[0].partition(" Find a complete list")[0]
