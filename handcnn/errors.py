"""The error class for everything a user can cause: the programs print it without a traceback."""


class HandcnnError(ValueError):
    """A file, a picture, an option or a data set that cannot be used.

    The message is one sentence: what was given, what was expected, and how to fix it.
    """
