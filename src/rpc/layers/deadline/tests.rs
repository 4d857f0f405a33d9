//! Tests of `deadline`.

use std::convert::Infallible;

use futures::FutureExt;
use tower::{Layer, Service};

use super::*;
use crate::rpc::layers::middleware::{Response, layer};

fn parsed(text: &str) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-timeout", text.parse().expect("a header value"));
    grpc_timeout(&headers)
}

#[tokio::test]
async fn a_deadline_of_no_time_passes_before_any_timer_fires() {
    let never = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response, Infallible>>());
    let deadlines = layer(Deadlines { default: Duration::from_secs(1), max: Duration::from_secs(1) });
    for timeout in ["1n", "1u", "100u"] {
        let request = Request::builder().header("grpc-timeout", timeout).body(Body::empty()).expect("a request");
        let answer = deadlines.layer(never).call(request).now_or_never().expect("it is answered at once");
        let refused = tonic::Status::from_header_map(answer.expect("an answer").headers()).expect("a status");
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded, "{timeout}");
    }
}

#[test]
fn the_header_is_read_as_the_specification_says() {
    for (text, millis) in [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("99999999m", 99_999_999), ("5000u", 5)] {
        assert_eq!(parsed(text), Some(Duration::from_millis(millis)), "{text}");
    }
    assert_eq!(parsed("7n"), Some(Duration::from_nanos(7)));
    for bad in ["", "S", "1", "1s", "-1S", "1.5S", "123456789m", "1 S"] {
        assert_eq!(parsed(bad), None, "{bad:?}");
    }
}
