#!/bin/sh
# Start handcnn without a network: ./start.sh draws, ./start.sh train.py --epochs 3 trains.
cd "$(dirname "$0")" || exit 1
if [ ! -e .venv/ready ]; then
    for python in python3.13 python3.12 python3 ""; do
        [ -n "$python" ] || { echo "Python 3.12 or 3.13 is needed; see INSTRUCTIONS.txt"; exit 1; }
        "$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 12), (3, 13)))' \
            2>/dev/null && break
    done
    echo "Setting handcnn up, once:"
    "$python" -m venv --clear .venv &&
        .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-index \
            --find-links wheels --requirement requirements.txt &&
        touch .venv/ready || exit 1
fi
[ $# -gt 0 ] || set -- draw.py
exec .venv/bin/python "$@"
