//! A journal as a file would be.

use std::sync::Mutex;

use async_trait::async_trait;
use x402_http::client::{OpenPayment, PaymentJournal};
use x402_types::Fault;

/// Rows that outlive the payers that use them.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) rows: Mutex<Vec<OpenPayment>>,
    pub(crate) broken: bool,
}

#[async_trait]
impl PaymentJournal for Book {
    async fn write(&self, payment: &OpenPayment) -> Result<(), Fault> {
        if self.broken {
            return Err(Fault::store("disk full"));
        }
        let mut rows = self.rows.lock().unwrap();
        rows.retain(|row| row.id != payment.id);
        rows.push(payment.clone());
        Ok(())
    }

    async fn find(&self, purchase: &str) -> Result<Vec<OpenPayment>, Fault> {
        let rows = self.rows.lock().unwrap();
        // As text, which is what a file has.
        let texts = rows.iter().filter(|row| row.purchase == purchase).map(|row| serde_json::to_string(row).unwrap());
        Ok(texts.map(|text| serde_json::from_str(&text).unwrap()).collect())
    }

    async fn remove(&self, id: &str) -> Result<(), Fault> {
        self.rows.lock().unwrap().retain(|row| row.id != id);
        Ok(())
    }
}
