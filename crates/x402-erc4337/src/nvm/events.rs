//! ERC-1155 events of a plan's credits, extracted from the logs of one operation.

use alloy_primitives::{Address, Log, U256};
use alloy_sol_types::{SolEvent, sol};

use super::Plan;

sol! {
    event TransferSingle(address indexed operator, address indexed from, address indexed to, uint256 id, uint256 value);
}

/// Sums the plan's credits that the account burned: "value of the operation's own TransferSingle(from -> 0, planId)".
pub(super) fn burned(logs: &[Log], plan: &Plan, account: Address) -> U256 {
    moved(logs, plan, account, Address::ZERO)
}

/// Sums the plan's credits that were minted for the account.
pub(super) fn minted(logs: &[Log], plan: &Plan, account: Address) -> U256 {
    moved(logs, plan, Address::ZERO, account)
}

fn moved(logs: &[Log], plan: &Plan, from: Address, to: Address) -> U256 {
    let of_plan = logs.iter().filter(|log| log.address == plan.credits);
    let events = of_plan.filter_map(|log| TransferSingle::decode_log(log).ok());
    let own = events.filter(|event| event.from == from && event.to == to && event.id == plan.id.value());
    own.fold(U256::ZERO, |sum, event| sum.saturating_add(event.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvm::PlanCalls;
    use alloy_primitives::{B256, LogData, b256};

    const CREDITS: Address = Address::repeat_byte(0xcc);
    const ACCOUNT: Address = Address::repeat_byte(0xaa);
    /// `nvm-erc4337-decisions.md` §4.
    const TOPIC: B256 = b256!("c3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62");

    fn plan() -> Plan {
        Plan {
            id: U256::from(7).into(),
            credits: CREDITS,
            calls: PlanCalls::nevermined(Address::ZERO),
            price: U256::ZERO,
            credits_per_order: U256::from(10),
            minimum: U256::from(1),
            maximum: U256::from(10),
        }
    }

    fn log(address: Address, from: Address, to: Address, id: u64, value: u64) -> Log {
        let topics = vec![TOPIC, ACCOUNT.into_word(), from.into_word(), to.into_word()];
        let data = [U256::from(id).to_be_bytes::<32>(), U256::from(value).to_be_bytes()].concat();
        Log { address, data: LogData::new_unchecked(topics, data.into()) }
    }

    #[test]
    fn only_the_plan_s_own_credits_of_the_account_count() {
        let logs = [
            log(CREDITS, ACCOUNT, Address::ZERO, 7, 3),
            log(CREDITS, ACCOUNT, Address::ZERO, 7, 2),
            log(CREDITS, ACCOUNT, Address::ZERO, 8, 100),
            log(CREDITS, ACCOUNT, CREDITS, 7, 100),
            log(CREDITS, CREDITS, Address::ZERO, 7, 100),
            log(ACCOUNT, ACCOUNT, Address::ZERO, 7, 100),
            log(CREDITS, Address::ZERO, ACCOUNT, 7, 10),
        ];
        assert_eq!(burned(&logs, &plan(), ACCOUNT), U256::from(5));
        assert_eq!(minted(&logs, &plan(), ACCOUNT), U256::from(10));
        assert_eq!(burned(&[], &plan(), ACCOUNT), U256::ZERO);
    }
}
