"""Draw a number in the browser and watch the network read it: `python draw.py --help` says more.

The code is in handcnn/commands/draw.py, which is also the command `handcnn draw`.
"""

import sys

try:
    from handcnn.commands.draw import main
except ModuleNotFoundError as error:
    sys.exit(f"draw.py: {error.name} is not installed in this Python; use make, or see README.md")
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
