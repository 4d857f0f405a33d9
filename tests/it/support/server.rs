//! A server on its own database, and its clients.

use std::collections::HashMap;

use reservd::{
    app::App,
    config::Config,
    rpc::pb::{
        self, caller_service_client::CallerServiceClient,
        diagnostics::diagnostics_service_client::DiagnosticsServiceClient, event_service_client::EventServiceClient,
        feed_service_client::FeedServiceClient, reservation_service_client::ReservationServiceClient,
        waitlist_service_client::WaitlistServiceClient,
    },
};
use sqlx::PgConnection;
use tonic::transport::Channel;

use super::TestDatabase;

/// A server in this process, with real gRPC, on its own database.
pub struct TestServer {
    pub app: App,
    pub database: TestDatabase,
    channel: Channel,
}

impl TestServer {
    /// With the default settings.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these settings.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        Self::on(TestDatabase::new().await, settings).await
    }

    /// On this database, which servers may share.
    pub async fn on(database: TestDatabase, settings: &[(&str, &str)]) -> Self {
        let app = App::start(&config(&database, settings)).await.expect("the service starts");
        let channel = connect(&app).await;
        database.serves(app.metrics());
        Self { app, database, channel }
    }

    /// Another server on the same database.
    pub async fn twin(&self) -> Self {
        self.twin_with(&[]).await
    }

    /// Another server on the same database, with these settings.
    pub async fn twin_with(&self, settings: &[(&str, &str)]) -> Self {
        Self::on(self.database.clone(), settings).await
    }

    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }

    pub fn reservations(&self) -> ReservationServiceClient<Channel> {
        ReservationServiceClient::new(self.channel.clone())
    }

    pub fn feed(&self) -> FeedServiceClient<Channel> {
        FeedServiceClient::new(self.channel.clone())
    }

    pub fn callers(&self) -> CallerServiceClient<Channel> {
        CallerServiceClient::new(self.channel.clone())
    }

    pub fn waitlist(&self) -> WaitlistServiceClient<Channel> {
        WaitlistServiceClient::new(self.channel.clone())
    }

    pub fn diagnostics(&self) -> DiagnosticsServiceClient<Channel> {
        DiagnosticsServiceClient::new(self.channel.clone())
    }

    /// The channel that the clients share.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A connection with flow-control windows of 64 KiB.
    pub async fn narrow_channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.app.address)).expect("a valid URL");
        let narrow = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
        narrow.connect().await.expect("a connection to the server")
    }

    /// A database connection of the test.
    pub async fn sql(&self) -> PgConnection {
        self.database.connect().await
    }

    /// Creates an open event with this capacity.
    pub async fn event(&self, event_id: &str, capacity: i32) -> pb::Event {
        self.event_with(pb::Event { event_id: event_id.into(), capacity, ..Default::default() }).await
    }

    /// Creates an open event.
    pub async fn event_with(&self, event: pb::Event) -> pb::Event {
        let request = pb::CreateEventRequest { event: Some(event), ..Default::default() };
        let created = self.events().create_event(request).await.expect("the event is created");
        created.into_inner().event.expect("the response has it")
    }

    /// The current event, with its counters as recorded: as it is in a change.
    pub async fn get_event(&self, event_id: &str) -> pb::Event {
        let request = pb::GetEventRequest { event_id: event_id.into() };
        let found = self.events().get_event(request).await.expect("the event exists").into_inner();
        let mut event = found.event.expect("the response has it");
        let counts = event.counts.as_mut().expect("it has them");
        counts.available -= counts.lapsed.take().expect("it is looked at");
        event
    }

    /// The value of a metric's sample, named as in the text format; zero if it does not exist.
    pub async fn metric(&self, sample: &str) -> f64 {
        let text = String::from_utf8(self.app.metrics().render()).expect("metrics are text");
        let found = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(0.0)
    }

    /// Checks the invariants of every event, and stops the server. Every test ends with this.
    pub async fn check_and_stop(self) {
        self.check().await;
        self.app.stop().await;
    }

    /// Checks the invariants of every event, by VerifyEvent and by SQL of the test.
    pub async fn check(&self) {
        let mut sql = self.sql().await;
        let ids: Vec<String> = sqlx::query_scalar("SELECT event_id FROM events WHERE state <> 'DELETED'")
            .fetch_all(&mut sql)
            .await
            .expect("events can be read");
        for event_id in ids {
            let verified = self.events().verify_event(pb::VerifyEventRequest { event_id: event_id.clone() }).await;
            let audit = verified.expect("an event can be verified").into_inner();
            assert!(audit.ok, "{event_id}: {:?}", audit.problems);
        }
        let wrong: Vec<String> = sqlx::query_scalar(
            "SELECT e.event_id FROM events e LEFT JOIN reservations r USING (event_id)
              GROUP BY e.event_id
             HAVING e.held <> COALESCE(sum(r.quantity) FILTER (WHERE r.state = 'HELD'), 0)
                 OR e.confirmed <> COALESCE(sum(r.quantity) FILTER (WHERE r.state = 'CONFIRMED'), 0)
                 OR e.held + e.confirmed > e.capacity
                 OR e.waiting <> (SELECT count(*) FROM waitlist w WHERE w.event_id = e.event_id AND w.state = 'WAITING')
                 OR e.version <> (SELECT count(*) FROM changes c WHERE c.event_id = e.event_id)",
        )
        .fetch_all(&mut sql)
        .await
        .expect("the events can be summed up");
        assert_eq!(wrong, Vec::<String>::new(), "events with wrong counters");
    }
}

/// The settings for a server on this database, with free ports.
pub fn config(database: &TestDatabase, settings: &[(&str, &str)]) -> Config {
    let mut all: HashMap<&str, &str> = HashMap::from([
        ("server.listen", "127.0.0.1:0"),
        ("server.metrics_listen", "127.0.0.1:0"),
        ("database.url", database.url.as_str()),
        ("database.max_connections", "16"),
        ("diagnostics.concurrency_test", "true"),
    ]);
    all.extend(settings.iter().copied());
    let flags = all.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Config::load(None, &flags).expect("the settings are valid")
}

async fn connect(app: &App) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", app.address)).expect("a valid URL");
    endpoint.connect().await.expect("a connection to the server")
}
