"""The one error class for whatever a user can cause: a sentence to print instead of a traceback."""


class HandcnnError(ValueError):
    """A file, a picture, an option or a data set that cannot be used.

    The message is one sentence: what was given, what was expected, and how to mend it.
    """
