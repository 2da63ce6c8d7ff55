//! A facilitator behind one that does not answer.

use crate::stage::{Process, Stage, x402_sell};
use crate::upstream::Upstream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_further_facilitator_settles_what_the_first_cannot() {
    let upstream = Upstream::start();
    let stage = Stage::new("precedence", &upstream.url, &[]).await;
    let grants = stage.folder.0.join("others.sqlite").to_str().unwrap().to_owned();
    let hosted = format!("hosted={}", stage.facilitator.url());
    let dead = ["--facilitator", "http://127.0.0.1:9", "--grants", &grants, "--further", &hosted];
    let sell = Process::start(&mut x402_sell(&upstream.url, &dead));
    let url = format!("{}/report", sell.url);
    let payment = crate::stage::payment(&url, None).await;
    let response = crate::stage::request(&url, &[("payment-signature", &payment)]).await.unwrap();
    assert_eq!((response.status().as_u16(), stage.paid()), (200, 1));
    assert!(response.headers().contains_key("payment-response"));
}

#[test]
fn a_name_that_cannot_be_stored_is_refused_at_start() {
    for (further, words) in
        [("a b=http://127.0.0.1:9", "name"), ("hosted=ftp://127.0.0.1", "address"), ("hosted", "NAME=URL")]
    {
        let output = x402_sell("http://127.0.0.1:9", &["--further", further, "--dry-run"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words), "{further}: {said}");
    }
}
