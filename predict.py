"""Read the digit in each picture: `python predict.py --help` says more.

The code is in handcnn/commands/predict.py, which is also the command `handcnn predict`.
"""

import sys

try:
    from handcnn.commands.predict import main
except ModuleNotFoundError as error:
    sys.exit(
        f"predict.py: {error.name} is not installed in this Python; use make, or see README.md"
    )
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
