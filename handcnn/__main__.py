"""The command `handcnn`, as pip installs it: read pictures, draw, or see a training step.

    handcnn predict picture.png    read the digit in each picture
    handcnn draw                   draw a digit in the browser and watch the network read it
    handcnn demo                   one training step, shown step by step

`handcnn COMMAND --help` says more. `python -m handcnn` is the same; alone, it shows the demo.
"""

import sys
from importlib import import_module

from handcnn.commands import command_line as cli
from handcnn.commands.hints import missing_library


def main(arguments: list[str] | None = None, program: str = "handcnn") -> int:
    """Run the command that the first argument names, and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = cli.Parser(prog=program, description=__doc__)
    parser.add_argument("command", type=cli.one_of("predict", "draw", "demo"), metavar="COMMAND")
    name = parser.parse(arguments[:1]).command
    try:
        command = import_module(f"handcnn.commands.{name}")
    except ModuleNotFoundError as error:
        sys.exit(f"{program} {name}: {missing_library(error)}")
    code: int = command.main(arguments[1:], f"{program} {name}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["demo"], "python -m handcnn"))
