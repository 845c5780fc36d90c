"""What the programs share that train or evaluate: they may use data/ and handcnn/."""

import handcnn  # noqa: F401 - says in one sentence if NumPy is missing
