//! The listener of the operator's port. A port that is taken is tried again and again, and payments go on.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::backoff;

/// The operator's port, which is served until it is dropped.
#[derive(Debug)]
pub struct AdminPort {
    task: JoinHandle<()>,
    bound: watch::Receiver<Option<SocketAddr>>,
}

/// The first pause after the port was not free.
const FIRST: Duration = Duration::from_millis(250);

impl AdminPort {
    /// Serves these routes. If the port is taken, it is tried again at growing intervals, up to 30 s.
    #[must_use]
    pub fn start(listen: SocketAddr, routes: Router) -> Self {
        let (found, bound) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut failures = 0_u32;
            loop {
                let error = match TcpListener::bind(listen).await {
                    Ok(listener) => {
                        found.send_replace(listener.local_addr().ok());
                        failures = 0;
                        match axum::serve(listener, routes.clone()).await {
                            Ok(()) => return,
                            Err(error) => error,
                        }
                    }
                    Err(error) => error,
                };
                failures = failures.saturating_add(1);
                tracing::error!(place = %listen, %error, failures, "the operator's port cannot be served; payments go on");
                tokio::time::sleep(backoff::rest(FIRST, failures)).await;
            }
        });
        Self { task, bound }
    }

    /// Returns the address on which it listens, if it does.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        *self.bound.borrow()
    }

    /// Waits until it listens, at most for this time, and returns the address.
    pub async fn listening(&mut self, most: Duration) -> Option<SocketAddr> {
        let bound = tokio::time::timeout(most, self.bound.wait_for(Option::is_some)).await;
        bound.ok().and_then(Result::ok).and_then(|address| *address)
    }
}

impl Drop for AdminPort {
    fn drop(&mut self) {
        self.task.abort();
    }
}
