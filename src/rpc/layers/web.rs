//! Browsers: gRPC-Web, and CORS for the pages of some origins. A page of another origin may send nothing but a
//! preflight, and what it gets tells its browser to stop.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode, Version,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer, ServiceBuilder, util::option_layer};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{
    drain_body,
    middleware::{Answer, Inner, Middleware, Response, layer},
};
use crate::config::Web;

/// How long a browser may remember the answer to a preflight.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The only gRPC-Web that is served. The other, `grpc-web-text`, is the same in base64: a copy of each answer, which is
/// not known to be read when its bytes are.
const BINARY: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"application/grpc-web-text";

const EXPLANATION: &str = "reservd serves gRPC over HTTP/2, and gRPC-Web (application/grpc-web+proto). It does not \
                           serve web pages, JSON or application/grpc-web-text.\n";

/// Lets pages of the allowed origins call by gRPC-Web. Without any origin it does nothing.
pub fn web<S: Inner>(settings: &Web) -> impl Layer<S, Service = impl Inner + use<S>> + use<S> {
    option_layer((!settings.allowed_origins.is_empty()).then(|| {
        ServiceBuilder::new().layer(cors(settings)).layer(layer(GrpcOnly)).layer(GrpcWebLayer::new()).into_inner()
    }))
}

fn cors(settings: &Web) -> CorsLayer {
    let origins = match settings.allows_any() {
        true => AllowOrigin::any(),
        // The settings are checked: each is a header's value.
        false => {
            AllowOrigin::list(settings.allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
        }
    };
    let sent = ["grpc-timeout", "x-grpc-web", "x-user-agent", "traceparent", "tracestate", "connect-protocol-version"];
    let read = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST])
        .allow_headers(
            [CONTENT_TYPE, AUTHORIZATION].into_iter().chain(sent.map(HeaderName::from_static)).collect::<Vec<_>>(),
        )
        .expose_headers(read.map(HeaderName::from_static))
        .max_age(MAX_AGE)
}

/// Answers with a sentence what is neither gRPC nor gRPC-Web in its binary form.
struct GrpcOnly;

impl Middleware for GrpcOnly {
    fn call<S: Inner>(self: &Arc<Self>, inner: &mut S, request: Request<Body>) -> Answer {
        let begins = |name, with: &[u8]| request.headers().get(name).is_some_and(|it| it.as_bytes().starts_with(with));
        let is_text = begins(CONTENT_TYPE, TEXT) || begins(ACCEPT, TEXT);
        let is_served = begins(CONTENT_TYPE, BINARY) || request.version() == Version::HTTP_2;
        if is_text || !is_served {
            drain_body::drain(request.into_body());
            return Box::pin(async { Ok(explanation()) });
        }
        Box::pin(inner.call(request))
    }
}

fn explanation() -> Response {
    let mut response = Response::new(Body::new(Full::new(Bytes::from_static(EXPLANATION.as_bytes()))));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
