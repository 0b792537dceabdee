#!/bin/sh
# Makes the environment that Flower runs in, of its own: sh bench/flower/environment.sh [FOLDER]
set -eu
folder=${1:-build/flower}
version=${FLOWER_VERSION:-1.42.0}
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "flwr==$version" numpy
"$folder/bin/python" -m pip freeze --disable-pip-version-check > "$folder/installed.txt"
"$folder/bin/python" -c 'import importlib.metadata as m; print("flwr", m.version("flwr"))'
