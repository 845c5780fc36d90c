"""Programs that show a part of handcnn: `python -m examples.NAME`."""

import handcnn  # noqa: F401 - says in one sentence if NumPy is missing
