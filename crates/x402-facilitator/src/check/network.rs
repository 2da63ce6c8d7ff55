//! The check of a network: its node, its signers' balances, its tokens and the contracts that the configuration needs.

use alloy_primitives::utils::format_ether;
use alloy_primitives::{Address, U256};
use x402_evm::batching::MULTICALL3;
use x402_evm::chain::{At, BatchRead, Head, ReadChain, ReadFunds, RpcChain};
use x402_evm::token_trial::Trial;
use x402_types::Fault;

use super::{CheckReport, Finding};
use crate::clock::now;
use crate::config::NetworkConfig;
use crate::configured::network;
use crate::mechanisms::{Evm, TokenTrial, gas_of_a_payment};

/// A signer whose balance pays for fewer payments than this should be funded.
const FEW_PAYMENTS: u64 = 100;
/// The age of a node's newest block, in seconds, from which on it lags.
const LAGS: u64 = 60;

/// Checks one network. If its node does not answer, nothing else of it is checked.
pub(super) async fn check(config: &NetworkConfig, report: &mut CheckReport) {
    let id = config.id;
    let evm = match network(config) {
        Ok(evm) => evm,
        Err(error) => return report.add(Finding::problem(id, error, "put the secret where the file expects it")),
    };
    let advice = "check the node's URL, its key and its quota";
    // The first endpoint answers all that follows.
    let [first, further @ ..] = &*evm.clients else { return };
    for (number, client) in (2_usize..).zip(further) {
        let (further, subject) = (RpcChain::new(client.clone(), id, evm.finality), format!("{id} node {number}"));
        if let Err(fault) = node(&further, &subject, report).await {
            report.add(Finding::problem(subject, fault, advice));
        }
    }
    let chain = RpcChain::new(first.clone(), id, evm.finality);
    evm.signers.iter().for_each(|signer| chain.watch_funds(signer.address()));
    let subject = format!("{id} node");
    let head = match node(&chain, &subject, report).await {
        Ok(head) => head,
        Err(fault) => return report.add(Finding::problem(subject, fault, advice)),
    };
    price(&chain, head, config, report);
    for signer in &evm.signers {
        balance(&chain, signer.address(), head, report);
    }
    tokens(&chain, &evm, report).await;
    contracts(&chain, &evm, config, report).await;
}

async fn node(chain: &RpcChain, subject: &str, report: &mut CheckReport) -> Result<Head, Fault> {
    chain.check_network().await?;
    for peculiarity in chain.peculiarities(now()).await? {
        let advice = "another node is better, docs/operations.md, The node";
        report.add(Finding::warning(subject, peculiarity, advice));
    }
    let head = chain.poll().await?;
    let age = now().0.saturating_sub(head.timestamp);
    let found = format!("block {}, {age} s old", head.number);
    report.add(match age {
        0..=LAGS => Finding::ok(subject, found),
        _ => Finding::warning(subject, found, "check that the node follows the chain, and this machine's clock"),
    });
    Ok(head)
}

fn price(chain: &RpcChain, head: Head, config: &NetworkConfig, report: &mut CheckReport) {
    let (now, cap) = (head.base_fee.saturating_add(head.tip), u128::from(config.max_fee_per_gas));
    let subject = format!("{} fee", chain.network());
    let found = format!("gas costs {now} wei; max_fee_per_gas is {cap}");
    report.add(match now {
        _ if now > cap => Finding::problem(subject, found, "raise max_fee_per_gas: no transaction would be mined"),
        _ if now.saturating_mul(2) > cap => Finding::warning(subject, found, "raise max_fee_per_gas: fees may double"),
        _ => Finding::ok(subject, found),
    });
}

fn balance(chain: &RpcChain, signer: Address, head: Head, report: &mut CheckReport) {
    let subject = format!("{} signer {signer}", chain.network());
    let Some(funds) = chain.funds(signer) else {
        return report.add(Finding::warning(subject, "the node does not report its balance", "watch it elsewhere"));
    };
    let price = head.base_fee.saturating_add(head.tip).max(1);
    let each = U256::from(price).saturating_mul(U256::from(gas_of_a_payment()));
    let payments = funds.balance.checked_div(each).unwrap_or_default();
    let found = format!("{} coins, for about {payments} payments at this price", format_ether(funds.balance));
    let advice =
        format_args!("send at least {} coins to {signer}", format_ether(each.saturating_mul(U256::from(FEW_PAYMENTS))));
    report.add(match payments {
        _ if payments.is_zero() => Finding::problem(subject, found, advice),
        _ if payments < U256::from(FEW_PAYMENTS) => Finding::warning(subject, found, advice),
        _ => Finding::ok(subject, found),
    });
}

async fn tokens(chain: &RpcChain, evm: &Evm, report: &mut CheckReport) {
    let trials = TokenTrial::all(evm);
    if trials.is_empty() {
        let advice = "add a [[network.asset]], or set default_assets = true where the network has a default token";
        report.add(Finding::problem(format_args!("{} tokens", evm.network), "none", advice));
    }
    for trial in &trials {
        let subject = format!("{} token {} {}", evm.network, trial.name(), trial.address());
        let tried = trial.run(chain).await;
        report.add(match tried {
            Ok(Trial::Good) => {
                Finding::ok(subject, "a simulated payment moves the signed amount, and its logs prove it")
            }
            Ok(Trial::Unfit(why)) => Finding::problem(subject, why, "remove it: its payments could not be settled"),
            Ok(Trial::WithoutLogs) => {
                let found = "a simulated payment moves the signed amount; the node does not show its logs";
                Finding::warning(subject, found, "make one small payment before you rely on it")
            }
            Ok(Trial::Untried(why)) => Finding::warning(subject, why, "make one small payment before you rely on it"),
            Ok(other) => Finding::warning(subject, format_args!("{other:?}"), "make one small payment first"),
            Err(fault) => Finding::problem(subject, fault, "try again"),
        });
    }
}

/// Checks that each contract that the configuration relies on has code.
async fn contracts(chain: &RpcChain, evm: &Evm, config: &NetworkConfig, report: &mut CheckReport) {
    let mut needed: Vec<(Address, &str, State)> = Vec::new();
    let optional = evm.optional_contracts();
    needed.extend(optional.into_iter().map(|of| (of.address, of.name, State::Optional(of.without, of.advice))));
    needed.extend(config.batching.iter().map(|_| (MULTICALL3, "Multicall3, for batching", State::Required)));
    needed.extend(evm.factories.iter().map(|address| (*address, "a factory", State::Required)));
    let reads = needed.iter().fold(BatchRead::new(), |reads, (address, ..)| reads.code_size(*address));
    let sizes = match chain.run(&reads, At::Latest).await {
        Ok(answers) => answers.sizes,
        Err(fault) => {
            let subject = format_args!("{} contracts", evm.network);
            return report.add(Finding::problem(subject, fault, "check the node: it must answer eth_call"));
        }
    };
    for ((address, name, state), size) in needed.into_iter().zip(sizes) {
        let subject = format!("{} {name} {address}", evm.network);
        report.add(match (size, state) {
            (1.., _) => Finding::ok(subject, "it is there"),
            (0, State::Required) => Finding::problem(subject, "no contract", "remove it from the configuration"),
            (0, State::Optional(without, advice)) => Finding::warning(subject, without, advice),
        });
    }
}

/// Whether the facilitator works without a contract.
enum State {
    Required,
    /// The facilitator works without it: the consequence, and the advice.
    Optional(&'static str, &'static str),
}
