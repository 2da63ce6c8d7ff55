//! The names of all metrics. A name and its labels never change their meaning.

use super::{Family, Kind};

macro_rules! families {
    ($($(#[$meta:meta])* $id:ident = $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        $($(#[$meta])* pub static $id: Family = Family { name: $name, kind: $kind, help: $help, labels: &[$($label),*] };)*
        /// Every family, in the order of the exported text.
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
}

/// The bounds of answers to requests, in milliseconds.
const ANSWERS: Kind = Kind::Seconds(&[5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000]);
/// The bounds of a payment's time from its claim to its answer, in milliseconds.
const PAYMENTS: Kind = Kind::Seconds(&[1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 300_000, 3_600_000]);

families! {
    /// The answers by route and status.
    REQUESTS = Kind::Counter, "x402_requests_total", ["route", "status"], "Answers by route and HTTP status.";
    /// The time to each answer.
    REQUEST_SECONDS = ANSWERS, "x402_request_seconds", ["route"], "Time from a request to its answer.";
    /// The payments that were refused before a row was written.
    REFUSED = Kind::Counter, "x402_refused_total", ["network", "scheme", "reason"], "Payments refused at verify or settle.";
    /// The payments that were claimed.
    CLAIMED = Kind::Counter, "x402_claimed_total", ["network", "scheme", "caller"], "Payments whose settlement began.";
    /// The payments that have their answer.
    ANSWERED = Kind::Counter, "x402_answered_total", ["network", "scheme", "result"], "Payments by their end: settled or failed.";
    /// The time from a payment's claim to its answer.
    PAYMENT_SECONDS = PAYMENTS, "x402_payment_seconds", ["network"], "Time from a payment's claim to its answer.";
    /// The settled value.
    SETTLED_VALUE = Kind::Counter, "x402_settled_atomic_total", ["network", "asset"], "Settled value in atomic units of the token.";
    /// The signed transactions that were stored.
    ATTEMPTS = Kind::Counter, "x402_attempts_total", ["lane", "kind"], "Signed transactions: first, or replacement at a higher fee.";
    /// The transactions that a node accepted.
    SENT = Kind::Counter, "x402_sent_total", ["lane"], "Transactions that a node accepted, repetitions included.";
    /// The steps of the machine that failed and are tried again.
    FAULTS = Kind::Counter, "x402_faults_total", ["during", "kind"], "Failed steps of the settlement machine by kind of fault.";
    /// The gas of settled payments.
    GAS_SPENT = Kind::Counter, "x402_gas_wei_total", ["network", "asset"], "Wei paid for the transactions of settled payments.";
    /// The settled payments whose gas is unknown.
    GAS_UNKNOWN = Kind::Counter, "x402_gas_unknown_total", ["network"], "Settled payments whose transaction's cost could not be read.";
    /// The calls to nodes.
    RPC_CALLS = Kind::Counter, "x402_rpc_calls_total", ["network", "method"], "JSON-RPC calls to nodes.";
    /// The calls to nodes that failed.
    RPC_ERRORS = Kind::Counter, "x402_rpc_errors_total", ["network", "method", "kind"], "JSON-RPC calls that failed, by kind of error.";
    /// The commits of the ledger.
    COMMITS = Kind::Counter, "x402_ledger_commits_total", ["result"], "Commits of the ledger: stored, conflict or fault.";
    /// The results of webhooks.
    WEBHOOKS = Kind::Counter, "x402_webhooks_total", ["result"], "Webhooks that were delivered, failed and will be sent again, or were given up.";
    /// The webhooks that wait.
    WEBHOOKS_WAITING = Kind::Gauge, "x402_webhooks_waiting", [], "Ends of payments that a target is still to be told.";
    /// The open payments.
    OPEN = Kind::Gauge, "x402_open_payments", ["lane", "state"], "Payments without an answer by state of their last step.";
    /// The age of the oldest open payment.
    OLDEST = Kind::Gauge, "x402_oldest_payment_seconds", ["lane", "state"], "Age of the oldest payment without an answer.";
    /// The slots whose nonce is not used yet.
    SLOTS = Kind::Gauge, "x402_open_slots", ["lane"], "Account nonces taken by transactions that are not final.";
    /// The age of the oldest open slot.
    OLDEST_SLOT = Kind::Gauge, "x402_oldest_slot_seconds", ["lane"], "Age of the oldest of these nonces.";
    /// The signed transactions in open slots.
    SLOT_ATTEMPTS = Kind::Gauge, "x402_open_slot_attempts", ["lane"], "Signed transactions in open slots, replacements included.";
    /// The next account nonce of each lane.
    NEXT_NONCE = Kind::Gauge, "x402_lane_next_nonce", ["lane"], "The first account nonce that was never taken.";
    /// The balance of each signer.
    BALANCE = Kind::Gauge, "x402_signer_balance_wei", ["lane"], "The signer's balance in the newest polled block.";
    /// The state of each signer.
    SHORT = Kind::Gauge, "x402_signer_short", ["lane"], "1 if the signer cannot pay for a transaction.";
    /// The signers below their low-water mark.
    LOW = Kind::Gauge, "x402_signer_low", ["lane"], "1 if the signer can pay and has less than the low-water mark.";
    /// The rest of each budget.
    BUDGET_LEFT = Kind::Gauge, "x402_budget_left", ["network", "asset", "per", "of"], "What is left of this day's budgets, in atomic units or wei: the lines with the least.";
    /// The kill switch.
    PAUSED = Kind::Gauge, "x402_paused", [], "1 while no new payments are taken.";
    /// The quarantine after a restore.
    QUARANTINED = Kind::Gauge, "x402_quarantined", [], "1 while payments without a nonce on a chain are refused after a restore.";
    /// The age of each network's head.
    HEAD_AGE = Kind::Gauge, "x402_head_age_seconds", ["network"], "Age of the newest block seen.";
    /// The age of the last commit.
    COMMIT_AGE = Kind::Gauge, "x402_commit_age_seconds", [], "Time since the ledger's database last took a write.";
    /// The state of the ledger.
    LEDGER_UP = Kind::Gauge, "x402_ledger_up", [], "1 if the ledger can be read and written.";
}
