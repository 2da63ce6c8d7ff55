#!/usr/bin/env bash
# PyPI coinbase-agentkit 0.7.4 with solana 0.40.1, what a plain `pip install coinbase-agentkit` chose on 29 November 2026;
# Python 3.11.
#
# Expected: an installation that pip completes, with solana inside the package's own bound (>=0.36.6), can be imported,
#   for a wallet of an EVM chain at least.
# Seen: `import coinbase_agentkit` loads the Solana wallet whatever wallet is wanted, and solana 0.40.1 has no
#   `solana.rpc.api`. Nothing of the package can be used. Output:
#     solana 0.40.1 satisfies >=0.36.6
#     ModuleNotFoundError: No module named 'solana.rpc.api'
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check coinbase-agentkit==0.7.4 solana==0.40.1
bound=$("$dir/venv/bin/python" - <<'PY'
from importlib.metadata import requires, version
from pip._vendor.packaging.requirements import Requirement
for line in requires("coinbase-agentkit"):
    need = Requirement(line)
    if need.name == "solana":
        assert version("solana") in need.specifier
        print(f"solana {version('solana')} satisfies {need.specifier}")
PY
)
echo "$bound"
out=$("$dir/venv/bin/python" -c 'import coinbase_agentkit' 2>&1 | tail -n 1) || true
echo "$out"
if [ "$out" != "ModuleNotFoundError: No module named 'solana.rpc.api'" ]; then
  echo "changed: this is not the behaviour described" >&2
  exit 1
fi
