//! Amounts in whole units, as people read them.

use alloy_primitives::U256;

/// Writes an amount in whole units, without zeros at its end.
pub(crate) fn units(amount: U256, decimals: u8) -> String {
    let digits = format!("{:0>width$}", amount.to_string(), width = usize::from(decimals) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(decimals));
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_whole_units() {
        for (amount, decimals, text) in [(0, 6, "0"), (1, 6, "0.000001"), (12_500_000, 6, "12.5"), (7, 0, "7")] {
            assert_eq!(units(U256::from(amount), decimals), text);
        }
    }
}
