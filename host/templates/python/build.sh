#!/bin/sh
# Makes out/new-merge.wasm, about 18 MB, for class large. Needs python3 with venv, and the
# network once; COMPONENTIZE_PY=PROGRAM uses one that is installed.
set -eu
cd "$(dirname "$0")"
if [ -z "${COMPONENTIZE_PY:-}" ]; then
  COMPONENTIZE_PY=.venv/bin/componentize-py
  [ -x "$COMPONENTIZE_PY" ] || { python3 -m venv .venv && .venv/bin/pip install -q componentize-py==0.25.1; }
fi
mkdir -p out
"$COMPONENTIZE_PY" -d wit -w checked-module componentize merge -o out/wasi.wasm
stator module encode out/wasi.wasm --out out/new-merge.wasm
