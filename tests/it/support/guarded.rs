//! A service that asks its callers who they are, and callers who say so.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use reservd::rpc::pb::{
    diagnostics_service_client::DiagnosticsServiceClient, event_service_client::EventServiceClient,
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

/// A service with tokens, and beside it one without on the same database, which looks at the books.
pub struct Guarded {
    pub server: TestServer,
    pub issuer: Issuer,
    pub folder: TempFolder,
    books: TestServer,
}

/// Puts a token into each call.
#[derive(Clone)]
pub struct Bearer(AsciiMetadataValue);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Wire = InterceptedService<Channel, Bearer>;

/// A caller with a token.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
}

impl Client {
    pub fn new(channel: Channel, token: &str) -> Self {
        let bearer = format!("Bearer {token}").parse().expect("a header's value");
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

    pub fn waitlist(&self) -> WaitlistServiceClient<Wire> {
        WaitlistServiceClient::new(self.wire())
    }

    pub fn sessions(&self) -> SessionServiceClient<Wire> {
        SessionServiceClient::new(self.wire())
    }

    pub fn diagnostics(&self) -> DiagnosticsServiceClient<Wire> {
        DiagnosticsServiceClient::new(self.wire())
    }

    /// Calls the method at `path` with `message`, bytes as they are.
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

    /// With these settings besides those of its tokens.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let (books, issuer, folder) = (TestServer::start().await, Issuer::new(), TempFolder::new());
        let jwks = folder.file("jwks.json", issuer.jwks().to_string());
        let mut all = vec![("auth.jwks", jwks.as_str()), ("auth.issuer", ISSUER), ("auth.audience", AUDIENCE)];
        all.extend(settings);
        let server = books.twin_with(&all).await;
        Self { server, issuer, folder, books }
    }

    /// Another server with the same keys on the same database, with these settings.
    pub async fn twin_with(&self, settings: &[(&str, &str)]) -> TestServer {
        let jwks = self.folder.path("jwks.json").display().to_string();
        let mut all = vec![("auth.jwks", jwks.as_str()), ("auth.issuer", ISSUER), ("auth.audience", AUDIENCE)];
        all.extend(settings);
        self.books.twin_with(&all).await
    }

    /// A caller with this token.
    pub fn with_token(&self, token: &str) -> Client {
        Client::new(self.server.channel(), token)
    }

    /// A caller of this name with these roles.
    pub fn caller(&self, subject: &str, roles: &[&str]) -> Client {
        self.with_token(&self.issuer.token(subject, roles))
    }

    /// The user of this name.
    pub fn user(&self, user_id: &str) -> Client {
        self.caller(user_id, &["user"])
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Client {
        self.caller(name, &["service"])
    }

    /// An open event, made by nobody in particular.
    pub async fn event(&self, event_id: &str, capacity: i32) {
        self.books.event(event_id, capacity).await;
    }

    /// The service without tokens on the same database.
    pub const fn unguarded(&self) -> &TestServer {
        &self.books
    }

    pub async fn check_and_stop(self) {
        self.server.app.stop().await;
        self.books.check_and_stop().await;
    }
}

/// A web server that has one document, and counts how often it is asked for it.
#[derive(Clone)]
pub struct Web {
    pub address: SocketAddr,
    document: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Web {
    pub async fn serve(document: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let web = Self { address, document: Arc::new(Mutex::new(Some(document.into()))), asked: Arc::default() };
        let served = web.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                served.asked.fetch_add(1, Ordering::SeqCst);
                let document = served.document.lock().expect("nobody panics with it").clone();
                let answer = match document {
                    Some(text) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()),
                    None => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        web
    }

    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Has another document from now on; none: it fails.
    pub fn set(&self, document: Option<&str>) {
        *self.document.lock().expect("nobody panics with it") = document.map(str::to_owned);
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
