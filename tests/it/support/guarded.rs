//! A server with authentication, and its clients.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use reservd::rpc::pb::{
    caller_service_client::CallerServiceClient, diagnostics::diagnostics_service_client::DiagnosticsServiceClient,
    event_service_client::EventServiceClient, feed_service_client::FeedServiceClient,
    reservation_service_client::ReservationServiceClient, session_service_client::SessionServiceClient,
    waitlist_service_client::WaitlistServiceClient,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    TestServer,
    issuer::{AUDIENCE, ISSUER, Issuer},
    process::TempFolder,
    raw::raw_call_with,
};

/// A server with authentication, and another one without on the same database, which checks the invariants.
pub struct Guarded {
    pub server: TestServer,
    pub issuer: Issuer,
    pub folder: TempFolder,
    unguarded: TestServer,
}

/// Adds a token to each call.
#[derive(Clone)]
pub struct Bearer(AsciiMetadataValue);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Wire = InterceptedService<Channel, Bearer>;

/// A client with a token.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
}

impl Client {
    pub fn new(channel: Channel, token: &str) -> Self {
        let bearer = format!("Bearer {token}").parse().expect("a header value");
        Self { channel, bearer: Bearer(bearer) }
    }

    fn wire(&self) -> Wire {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    pub fn events(&self) -> EventServiceClient<Wire> {
        EventServiceClient::new(self.wire())
    }

    pub fn reservations(&self) -> ReservationServiceClient<Wire> {
        ReservationServiceClient::new(self.wire())
    }

    pub fn feed(&self) -> FeedServiceClient<Wire> {
        FeedServiceClient::new(self.wire())
    }

    pub fn callers(&self) -> CallerServiceClient<Wire> {
        CallerServiceClient::new(self.wire())
    }

    pub fn waitlist(&self) -> WaitlistServiceClient<Wire> {
        WaitlistServiceClient::new(self.wire())
    }

    pub fn sessions(&self) -> SessionServiceClient<Wire> {
        SessionServiceClient::new(self.wire())
    }

    pub fn diagnostics(&self) -> DiagnosticsServiceClient<Wire> {
        DiagnosticsServiceClient::new(self.wire())
    }

    /// Calls the method at `path` with an encoded message.
    pub async fn raw(&self, path: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.0.clone());
        raw_call_with(self.channel.clone(), path, request).await
    }
}

impl Guarded {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these settings in addition to those of its tokens.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let (unguarded, issuer, folder) = (TestServer::start().await, Issuer::new(), TempFolder::new());
        let jwks = folder.file("jwks.json", issuer.jwks().to_string());
        let mut all = vec![("auth.jwks", jwks.as_str()), ("auth.issuer", ISSUER), ("auth.audience", AUDIENCE)];
        all.extend(settings);
        let server = unguarded.twin_with(&all).await;
        Self { server, issuer, folder, unguarded }
    }

    /// Another server with the same keys on the same database, with these settings.
    pub async fn twin_with(&self, settings: &[(&str, &str)]) -> TestServer {
        let jwks = self.folder.path("jwks.json").display().to_string();
        let mut all = vec![("auth.jwks", jwks.as_str()), ("auth.issuer", ISSUER), ("auth.audience", AUDIENCE)];
        all.extend(settings);
        self.unguarded.twin_with(&all).await
    }

    /// A client with this token.
    pub fn with_token(&self, token: &str) -> Client {
        Client::new(self.server.channel(), token)
    }

    /// A client with this subject and these roles.
    pub fn caller(&self, subject: &str, roles: &[&str]) -> Client {
        self.with_token(&self.issuer.token(subject, roles))
    }

    /// A client with the role user.
    pub fn user(&self, user_id: &str) -> Client {
        self.caller(user_id, &["user"])
    }

    /// A client with the role service.
    pub fn service(&self, name: &str) -> Client {
        self.caller(name, &["service"])
    }

    /// Creates an open event.
    pub async fn event(&self, event_id: &str, capacity: i32) {
        self.unguarded.event(event_id, capacity).await;
    }

    /// The server without authentication on the same database.
    pub const fn unguarded(&self) -> &TestServer {
        &self.unguarded
    }

    pub async fn check_and_stop(self) {
        self.server.app.stop().await;
        self.unguarded.check_and_stop().await;
    }
}

/// A web server with one document, which counts its requests.
#[derive(Clone)]
pub struct Web {
    pub address: SocketAddr,
    document: Arc<Mutex<Option<String>>>,
    requests: Arc<AtomicUsize>,
}

impl Web {
    pub async fn serve(document: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let web = Self { address, document: Arc::new(Mutex::new(Some(document.into()))), requests: Arc::default() };
        let served = web.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                served.requests.fetch_add(1, Ordering::SeqCst);
                let document = served.document.lock().expect("not poisoned").clone();
                let response = match document {
                    Some(text) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()),
                    None => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(response.as_bytes()).await;
            }
        });
        web
    }

    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Replaces the document; none: requests fail.
    pub fn set(&self, document: Option<&str>) {
        *self.document.lock().expect("not poisoned") = document.map(str::to_owned);
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
