//! TLS: versions, client certificates, and files that change.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SanType,
};
use reservd::rpc::pb::{self, event_service_client::EventServiceClient};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version::{TLS12, TLS13},
    },
};
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use crate::support::{
    Client, Guarded, TestServer, assert_refused, eventually,
    http2::{PREFACE, SETTINGS, frame},
    metadata, reserve, soon,
};

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, name: &str, alternative: SanType, purpose: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(alternative);
        params.extended_key_usages.push(purpose);
        self.sign_as(params)
    }

    fn sign_as(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The certificate of a server on this machine.
    fn server(&self) -> Pair {
        let localhost = SanType::DnsName("localhost".try_into().expect("a name"));
        self.sign("reservd", localhost, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The certificate of a client with this SPIFFE id.
    fn client(&self, id: &str) -> Pair {
        let id = SanType::URI(id.try_into().expect("ASCII"));
        self.sign("a client", id, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The certificate of the shop with this serial number, valid until then, in seconds since 1970.
    pub fn shop(&self, serial: u64, not_after: i64) -> Pair {
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial.into());
        params.not_after = OffsetDateTime::from_unix_timestamp(not_after).expect("a time");
        params.subject_alt_names.push(SanType::URI(SHOP.try_into().expect("ASCII")));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self.sign_as(params)
    }

    /// The certificate of a client with two SPIFFE ids.
    fn ambiguous(&self) -> Pair {
        let mut params = CertificateParams::default();
        for id in [SHOP, "spiffe://example.org/other"] {
            params.subject_alt_names.push(SanType::URI(id.try_into().expect("ASCII")));
        }
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self.sign_as(params)
    }

    /// Its list of revoked certificates, by serial number.
    pub fn revocations(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: OffsetDateTime::UNIX_EPOCH,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: OffsetDateTime::UNIX_EPOCH,
            next_update: OffsetDateTime::from_unix_timestamp(4_000_000_000).expect("a time"),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).expect("it may sign lists").pem().expect("PEM")
    }
}

pub const SHOP: &str = "spiffe://example.org/shop";

/// A server with TLS.
pub struct Secured {
    pub guarded: Guarded,
    pub authority: Authority,
}

impl Secured {
    /// With these settings in addition to its certificate. The value CLIENT_CA stands for a file with its authority,
    /// and CLIENT_CRL for one with that authority's list, on which is no certificate.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let (guarded, authority) = (Guarded::start().await, Authority::new("reservd tests"));
        let mut secured = Self { guarded, authority };
        let pair = secured.authority.server();
        let folder = &secured.guarded.folder;
        let (certificate, key) = (folder.file("server.pem", pair.certificate), folder.file("server.key", pair.key));
        let jwks = folder.path("jwks.json").display().to_string();
        let client_ca = folder.file("clients.pem", secured.authority.pem());
        let mut all = vec![
            ("tls.certificate", certificate.as_str()),
            ("tls.key", key.as_str()),
            ("tls.reload_interval", "20ms"),
            ("auth.jwks", jwks.as_str()),
            ("auth.issuer", crate::support::issuer::ISSUER),
            ("auth.audience", crate::support::issuer::AUDIENCE),
        ];
        let client_crl = folder.file("revoked.pem", secured.authority.revocations(&[]));
        all.extend(settings.iter().map(|(key, value)| match *value {
            "CLIENT_CA" => (*key, client_ca.as_str()),
            "CLIENT_CRL" => (*key, client_crl.as_str()),
            value => (*key, value),
        }));
        let server = secured.guarded.unguarded().twin_with(&all).await;
        std::mem::replace(&mut secured.guarded.server, server).app.stop().await;
        secured
    }

    pub fn address(&self) -> SocketAddr {
        self.guarded.server.app.address
    }

    /// A connection that trusts this authority, with this certificate.
    pub async fn connect(
        &self,
        authority: &Authority,
        client: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("localhost");
        if let Some(client) = client {
            tls = tls.identity(Identity::from_pem(&client.certificate, &client.key));
        }
        let endpoint = Channel::from_shared(format!("https://{}", self.address())).expect("a URL");
        endpoint.tls_config(tls).expect("certificates").connect().await
    }

    pub async fn check_and_stop(self) {
        self.guarded.check_and_stop().await;
    }
}

fn list() -> pb::ListEventsRequest {
    pb::ListEventsRequest::default()
}

/// The client's side of TLS of these versions, with this certificate.
pub fn client_side(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    client: Option<&Pair>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = authority.pem();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_protocol_versions(versions).expect("versions").with_root_certificates(roots);
    let mut config = match client {
        None => config.with_no_client_auth(),
        Some(Pair { certificate, key }) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            config.with_client_auth_cert(vec![certificate], key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// The negotiated version, if the handshake succeeds.
async fn shake_hands(secured: &Secured, versions: &[&'static SupportedProtocolVersion]) -> Option<ProtocolVersion> {
    let config = client_side(&secured.authority, versions, None);
    let stream = TcpStream::connect(secured.address()).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(config).connect(name, stream).await.ok()?;
    stream.get_ref().1.protocol_version()
}

#[tokio::test]
async fn only_tls_1_3_and_1_2_are_accepted() {
    let secured = Secured::with(&[]).await;
    assert_eq!(shake_hands(&secured, &[&TLS13]).await, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(shake_hands(&secured, &[&TLS12]).await, Some(ProtocolVersion::TLSv1_2));
    let channel = secured.connect(&secured.authority, None).await.expect("TLS");
    let token = secured.guarded.issuer.token("ann", &["user"]);
    Client::new(channel, &token).events().list_events(list()).await.expect("with a token");
    assert!(
        secured.connect(&Authority::new("another"), None).await.is_err(),
        "a client that trusts others does not stay"
    );
    let plain = Channel::from_shared(format!("http://{}", secured.address())).expect("a URL").connect_lazy();
    let answer = soon("it is refused", EventServiceClient::new(plain).list_events(list())).await;
    assert!(answer.is_err(), "nothing without TLS");
    secured.check_and_stop().await;
}

#[tokio::test]
async fn a_client_certificate_authenticates_its_bearer() {
    let secured = Secured::with(&[
        ("tls.client_ca", "CLIENT_CA"),
        ("auth.certificate_roles", "{\"spiffe://example.org/shop\" = [\"service\"]}"),
    ])
    .await;
    secured.guarded.event("concert", 5).await;
    let shop = secured.connect(&secured.authority, Some(&secured.authority.client(SHOP))).await.expect("TLS");
    let mut reservations = pb::reservation_service_client::ReservationServiceClient::new(shop.clone());
    reservations.reserve(reserve("concert", "ann")).await.expect("a service reserves for anyone");
    let sql = "SELECT actor FROM changes WHERE kind = 'RESERVATION_HELD'";
    let actor: String =
        sqlx::query_scalar(sql).fetch_one(&mut secured.guarded.server.sql().await).await.expect("it was written");
    assert_eq!(actor, format!("certificate:{SHOP}"));

    // Signed by the authority, but without roles.
    let baker = secured.authority.client("spiffe://example.org/baker");
    let baker = secured.connect(&secured.authority, Some(&baker)).await.expect("TLS");
    let denied = EventServiceClient::new(baker).list_events(list()).await;
    assert_refused(denied, Code::PermissionDenied, "ROLE_MISSING");

    // A token takes precedence over the certificate of its connection, for better or worse.
    let ann = Client::new(shop.clone(), &secured.guarded.issuer.token("bob", &["user"]));
    assert_refused(
        ann.reservations().reserve(reserve("concert", "eve")).await,
        Code::PermissionDenied,
        "USER_MISMATCH",
    );
    let bad = Client::new(shop, "a.bad.token").events().list_events(list()).await;
    assert_eq!(metadata(&assert_refused(bad, Code::Unauthenticated, "TOKEN_INVALID"))["problem"], "SHAPE");

    // Without either, a call is denied; with a certificate of another authority, so is the connection.
    let anonymous = secured.connect(&secured.authority, None).await.expect("TLS");
    assert_refused(
        EventServiceClient::new(anonymous).list_events(list()).await,
        Code::Unauthenticated,
        "CREDENTIALS_MISSING",
    );
    assert!(is_kept_out(&secured, Some(&Authority::new("another").client(SHOP))).await);
    secured.check_and_stop().await;
}

/// Whether every call of a client fails. With TLS 1.3 a client learns this only after its own handshake.
pub async fn is_kept_out(secured: &Secured, client: Option<&Pair>) -> bool {
    match secured.connect(&secured.authority, client).await {
        Err(_) => true,
        Ok(channel) => {
            let answer = EventServiceClient::new(channel).list_events(Request::new(list())).await;
            answer.is_err_and(|status| !matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied))
        }
    }
}

#[tokio::test]
async fn a_certificate_with_two_names_is_nobodys() {
    let secured = Secured::with(&[("tls.client_ca", "CLIENT_CA")]).await;
    let channel = secured.connect(&secured.authority, Some(&secured.authority.ambiguous())).await.expect("TLS");
    let answer = EventServiceClient::new(channel).list_events(Request::new(list())).await;
    assert_refused(answer, Code::Unauthenticated, "CERTIFICATE_INVALID");
    secured.check_and_stop().await;
}

#[tokio::test]
async fn a_certificate_can_be_required() {
    let secured = Secured::with(&[("tls.client_ca", "CLIENT_CA"), ("tls.client_certificates", "REQUIRED")]).await;
    assert!(is_kept_out(&secured, None).await);
    let channel = secured.connect(&secured.authority, Some(&secured.authority.client(SHOP))).await.expect("TLS");
    let token = secured.guarded.issuer.token("ann", &["user"]);
    Client::new(channel, &token).events().list_events(list()).await.expect("with both");
    secured.check_and_stop().await;
}

#[tokio::test]
async fn new_files_apply_to_new_connections_and_broken_ones_do_not() {
    let secured = Secured::with(&[]).await;
    let token = secured.guarded.issuer.token("ann", &["user"]);
    let old = Client::new(secured.connect(&secured.authority, None).await.expect("TLS"), &token);
    let folder = &secured.guarded.folder;

    for broken in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        folder.file("server.pem", broken);
        let renewed = Authority::new("renewed");
        let other = renewed.server();
        // A key without its certificate, as in the middle of a renewal.
        folder.file("server.key", &other.key);
        for _ in 0..20 {
            secured.connect(&secured.authority, None).await.expect("the old certificate serves on");
        }
        folder.file("server.pem", &other.certificate);
        eventually("the new certificate serves", async || secured.connect(&renewed, None).await.is_ok()).await;
        let channel = secured.connect(&renewed, None).await.expect("TLS");
        Client::new(channel, &token).events().list_events(list()).await.expect("served");
        let back = secured.authority.server();
        folder.file("server.pem", &back.certificate);
        folder.file("server.key", &back.key);
        eventually("and the old again", async || secured.connect(&secured.authority, None).await.is_ok()).await;
    }
    old.events().list_events(list()).await.expect("a connection outlives the certificate that it began with");
    secured.check_and_stop().await;
}

#[tokio::test]
async fn a_missing_handshake_times_out() {
    let secured = Secured::with(&[("server.handshake_timeout", "100ms")]).await;
    for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(secured.address()).await.expect("it listens");
        tokio::io::AsyncWriteExt::write_all(&mut stream, said).await.expect("it can be said");
        let mut rest = Vec::new();
        // An end or a reset.
        let _ = soon("the server closes the connection", stream.read_to_end(&mut rest)).await;
    }
    let refused = "reservd_connections_refused_total{why=\"handshake\"}";
    eventually("they were counted", async || secured.guarded.server.metric(refused).await >= 3.0).await;
    assert_eq!(shake_hands(&secured, &[&TLS13]).await, Some(ProtocolVersion::TLSv1_3));
    secured.check_and_stop().await;
}

#[tokio::test]
async fn the_connections_of_an_address_are_limited() {
    let server = TestServer::with(&[("limits.connections_per_address", "4")]).await;
    // One of them is the test's own channel.
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(server.app.address).await.expect("it listens"));
    }
    let mut more = TcpStream::connect(server.app.address).await.expect("the system accepts it");
    let ended = soon("it is closed at once", more.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(server.metric("reservd_connections_refused_total{why=\"too_many_of_address\"}").await >= 1.0);
    drop(open);
    eventually("there is room again", async || {
        let mut stream = TcpStream::connect(server.app.address).await.expect("it listens");
        // An error: a refused connection is closed at once. An accepted one is answered.
        let _ = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0; 1]))
            .await
            .is_ok_and(|read| read.is_ok_and(|n| n > 0))
    })
    .await;
    server.check_and_stop().await;
}
