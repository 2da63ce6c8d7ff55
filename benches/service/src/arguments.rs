//! The command line.

use std::path::PathBuf;

use crate::facilitator::{ALL, Implementation};
use crate::fault::Fallible;

/// The node takes any number of transactions of one account, and the peers send it all they have.
const IN_FLIGHT: &str = "transactions_in_flight = 10000";

pub struct Arguments {
    /// How often each row is run for each implementation.
    pub rounds: usize,
    /// A binary of 17f55ea that is built already.
    pub before: Option<PathBuf>,
    /// A binary of this tree that is built already.
    pub this: Option<PathBuf>,
    /// A line of TOML for the network of this tree's configuration.
    pub network: String,
    pub details: bool,
    pub list: bool,
    only: Vec<Implementation>,
    rows: Vec<String>,
}

impl Arguments {
    pub fn read(words: &[String]) -> Fallible<Self> {
        let mut read = Self {
            rounds: 3,
            before: None,
            this: None,
            network: IN_FLIGHT.to_owned(),
            details: false,
            list: false,
            only: ALL.into(),
            rows: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => read.rounds = value()?.parse()?,
                "--before" => read.before = Some(value()?.into()),
                "--this" => read.this = Some(value()?.into()),
                "--network" => value()?.clone_into(&mut read.network),
                "--only" => read.only = value()?.split(',').map(implementation).collect::<Fallible<_>>()?,
                "--details" => read.details = true,
                "--list" => read.list = true,
                _ if word.starts_with("--") => return Err(format!("{word} is not an option").into()),
                _ => read.rows.push(word.clone()),
            }
        }
        Ok(read)
    }

    /// Whether a row is run.
    pub fn chooses(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|word| row.starts_with(word.as_str()))
    }

    /// Whether an implementation is measured.
    pub fn measures(&self, implementation: Implementation) -> bool {
        self.only.contains(&implementation)
    }
}

fn implementation(word: &str) -> Fallible<Implementation> {
    let found = ALL.into_iter().find(|one| one.word() == word);
    found.ok_or_else(|| format!("--only: {word} is none of before, this, x402-rs, polled, r402").into())
}
