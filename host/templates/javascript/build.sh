#!/bin/sh
# Makes out/new-merge.wasm, 1.7 MB: QuickJS and merge.js. Needs node, and npm with the network once;
# COMPONENTIZE_QJS=PROGRAM uses what is installed. STARLINGMONKEY=1 takes Mozilla's engine instead,
# by componentize-js: 12 MB, for class large, faster at long texts.
set -eu
cd "$(dirname "$0")"
mkdir -p out
tool() { # a package, its version, its program
  [ -x "node_modules/.bin/$3" ] || npm install --no-save --no-audit --no-fund "$1@$2" >&2
  echo "node_modules/.bin/$3"
}
if [ -z "${STARLINGMONKEY:-}" ]; then
  "${COMPONENTIZE_QJS:-$(tool componentize-qjs 0.4.5 componentize-qjs)}" \
    --wit wit --world checked-module --js merge.js --sync --output out/wasi.wasm
else
  "${COMPONENTIZE_JS:-$(tool @bytecodealliance/componentize-js 0.23.0 componentize-js)}" merge.js \
    --wit wit --world-name checked-module --disable http fetch-event --out out/wasi.wasm
fi
stator module encode out/wasi.wasm --out out/new-merge.wasm
