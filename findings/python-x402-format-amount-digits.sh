#!/usr/bin/env bash
# PyPI x402 2.25.0 (x402.mechanisms.evm: format_amount, parse_amount); Python 3.11.
#
# Expected: format_amount, "Convert smallest unit to decimal string", tells any amount of a token, and parse_amount of the
#   same module, "Convert decimal string to smallest unit", reads it back.
# Seen: the division keeps 28 digits and then rounds: 12345678901.1… of a token with 18 decimals, the package's own default
#   on MegaETH and Mezo, comes back as another amount. What is small or large is written with an exponent, and parse_amount
#   refuses that: one unit of 18 decimals, or the largest uint256, which an unlimited allowance has. Output:
#     10000 of 6 decimals: 0.01; read back 10000
#     12345678901123456789012345678 of 18 decimals: 12345678901.12345678901234568; read back 12345678901123456789012345680
#     1 of 18 decimals: 1E-18; read back: refused
#     2**256 - 1 of 6 decimals: 1.157920892373161954235709850E+71; read back: refused
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'x402[evm]==2.25.0'
cat > "$dir/run.py" <<'PY'
import sys

from x402.mechanisms.evm import format_amount, parse_amount

lines = []
for name, decimals in [("10000", 6), ("12345678901123456789012345678", 18), ("1", 18), ("2**256 - 1", 6)]:
    written = format_amount(2**256 - 1 if "*" in name else int(name), decimals)
    try:
        back = f"read back {parse_amount(written, decimals)}"
    except ValueError:
        back = "read back: refused"
    lines.append(f"{name} of {decimals} decimals: {written}; {back}")
print("\n".join(lines))
expected = """10000 of 6 decimals: 0.01; read back 10000
12345678901123456789012345678 of 18 decimals: 12345678901.12345678901234568; read back 12345678901123456789012345680
1 of 18 decimals: 1E-18; read back: refused
2**256 - 1 of 6 decimals: 1.157920892373161954235709850E+71; read back: refused"""
if "\n".join(lines) != expected:
    sys.exit("changed: this is not the behaviour described")
PY
"$dir/venv/bin/python" "$dir/run.py"
