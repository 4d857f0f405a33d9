//! What it costs to ask callers who they are: the same load on two servers alike, of which one takes
//! tokens and the other asks nobody.

use std::path::Path;

use http::HeaderValue;
use serde_json::json;

use super::{
    pick::Picker,
    run::Run,
    scenario::{Scenario, Shape},
    stage::{self, Stage},
};
use crate::{
    auth::{clock, dev_keys::DevKeys},
    cli::Failure,
};

const OPEN: &str = "reservd_bench_open";
const GUARDED: &str = "reservd_bench_guarded";
/// Longer than any benchmark.
const TOKEN_SECONDS: i64 = 12 * 3600;

/// A token for everything, and what a server is started with that takes it.
fn token(keys: &Path) -> Result<(HeaderValue, Vec<String>), Failure> {
    let now = clock::now();
    let token = DevKeys::in_folder(keys)?.sign(&json!({
        "iss": "reservd-bench", "aud": "reservd", "sub": "bench", "roles": ["admin", "service"],
        "nbf": now, "exp": now + TOKEN_SECONDS,
    }));
    // Not marked as sensitive: as with most gRPC clients, a connection's table of headers then knows it
    // after the first call.
    let bearer = HeaderValue::try_from(format!("Bearer {token}"))?;
    let settings = [format!("auth.jwks={}", keys.join("jwks.json").display()), "auth.issuer=reservd-bench".into()];
    Ok((bearer, settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()))
}

impl Run<'_> {
    /// Measures with and without, by turns.
    pub(super) async fn authentication(&mut self, keys: &Path) -> Result<(), Failure> {
        if !self.plan.authentication {
            return Ok(());
        }
        let (bearer, settings) = token(keys)?;
        let database = stage::database(self.embedded, OPEN, false).await?;
        let mut open = Stage::start(self.embedded, database, self.arguments).await?;
        let database = stage::database(self.embedded, GUARDED, false).await?;
        let arguments = [self.arguments, &settings].concat();
        let mut guarded = Stage::start(self.embedded, database, &arguments).await?.with_bearer(bearer);
        for stage in [&mut open, &mut guarded] {
            stage.create_events(1, false).await?;
            stage.note_versions().await?;
        }
        for round in 1..=self.plan.rounds {
            for step in self.plan.authentication_round(round) {
                let stage = if step.scenario == Scenario::Guarded { &mut guarded } else { &mut open };
                self.measure(stage, step, round, Picker::new(Shape::Hot, 1)).await?;
            }
        }
        self.close(open, vec![0, 1]).await?;
        self.close(guarded, vec![0, 1]).await
    }
}
