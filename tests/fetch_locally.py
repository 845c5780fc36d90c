"""Run data/fetch.py with the server of `openml_server` instead of OpenML.

    python fetch_locally.py URL SETUP TITLE NAME VERSION DATA_HOME
    python fetch_locally.py --serve SOCKET
    python fetch_locally.py --by SOCKET URL SETUP TITLE NAME VERSION DATA_HOME

SETUP is Python code to run first, such as `fetch.SILENCE = 0.3`. Importing scikit-learn takes
longer than fetching. So a server can import it once, print "ready", and fork for every fetch. Such
a fetch ends when the process that requested it ends.
"""

import json
import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path


class NoWaiting:
    """Replaces the module `time` in scikit-learn: no pause before a retry."""

    sleep = staticmethod(lambda seconds: None)


def fetch_here(url: str, setup: str, *arguments: str) -> None:
    from sklearn.datasets import _openml

    sys.path.insert(0, str(Path(__file__).parent.parent / "data"))
    import fetch  # type: ignore[import-not-found]

    for name, value in list(vars(_openml).items()):
        if isinstance(value, str) and (found := re.match(r"https://\w+\.openml\.org(?=/)", value)):
            setattr(_openml, name, url + value[found.end() :])
    _openml.time = NoWaiting
    exec(setup, {"fetch": fetch})
    fetch.main(*arguments)


def serve(path: str) -> None:
    import sklearn.datasets  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            task, (stdout,), _, _ = socket.recv_fds(client, 100_000, 1)
            if os.fork() == 0:
                os.dup2(stdout, 1)
                threading.Thread(target=end_with, args=(client,), daemon=True).start()
                fetch_here(*json.loads(task))
            os.close(stdout)
            client.close()


def end_with(client: socket.socket) -> None:
    client.recv(1)
    os._exit(1)


def ask(path: str, *arguments: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [json.dumps(arguments).encode()], [1])
        os.close(1)
        server.recv(1)  # returns when the fetch ends and closes the connection


match sys.argv[1:]:
    case ["--serve", path]:
        serve(path)
    case ["--by", path, *arguments]:
        ask(path, *arguments)
    case arguments:
        fetch_here(*arguments)
