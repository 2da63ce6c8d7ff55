//! One payment is one response.

use crate::stage::Stage;
use crate::upstream::Upstream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_requests_with_one_payment_one_is_served() {
    let upstream = Upstream::start();
    let stage = Stage::new("parallel", &upstream.url, &[]).await;
    let payment = stage.payment("/report").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let requests = (0..200).map(|_| {
        let request = client.get(stage.url("/report")).header("payment-signature", &payment);
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    });
    let mut served = 0;
    for request in requests.collect::<Vec<_>>() {
        match request.await.unwrap() {
            200 => served += 1,
            // Used, or in use by a request that is not answered yet.
            status => assert!(matches!(status, 402 | 409), "{status}"),
        }
    }
    assert_eq!((served, stage.paid(), upstream.requests("/report").len()), (1, 1, 1));
}
