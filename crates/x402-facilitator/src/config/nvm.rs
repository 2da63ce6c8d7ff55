//! The section `[network.nvm]`: the plans whose credits smart accounts pay with, by `nvm:erc4337`.

use alloy_primitives::{Address, U256};
use serde::Deserialize;
use x402_erc4337::nvm::{NvmPolicy, Plan, PlanCalls, Plans, StatementDomain};
use x402_types::nvm::PlanId;
use x402_types::{AtomicAmount, EvmAddress};

use super::{ConfigError, SecretSource};

/// The configuration of `nvm:erc4337` on a network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvmConfig {
    /// The key that signs the operations of session keys: 32 bytes in hex. Its account needs no funds and sends no
    /// transactions; clients issue session keys to its address.
    pub session_signer: SecretSource,
    /// The address of a service that counts the credits of these plans off chain, with an API like Nevermined's:
    /// [`HttpCredits`](crate::credits::HttpCredits). Default: each plan's contract counts them.
    #[serde(default)]
    pub credits: Option<String>,
    /// Whether Kernels are served that ZeroDev's factories have not deployed yet. Default: no.
    #[serde(default)]
    pub undeployed: bool,
    /// Whether session keys are accepted that may also sign in the account's name, and so move its tokens. Default: no.
    #[serde(default)]
    pub open_keys: bool,
    /// Whether session keys that never expire are accepted. Default: no.
    #[serde(default)]
    pub endless_keys: bool,
    /// The gas limit of an order's calls, and of a redemption's. Default: 1,500,000 each; at most 12,000,000.
    #[serde(default = "call_gas")]
    pub order_gas: u64,
    /// The same for a redemption. Credits that expire are kept order by order, and a redemption reads them all.
    #[serde(default = "call_gas")]
    pub redeem_gas: u64,
    /// The EIP-712 domain of the statements that accounts sign, if the peers have agreed on another than `nvm:erc4337`,
    /// version `1`.
    #[serde(default)]
    pub domain: Option<DomainConfig>,
    /// The plans that are served. Session keys may call only the contracts and functions of these plans.
    #[serde(rename = "plan")]
    pub plans: Vec<PlanConfig>,
}

/// An EIP-712 domain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// The domain's `name`.
    pub name: String,
    /// The domain's `version`.
    pub version: String,
}

/// One plan that is served.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanConfig {
    /// The plan's identifier, in decimal.
    pub id: PlanId,
    /// The contract that takes orders.
    pub template: EvmAddress,
    /// The contract that counts the credits and burns them.
    pub credits: EvmAddress,
    /// The token in which the price is paid.
    pub token: EvmAddress,
    /// The contract that collects the price from the account and therefore needs its approval.
    pub spender: EvmAddress,
    /// The price of one purchase, in atomic units of the token.
    pub price: AtomicAmount,
    /// The number of credits that one purchase brings. Default: 0, as for pay-as-you-go plans.
    #[serde(default)]
    pub credits_per_order: AtomicAmount,
    /// The fewest credits that a request costs. Default: 1.
    #[serde(default = "one")]
    pub minimum: AtomicAmount,
    /// The most credits that a request costs.
    pub maximum: AtomicAmount,
    /// Whether the order itself is the payment, without credits minted or burned. Default: no.
    #[serde(default)]
    pub pay_as_you_go: bool,
}

const fn call_gas() -> u64 {
    1_500_000
}
fn one() -> AtomicAmount {
    AtomicAmount::from(1)
}

impl NvmConfig {
    /// Makes the mechanism's policy of these settings.
    #[must_use]
    pub fn policy(&self) -> NvmPolicy {
        let mut policy = NvmPolicy::default().with_gas(self.order_gas, self.redeem_gas);
        if self.undeployed {
            policy = policy.with_kernel_factories();
        }
        if self.open_keys {
            policy = policy.with_open_keys();
        }
        if self.endless_keys {
            policy = policy.with_endless_keys();
        }
        match &self.domain {
            Some(domain) => policy.with_domain(StatementDomain::new(&domain.name, &domain.version)),
            None => policy,
        }
    }

    /// Checks the plans and collects them.
    ///
    /// # Errors
    /// There is no plan, one cannot be served, or an address has a wrong checksum.
    pub fn plans(&self) -> Result<Plans, ConfigError> {
        if self.plans.is_empty() {
            return Err(ConfigError::Range { field: "network.nvm.plan", expected: "at least one" });
        }
        if self.order_gas.max(self.redeem_gas) > 12_000_000 {
            return Err(ConfigError::Range {
                field: "network.nvm.order_gas, redeem_gas",
                expected: "at most 12000000",
            });
        }
        let plans = self.plans.iter().map(PlanConfig::plan).collect::<Result<Vec<_>, _>>()?;
        Plans::new(plans).map_err(|error| ConfigError::Malformed(format!("network.nvm.plan: {error}")))
    }
}

impl PlanConfig {
    fn plan(&self) -> Result<Plan, ConfigError> {
        let address = |address: EvmAddress| {
            let expected = "addresses in one case, or with the right EIP-55 checksum";
            Address::try_from(address).map_err(|_| ConfigError::Range { field: "network.nvm.plan", expected })
        };
        let (template, credits) = (address(self.template)?, address(self.credits)?);
        let (token, spender) = (address(self.token)?, address(self.spender)?);
        let calls = if self.pay_as_you_go {
            PlanCalls::pay_as_you_go(template, token, spender)
        } else {
            PlanCalls::fixed(template, credits, token, spender)
        };
        let number = |amount: AtomicAmount| -> U256 { amount.value() };
        Ok(Plan {
            id: self.id,
            credits,
            calls,
            price: number(self.price),
            credits_per_order: number(self.credits_per_order),
            minimum: number(self.minimum),
            maximum: number(self.maximum),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const GOOD: &str = r#"
        ledger = "x402.sqlite"
        [[network]]
        id = "eip155:84532"
        rpc = { env = "RPC" }
        finality = 2
        max_fee_per_gas = 2000000000
        signers = [{ file = "/run/secrets/key" }]
        [network.nvm]
        session_signer = { file = "/run/secrets/session" }
        [[network.nvm.plan]]
        id = "42"
        template = "0x32037D176558Eb02f6980eFA14bde14B0C61d059"
        credits = "0xb2F9bB43F768E0D4ADCa49CE708acbE577bC2d64"
        token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
        spender = "0x47A72d7094c4c5B0566E159579DBD79220A0EA24"
        price = "1000000"
        credits_per_order = "10"
        maximum = "5"
    "#;

    fn nvm(text: &str) -> Result<NvmConfig, ConfigError> {
        Config::parse(text).map(|config| config.networks[0].nvm.clone().unwrap())
    }

    #[test]
    fn a_plan_names_its_contracts_and_everything_is_closed() {
        let config = nvm(GOOD).unwrap();
        assert_eq!(config.policy(), NvmPolicy::default());
        let plans = config.plans().unwrap();
        let plan = plans.find(U256::from(42).into()).unwrap();
        let fixed = PlanCalls::nevermined("0x036CbD53842c5426634e7929541eC2318f3dCF7e".parse().unwrap());
        assert_eq!(plan.calls, fixed);
        assert_eq!((plan.minimum, plan.maximum), (U256::from(1), U256::from(5)));
        let open = nvm(&GOOD.replace("[[network.nvm.plan]]", "undeployed = true\n[[network.nvm.plan]]")).unwrap();
        assert_eq!(open.policy(), NvmPolicy::default().with_kernel_factories());
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let twice = format!("{GOOD}\n{}", GOOD.split_once("[[network.nvm.plan]]").unwrap().1)
            .replace("maximum = \"5\"\n    \n", "maximum = \"5\"\n[[network.nvm.plan]]\n");
        for (text, named) in [
            (GOOD.replace("\"42\"", "\"0x2a\""), "identifier"),
            (GOOD.replace("maximum = \"5\"", "maximum = \"0\""), "at least 1"),
            (GOOD.replace("0xb2F9", "0xB2f9"), "checksum"),
            (GOOD.replace("price =", "prise ="), "prise"),
            (GOOD.replace("[[network.nvm.plan]]", "redeem_gas = 12000001\n[[network.nvm.plan]]"), "redeem_gas"),
            (twice, "found two"),
        ] {
            let error = nvm(&text).and_then(|config| config.plans().map(drop)).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
        }
    }
}
