//! The layers around every call, on a real connection, with a service that panics.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use reservd::{
    net::concurrency_limit::ConcurrencyLimit,
    rpc::{
        layers::{
            admission::{Admission, Gate},
            explain::panicked,
            middleware::layer,
            trace::Trace,
        },
        pb::{GetEventRequest, event_service_client::EventServiceClient},
    },
    telemetry::metrics::Metrics,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Status,
    body::Body,
    server::NamedService,
    transport::{Channel, Server},
};
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;

use crate::support::{assert_refused, reason};

/// Panics when it is called, in the place of EventService.
#[derive(Clone)]
struct Panics;

impl NamedService for Panics {
    const NAME: &'static str = "reservd.v1.EventService";
}

impl Service<http::Request<Body>> for Panics {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        Box::pin(async { panic!("SELECT a secret FROM the depths") })
    }
}

/// Serves it within the layers of the server, in their order.
async fn serve(gate: Arc<Gate>, metrics: Arc<Metrics>) -> EventServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address: SocketAddr = listener.local_addr().expect("it is bound");
    let layers = ServiceBuilder::new()
        .layer(layer(Trace::new(Arc::clone(&metrics), &[reservd::rpc::pb::DESCRIPTORS])))
        .map_response(|response: http::Response<_>| response.map(Body::new))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(layer(Admission { limit: ConcurrencyLimit::new(1), gate, metrics }));
    let server = Server::builder().layer(layers).add_service(Panics);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Channel::from_shared(format!("http://{address}")).expect("a valid URL");
    EventServiceClient::new(channel.connect().await.expect("it serves"))
}

async fn call(client: &mut EventServiceClient<Channel>) -> Result<(), Status> {
    client.get_event(GetEventRequest { event_id: "e".into() }).await.map(drop)
}

#[tokio::test]
async fn a_panic_is_internal_reveals_nothing_and_keeps_neither_its_connection_nor_its_permit() {
    let metrics = Arc::new(Metrics::new());
    let gate = Arc::new(Gate::default());
    gate.open();
    let mut client = serve(gate, Arc::clone(&metrics)).await;
    // One call may run at once: a panic that kept the permit would shed the next call.
    for _ in 0..3 {
        let status = assert_refused(call(&mut client).await, Code::Internal, "INTERNAL");
        assert_eq!(status.message(), "an internal error; it has been logged");
    }
    let text = String::from_utf8(metrics.render()).expect("metrics are text");
    let counted = "reservd_rpcs_total{code=\"INTERNAL\",method=\"reservd.v1.EventService/GetEvent\"} 3";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn a_server_that_starts_is_unavailable_and_one_that_stops_answers_draining() {
    let gate = Arc::new(Gate::default());
    let mut client = serve(Arc::clone(&gate), Arc::default()).await;
    assert_refused(call(&mut client).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    gate.open();
    assert_eq!(reason(&call(&mut client).await.expect_err("it panics")), "INTERNAL");
    gate.drain();
    let status = assert_refused(call(&mut client).await, Code::Unavailable, "DRAINING");
    assert!(tonic_types::StatusExt::get_details_retry_info(&status).is_some());
}
